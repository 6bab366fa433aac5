"""The ledger that several hosts share: its lines are rows of PostgreSQL, and so is the lock.

The lines are those of `models.ledger`, hash by hash. Whoever appends holds an advisory lock on one
connection and writes on that same connection: where the lock is lost, so is the way to write. Two
lines after the same one cannot both be there. Every host keeps a copy of what it has seen in its
home; a table that does not go on from the copy was written anew, and nothing is decided on it.
"""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.digests import write_atomically
from data.errors import EvergreenError
from data.postgres import Error, Postgres, ask, words
from models.fence import Writer, fenced
from models.ledger import IDLE_SECONDS, LOCK_SECONDS, Entry, Head, Ledger, parse
from models.tracking import Tracking

WAITED = "55P03"  # lock_not_available
TABLE = """
CREATE TABLE IF NOT EXISTS evergreen_ledger (
    problem text NOT NULL,
    seq integer NOT NULL,
    previous text NOT NULL,
    line text NOT NULL,
    PRIMARY KEY (problem, seq),
    UNIQUE (problem, previous)
);
CREATE OR REPLACE FUNCTION evergreen_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is only appended to'; END $$;
CREATE OR REPLACE TRIGGER evergreen_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON evergreen_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION evergreen_append_only();
"""
READ = "SELECT line FROM evergreen_ledger WHERE problem = %s ORDER BY seq"
WRITE = "INSERT INTO evergreen_ledger (problem, seq, previous, line) VALUES (%s, %s, %s, %s)"
HOLDER = """
SELECT activity.application_name FROM pg_locks AS locks JOIN pg_stat_activity AS activity
USING (pid) WHERE locks.locktype = 'advisory' AND locks.granted
AND (locks.classid::bigint << 32 | locks.objid::bigint) = %s
"""


@dataclass(frozen=True)
class SharedLedger(Ledger):
    """A ledger in PostgreSQL.

    Attributes:
        path: this host's copy.
        problem: of several that share the table; empty for that of params.yaml.
        session: the connection that holds the lock; None outside of `held`.
    """

    database: Postgres
    problem: str = ""
    session: Any = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> str:
        return f"{self.database.url}, table evergreen_ledger"

    def read(self) -> list[Entry]:
        """All lines, oldest first; they go on from this host's copy.

        Raises:
            EvergreenError: as for a file, or if database and copy differ.
        """
        lines = self._lines()[0]
        entries = parse(lines, self.place)
        self._check_copy(lines)
        return entries

    def copies(self) -> str:
        """How far this host's copy goes, which is as the table as far as it goes."""
        mine = len(Ledger._lines(self)[0])
        return f"; in PostgreSQL, and the first {mine} in this host's copy"

    @contextmanager
    def held(
        self, lock: Path, seconds: float = LOCK_SECONDS, idle: float = IDLE_SECONDS
    ) -> Iterator["SharedLedger"]:
        """The same ledger, to be appended to; nobody else on any host holds it meanwhile.

        A holder that dies, whose connection does, or that hangs, holds it no more.

        Raises:
            EvergreenError: if another run has it for longer than that, or PostgreSQL is away.
        """
        with self.database.connected(f"evergreen {socket.gethostname()} {os.getpid()}") as session:
            try:
                ask(session, f"SET lock_timeout = {int(seconds * 1000)}")
                ask(session, f"SET idle_session_timeout = {int(idle * 1000)}")
                ask(session, "SELECT pg_advisory_lock(%s)", (self._key,))
            except Error as error:
                if getattr(error, "pgcode", None) != WAITED:
                    raise _lost(error) from error
                raise EvergreenError(
                    f"the promotion lock is held for over {seconds:g} s by {self._holder()}: "
                    "another run is promoting"
                ) from error
            yield replace(self, session=session)

    @contextmanager
    def fenced(self, tracking: Tracking, head: Head) -> Iterator[Writer]:
        """What writes to MLflow that which follows from the line `head`, as a whole.

        Raises:
            EvergreenError: if the lock is another host's by now, whenever it was lost.
        """
        self._ask("SELECT 1")
        with fenced(tracking.uri, self.database, tracking.model, head) as writer:
            yield writer

    def adopt(self, lines: list[bytes]) -> None:
        """Fill the empty table with the lines of a file, all or none.

        Raises:
            EvergreenError: if others are there.
        """
        there = self._lines()[0]
        if there and there != lines:
            raise EvergreenError(
                f"{self.place} is not empty ({len(there)} lines): a history comes into an empty "
                "one only, nothing is merged"
            )
        entries = parse(lines, str(self.path))
        values = [v for e in entries for v in (self.problem, e.seq, e.previous, e.line)]
        if values and not there:
            row = WRITE.partition("VALUES ")[2]
            self._ask(WRITE + f", {row}" * (len(entries) - 1), tuple(values))

    def _write(self, entry: Entry, before: list[bytes]) -> None:
        self._check_copy(before)
        values = (self.problem, entry.seq, entry.previous, entry.line)
        self._ask(WRITE, values)
        write_atomically(self.path, b"".join(b + b"\n" for b in [*before, entry.line.encode()]))

    def _lines(self) -> tuple[list[bytes], bytes]:
        if self.session is None:
            with self.database.connected("evergreen ledger") as session:
                return replace(self, session=session)._lines()
        return [str(line).encode() for (line,) in self._ask(READ, (self.problem,))], b""

    def _check_copy(self, lines: list[bytes]) -> None:
        mine = Ledger._lines(self)[0]
        if lines[: len(mine)] == mine:
            return
        same = next((i for i, pair in enumerate(zip(mine, lines, strict=False)) if
                     pair[0] != pair[1]), min(len(mine), len(lines)))  # fmt: skip
        raise EvergreenError(
            f"{self.place} does not go on from what this host has seen: {self.path} has "
            f"{len(mine)} lines, the database {len(lines)}, and line {same + 1} differs. A "
            "laptop's history comes with `evergreen migrate --to team`; otherwise restore one of "
            "them from a backup"
        )

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if self.session is None:
            raise EvergreenError("the ledger is appended to under its lock only")
        try:
            return ask(self.session, query, values)
        except Error as error:
            raise _lost(error) from error

    @property
    def _key(self) -> int:
        """Of the advisory lock: 64 bits with sign."""
        digest = hashlib.sha256(f"evergreen promotion {self.problem}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)

    def _holder(self) -> str:
        found = self.database.rows("evergreen", HOLDER, (self._key,))
        return found[0][0] if found else "somebody who has just let go"


def _lost(error: Exception) -> EvergreenError:
    code = getattr(error, "pgcode", None)
    if code == "42P01":
        return EvergreenError("the database has no ledger yet: `evergreen up` makes it")
    if code == "23505":
        return EvergreenError("another host wrote this line of the ledger first: judge again")
    return EvergreenError(
        f"PostgreSQL: {words(error)}; nothing more is moved by this run: start it again, which "
        "completes what it began"
    )
