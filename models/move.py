"""MLflow's history from one database to another, row by row: versions, ids, dates and tags stay.

Runs, metrics, versions, tags and aliases go in one transaction, which ends only if counts and
digests of every table are those of both sides together; where files are kept is written anew. Only
experiments have new numbers, where other problems have theirs already.
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

USED = ("runs", "registered_models")
ROWS, DIGESTS = 1000, 2**256
REVISION = sa.text("SELECT version_num FROM alembic_version")
ALONE = sa.text("LOCK TABLE experiments IN EXCLUSIVE MODE")
SEQUENCE = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
Row = dict[str, Any]


@dataclass(frozen=True)
class Moved:
    """What was copied; each table's rows have the same digest before and after.

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


@dataclass(frozen=True)
class _Change:
    """What is another one on the other side.

    Attributes:
        places: where files were kept, and where the same files are now.
        shift: what is added to the number of an experiment.
        there: names of workspaces that are there already; none where nothing else is.
    """

    places: Sequence[tuple[str, str]] = ()
    shift: int = 0
    there: frozenset[str] = frozenset()

    def row(self, table: str, row: Row) -> Row | None:
        """A row as it is on the other side; None if the same is there: MLflow's own first ones."""
        first = table == "experiments" and row["experiment_id"] == 0
        if (self.there and first) or (table == "workspaces" and row["name"] in self.there):
            return None
        changed = {name: _placed(value, self.places) for name, value in row.items()}
        if changed.get("experiment_id"):
            changed["experiment_id"] += self.shift
        return changed


def refuse_if_used(uri: str, model: str) -> None:
    """Make MLflow's tables where there are none.

    Raises:
        EvergreenError: if runs or versions of this model are there.
    """
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(model)
    runs = client.search_runs([experiment.experiment_id], max_results=1) if experiment else []
    models = client.search_registered_models(f"name='{model}'")
    if runs or models:
        raise EvergreenError(
            f"{_shown(uri)} has runs or versions of {model} already: a history comes to where it "
            "has none, nothing is merged"
        )
    if experiment:
        raise EvergreenError(
            f"{_shown(uri)} has an experiment {model} without runs, whose name is needed: rename it"
        )


def copy(source: str, target: str, places: Sequence[tuple[str, str]]) -> Moved:
    """Copy everything beside what other problems have, or nothing.

    Args:
        source, target: addresses of the databases; of the same release of MLflow.
        places: where files were kept, and where the same files are now.

    Raises:
        EvergreenError: if releases, counts or digests differ, or the target has the same already;
            it stays as it was then.
    """
    with _connected(source) as old, _connected(target) as new:
        if new.dialect.name == "postgresql":
            new.execute(ALONE)
        if old.execute(REVISION).scalars().all() != new.execute(REVISION).scalars().all():
            raise EvergreenError(
                f"{_shown(source)} and {_shown(target)} are of two releases of MLflow: `evergreen "
                "up` brings each to this one"
            )
        tables = Base.metadata.sorted_tables
        change = _beside(new, tables, places)
        rows, digests = {}, []
        for table in tables:
            there, moved = _summary(new, table, _Change()), _summary(old, table, change)
            for chunk in _chunks(old, table, change):
                new.execute(table.insert(), chunk)
            after = _summary(new, table, _Change())
            if after != (there[0] + moved[0], (there[1] + moved[1]) % DIGESTS):
                raise EvergreenError(
                    f"table {table.name} differs after the copy ({there[0]} rows and {moved[0]}, "
                    f"then {after[0]}): nothing was moved"
                )
            rows[table.name] = moved[0]
            digests.append(f"{table.name} {moved[1]:064x}")
            _continue_numbers(new, table)
        digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Moved({name: count for name, count in rows.items() if count}, digest)


def _beside(
    new: sa.Connection, tables: Sequence[sa.Table], places: Sequence[tuple[str, str]]
) -> _Change:
    """How rows come in beside those of others; out of an empty one MLflow's own first ones go."""
    known = {table.name: table for table in tables}
    top = new.execute(sa.select(sa.func.max(known["experiments"].c.experiment_id))).scalar() or 0
    used = (new.execute(sa.select(known[name]).limit(1)).first() for name in USED)
    if top or any(used):
        names = new.execute(sa.select(known["workspaces"].c.name)).scalars()
        return _Change(places, top, frozenset(names))
    for table in reversed(tables):
        new.execute(table.delete())
    return _Change(places)


@contextmanager
def _connected(uri: str) -> Iterator[sa.Connection]:
    """One transaction, rolled back by an error."""
    of_one_moment = {"isolation_level": "REPEATABLE READ"} if uri.startswith("postgresql") else {}
    engine = sa.create_engine(uri, poolclass=sa.NullPool, **of_one_moment)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(error).split())[:300]
        raise EvergreenError(f"{_shown(uri)}: {said}; nothing was moved") from error
    finally:
        engine.dispose()


def _chunks(connection: sa.Connection, table: sa.Table, change: _Change) -> Iterator[list[Row]]:
    found = connection.execute(sa.select(*_columns(table))).mappings()
    while part := found.fetchmany(ROWS):
        if rows := [row for row in (change.row(table.name, dict(row)) for row in part) if row]:
            yield rows


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if column.computed is None]


def _placed(value: Any, places: Sequence[tuple[str, str]]) -> Any:
    """An address of a file as it is now; everything else as it is."""
    for old, new in places:
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            return new + value.removeprefix(old)
    return value


def _summary(connection: sa.Connection, table: sa.Table, change: _Change) -> tuple[int, int]:
    """Number of rows, and one digest for them in any order; those of two sets add up."""
    count, total = 0, 0
    for part in _chunks(connection, table, change):
        for row in part:
            text = repr(sorted((name, _plain(value)) for name, value in row.items()))
            total += int.from_bytes(hashlib.sha256(text.encode()).digest())
            count += 1
    return count, total % DIGESTS


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
