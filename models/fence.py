"""The fence before MLflow's aliases: a host that lost the promotion lock cannot move them.

To ask for the lock and then to write is not enough, because a host may sleep in between while
another one promotes. So each write names the line of the ledger that it follows, and is made in a
transaction of MLflow's own database that is refused once MLflow knows a later line.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from sqlalchemy.dialects.postgresql import insert

from data.errors import EvergreenError
from data.postgres import Postgres
from models.ledger import HEAD, Head

# A host that sleeps in the middle of a transaction must not keep others out for long.
ASLEEP = sa.text("SET LOCAL idle_in_transaction_session_timeout = '20s'")
MODELS: sa.Table = SqlRegisteredModel.__table__
MODEL_TAGS: sa.Table = SqlRegisteredModelTag.__table__


class Writer(Protocol):
    """Those of the methods of MLflow's client by which a promotion is written."""

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None: ...

    def delete_registered_model_alias(self, name: str, alias: str) -> None: ...

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None: ...

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None: ...


@dataclass(frozen=True)
class Fenced:
    """Writes as MLflow's client does, in one transaction."""

    connection: sa.Connection
    workspace: str

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        row = {"name": name, "alias": alias, "version": int(version)}
        self._put(SqlRegisteredModelAlias.__table__, row)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        table = SqlRegisteredModelAlias.__table__
        same = {"workspace": self.workspace, "name": name, "alias": alias}
        self.connection.execute(
            sa.delete(table).where(*(table.c[column] == value for column, value in same.items()))
        )

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self._put(MODEL_TAGS, {"name": name, "key": key, "value": value})

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        row = {"name": name, "version": int(version), "key": key, "value": value}
        self._put(SqlModelVersionTag.__table__, row)

    def _put(self, table: sa.Table, row: Mapping[str, object]) -> None:
        known = [column.name for column in table.primary_key]
        changed = {name: value for name, value in row.items() if name not in known}
        new = insert(table).values(workspace=self.workspace, **row)
        self.connection.execute(new.on_conflict_do_update(index_elements=known, set_=changed))


@contextmanager
def fenced(uri: str, database: Postgres, model: str, head: Head) -> Iterator[Fenced]:
    """One transaction, during which nobody else writes what follows a line about this model.

    Args:
        uri: of MLflow's database.
        database: says how connections are opened.
        head: the line of the ledger that this follows.

    Raises:
        EvergreenError: if MLflow knows a later line, or another one in its place; nothing is moved.
    """
    how = database.arguments("evergreen promotion")
    engine = sa.create_engine(uri, poolclass=sa.NullPool, connect_args=how)
    try:
        with engine.begin() as connection:
            connection.execute(ASLEEP)
            mine = sa.select(MODELS.c.workspace).where(MODELS.c.name == model)
            workspace = connection.execute(mine.with_for_update(key_share=True)).scalar_one()
            _refuse_if_overtaken(connection, model, head)
            yield Fenced(connection, workspace)
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(error.__cause__ or error).split())[:300]
        raise EvergreenError(
            f"MLflow's database: {said}; nothing more is moved by this run: start it again, which "
            "completes what it began"
        ) from error
    finally:
        engine.dispose()


def _refuse_if_overtaken(connection: sa.Connection, model: str, head: Head) -> None:
    seen = sa.select(MODEL_TAGS.c.value).where(MODEL_TAGS.c.name == model, MODEL_TAGS.c.key == HEAD)
    text = connection.execute(seen).scalar()
    known = Head.parse(text) if text else Head()
    if known.seq > head.seq or (known.seq == head.seq and known != head):
        raise EvergreenError(
            f"this run lost the promotion lock: MLflow knows line {known.seq} of the ledger, this "
            f"run is at line {head.seq}; it moves nothing more, `evergreen status` says what serves"
        )
