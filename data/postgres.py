"""Connections to PostgreSQL, each used for one thing and closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2  # type: ignore[import-untyped]

from data import keepalive
from data.errors import EvergreenError

Error = psycopg2.Error


@dataclass(frozen=True)
class Postgres:
    """One database.

    Attributes:
        url: `postgresql://USER@HOST:PORT/NAME`, without a password.
        silence: seconds after which a host that vanished without a word is given up, and its
            locks are free.
    """

    url: str
    password: str = field(default="", repr=False)
    silence: int = keepalive.SILENCE

    @contextmanager
    def connected(self, purpose: str) -> Iterator[Any]:
        """A connection on which each statement is a transaction; closed at the end.

        Args:
            purpose: shown in `pg_stat_activity`.

        Raises:
            EvergreenError: if the database cannot be reached.
        """
        try:
            connection = psycopg2.connect(self.url, **self.arguments(purpose))
        except psycopg2.OperationalError as error:
            raise EvergreenError(
                f"PostgreSQL does not open {self.url}: {words(error)}; bring it up (EVERGREEN_"
                "DATABASE_URL names it, PGPASSWORD its password), then try again"
            ) from error
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()

    def arguments(self, purpose: str) -> dict[str, Any]:
        """How every connection is opened, to this database and to those beside it."""
        watched = " ".join(f"-c {k}={v}" for k, v in keepalive.server(self.silence).items())
        how = {"password": self.password} if self.password else {}
        told = {"application_name": purpose[:60], "options": watched}
        return {**how, **told, **keepalive.client(self.silence)}

    def rows(self, purpose: str, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query answers, on a connection of its own."""
        with self.connected(purpose) as connection:
            return ask(connection, query, values)


def ask(connection: Any, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Run one statement; its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall()) if cursor.description else []


def words(error: Exception) -> str:
    """An error of the server as one line."""
    return " ".join(str(error).split()) or type(error).__name__
