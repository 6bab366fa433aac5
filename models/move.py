"""MLflow's history from one database to another, row by row: every number, id and date stays.

Runs, metrics, versions, tags and aliases go in one transaction, which ends only if counts and
digests of every table are the same on both sides; where files are kept is written anew.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow.store.model_registry.dbmodels.models
import mlflow.store.tracking.dbmodels.models
import mlflow.store.workspace.dbmodels.models  # noqa: F401  # all tables are known then
import sqlalchemy as sa
from mlflow.store.db.base_sql_model import Base
from mlflow.tracking import MlflowClient

from data.errors import EvergreenError

ROWS = 1000
REVISION = sa.text("SELECT version_num FROM alembic_version")
SEQUENCE = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
Row = dict[str, Any]


@dataclass(frozen=True)
class Moved:
    """What was copied; each table's rows have the same digest on both sides.

    Attributes:
        rows: by table, empty ones left out.
        digest: of all of them.
    """

    rows: Mapping[str, int]
    digest: str

    @property
    def runs(self) -> int:
        return self.rows.get("runs", 0)

    @property
    def versions(self) -> int:
        return self.rows.get("model_versions", 0)


def refuse_if_used(uri: str) -> None:
    """Make MLflow's tables where there are none.

    Raises:
        EvergreenError: if runs or models are there.
    """
    MlflowClient(uri, uri).search_experiments(max_results=1)
    with _connected(uri) as connection:
        found = {
            what: connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            for what, table in (("runs", "runs"), ("models", "registered_models"))
        }
    if any(found.values()):
        said = ", ".join(f"{count} {what}" for what, count in found.items())
        raise EvergreenError(
            f"{_shown(uri)} is not empty ({said}): a history comes into an empty one only, nothing "
            "is merged"
        )


def copy(source: str, target: str, places: Sequence[tuple[str, str]]) -> Moved:
    """Copy everything into an empty target, or nothing.

    Args:
        source, target: addresses of the databases; of the same release of MLflow.
        places: where files were kept, and where the same files are now.

    Raises:
        EvergreenError: if releases, counts or digests differ; the target stays empty then.
    """
    with _connected(source) as old, _connected(target) as new:
        if old.execute(REVISION).scalars().all() != new.execute(REVISION).scalars().all():
            raise EvergreenError(
                f"{_shown(source)} and {_shown(target)} are of two releases of MLflow: `evergreen "
                "up` brings each to this one"
            )
        tables = Base.metadata.sorted_tables
        for table in reversed(tables):  # what MLflow puts into a new database
            new.execute(table.delete())
        rows, digests = {}, []
        for table in tables:
            for chunk in _chunks(old, table, places):
                new.execute(table.insert(), chunk)
            before, after = _summary(old, table, places), _summary(new, table, ())
            if before != after:
                raise EvergreenError(
                    f"table {table.name} differs after the copy ({before[0]} rows, then "
                    f"{after[0]}): nothing was moved"
                )
            rows[table.name] = before[0]
            digests.append(f"{table.name} {before[1]}")
            _continue_numbers(new, table)
        digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Moved({name: count for name, count in rows.items() if count}, digest)


@contextmanager
def _connected(uri: str) -> Iterator[sa.Connection]:
    """One transaction, rolled back by an error."""
    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(error).split())[:300]
        raise EvergreenError(f"{_shown(uri)}: {said}; nothing was moved") from error
    finally:
        engine.dispose()


def _chunks(
    connection: sa.Connection, table: sa.Table, places: Sequence[tuple[str, str]]
) -> Iterator[list[Row]]:
    found = connection.execute(sa.select(*_columns(table))).mappings()
    while part := found.fetchmany(ROWS):
        yield [{name: _placed(value, places) for name, value in row.items()} for row in part]


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if column.computed is None]


def _placed(value: Any, places: Sequence[tuple[str, str]]) -> Any:
    """An address of a file as it is now; everything else as it is."""
    for old, new in places:
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            return new + value.removeprefix(old)
    return value


def _summary(
    connection: sa.Connection, table: sa.Table, places: Sequence[tuple[str, str]]
) -> tuple[int, str]:
    """Number of rows, and one digest for them in any order."""
    count, total = 0, 0
    for part in _chunks(connection, table, places):
        for row in part:
            text = repr(sorted((name, _plain(value)) for name, value in row.items()))
            total += int.from_bytes(hashlib.sha256(text.encode()).digest())
            count += 1
    return count, f"{total % 2**256:064x}"


def _plain(value: Any) -> str:
    """The same text for the same value of both databases."""
    if isinstance(value, bool | int):
        return str(int(value))
    return repr(value)


def _continue_numbers(connection: sa.Connection, table: sa.Table) -> None:
    """The next number that PostgreSQL gives is after those that came with the rows."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        if not isinstance(column.type, sa.Integer):
            continue
        names = {"table": table.name, "column": column.name}
        if (sequence := connection.execute(SEQUENCE, names).scalar()) is None:
            continue
        top = connection.execute(sa.select(sa.func.max(column))).scalar()
        if top:
            connection.execute(sa.text("SELECT setval(:s, :top)"), {"s": sequence, "top": top})


def _shown(uri: str) -> str:
    return sa.make_url(uri).render_as_string(hide_password=True)
