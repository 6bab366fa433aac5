"""The list of users: a file on a laptop; of a team one in PostgreSQL, and a copy on each host.

Doors and commands go by the copy, which is brought up to date before every command and every few
seconds while a server runs. A host that does not reach PostgreSQL goes by what it last knew.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from data.errors import EvergreenError
from flows import users
from flows.access import Role
from flows.settings import Settings
from flows.team import Team
from flows.users import User, Users

EVERY = 5.0  # seconds
CHANGING = 0x65766572677573  # of the advisory lock
TABLE = """
CREATE TABLE IF NOT EXISTS evergreen_users (
    seq integer PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    sha256 text NOT NULL,
    created text NOT NULL,
    revoked text
)
"""
IS_THERE = "SELECT to_regclass('evergreen_users') IS NOT NULL"
READ = "SELECT name, role, sha256, created, revoked FROM evergreen_users ORDER BY seq"
WRITE = "INSERT INTO evergreen_users (seq, name, role, sha256, created, revoked) VALUES "
AGAIN = " ON CONFLICT (seq) DO UPDATE SET revoked = EXCLUDED.revoked"


@contextmanager
def one_writer(settings: Settings) -> Iterator[tuple[Users, Callable[[Users], None]]]:
    """All users, and what keeps others in their place; nobody else changes them meanwhile.

    Raises:
        EvergreenError: if another command does for more than ten seconds, or the team's database
            does not answer.
    """
    root = settings.root
    with users.one_writer(root):
        if settings.team is None:
            yield users.load(root), lambda after: users.save(root, after)
            return
        with _alone(settings.team) as session:

            def keep(after: Users) -> None:
                _write(session, after)
                users.save(root, after)

            yield _read(session) or users.load(root), keep


def adopt(settings: Settings) -> None:
    """Whoever signed in on a laptop signs in to its team, if that has no users yet."""
    if settings.team is None or not users.exist(settings.root):
        return
    with one_writer(settings) as (known, keep):
        keep(known)


def refresh(settings: Settings) -> Settings:
    """Bring this host's copy up to date, if it is a team's; the settings that hold then.

    A team without users takes none from a host that has some.
    """
    if settings.team is None:
        return settings
    with suppress(EvergreenError, OSError):
        if _differs(settings, _asked(settings.team)):
            with users.one_writer(settings.root):  # a command may have changed them meanwhile
                users.save(settings.root, _asked(settings.team))
    on = settings.sign_in or users.exist(settings.root)
    return replace(settings, sign_in=on, identities=settings.identities or on)


def follow(settings: Settings) -> None:
    """Keep the copy of a team's host up to date from now on, as long as this process runs."""
    if settings.team is None:
        return

    def often() -> None:
        while True:
            time.sleep(EVERY)
            refresh(settings)

    refresh(settings)
    threading.Thread(target=often, name="users", daemon=True).start()


def _differs(settings: Settings, found: Users) -> bool:
    try:
        return bool(found) and found != users.load(settings.root)
    except EvergreenError:  # a copy that cannot be read
        return True


def _asked(team: Team) -> Users:
    from data.postgres import Postgres

    with Postgres(team.database, team.password).connected("evergreen users") as session:
        return _read(session)


@contextmanager
def _alone(team: Team) -> Iterator[Any]:
    from data.postgres import Error, Postgres, ask, words

    with Postgres(team.database, team.password).connected("evergreen users") as session:
        try:
            ask(session, "SET lock_timeout = '10s'")
            ask(session, "SELECT pg_advisory_lock(%s)", (CHANGING,))
            if not ask(session, IS_THERE)[0][0]:
                ask(session, TABLE)
            yield session
        except Error as error:
            raise EvergreenError(
                f"{team.database}: the users were not changed: {words(error)}"
            ) from error


def _read(session: Any) -> Users:
    from data.postgres import Error, ask, words

    try:
        if not ask(session, IS_THERE)[0][0]:
            return ()
        rows = ask(session, READ)
        return tuple(User(name, Role(role), *rest) for name, role, *rest in rows)
    except (Error, ValueError) as error:
        raise EvergreenError(f"the team's users cannot be read: {words(error)}") from error


def _write(session: Any, after: Users) -> None:
    """All of them in one statement: nobody is ever taken out, revoked is all that changes."""
    from data.postgres import ask

    values = [(i, u.name, str(u.role), u.sha256, u.created, u.revoked) for i, u in enumerate(after)]
    places = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(values))
    if values:
        ask(session, WRITE + places + AGAIN, tuple(each for row in values for each in row))
