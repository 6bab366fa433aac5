"""Who may sign in, and as what: people with a role and a token each.

As with the endpoint's keys a token is 256 random bits, of which only the sha256 is kept;
`bento.auth` says why that is enough.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from data.digests import write_atomically
from data.errors import EvergreenError
from flows.access import Role

USERS = "keys/users.json"
PREFIX = "evergreen_user_"
# Names under which the installation itself acts.
OURS = ("installation", "monitor", "nobody", "schedule", "service")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class User:
    """What is kept of a person; times are ISO 8601 in UTC. Who was revoked stays on record."""

    name: str
    role: Role
    sha256: str
    created: str
    revoked: str | None = None


Users = tuple[User, ...]


def add(users: Users, name: str, role: Role, at: datetime) -> tuple[Users, str]:
    """All users with one more, and the token.

    Raises:
        EvergreenError: if the name cannot be one, or is taken; the first one has to be an approver,
            who may add others.
    """
    if not _NAME.fullmatch(name) or name.lower() in OURS:
        raise EvergreenError(
            f"{name!r} is no name for a user: use up to 63 letters, digits, '_', '.' and '-', and "
            f"none of {', '.join(OURS)}"
        )
    if same := [user.name for user in active(users) if user.name.lower() == name.lower()]:
        raise EvergreenError(
            f"{same[0]} has a token: for another one, or another role, "
            f"`evergreen users revoke {same[0]}` first"
        )
    if role is not Role.APPROVER and not _approvers(users):
        raise EvergreenError("the first user has to be an approver, who may add the others")
    token = PREFIX + secrets.token_urlsafe(32)
    made = User(name, role, _sha256(token), at.isoformat(timespec="seconds"))
    return (*users, made), token


def revoke(users: Users, name: str, at: datetime) -> Users:
    """All users, of whom one may sign in no more.

    Raises:
        EvergreenError: if there is no such user, or nobody could add users any more.
    """
    found = [user for user in active(users) if user.name == name]
    if not found:
        raise EvergreenError(
            f"no user who could be revoked is called {name!r}: `evergreen users list`"
        )
    if _approvers(users) == found:
        raise EvergreenError(f"{name} is the only approver: add another one first")
    back = replace(found[0], revoked=at.isoformat(timespec="seconds"))
    return tuple(back if user is found[0] else user for user in users)


def find(users: Users, token: str, name: str = "") -> User | None:
    """Whose token it is.

    Args:
        name: who they say they are, if they say so.
    """
    sought = _sha256(token)
    found = [user for user in active(users) if secrets.compare_digest(user.sha256, sought)]
    return found[0] if found and name in ("", found[0].name) else None


def active(users: Users) -> list[User]:
    """Those who may sign in."""
    return [user for user in users if user.revoked is None]


def _approvers(users: Users) -> list[User]:
    return [user for user in active(users) if user.role is Role.APPROVER]


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def load(root: Path) -> Users:
    """The users of an installation; none if none was ever added.

    Raises:
        EvergreenError: if the file is not one of users.
    """
    path = root / USERS
    try:
        entries = json.loads(path.read_bytes())
        return tuple(User(**{**entry, "role": Role(entry["role"])}) for entry in entries)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EvergreenError(
            f"{path} holds no users ({error!r}): restore it; without it nobody can be let in"
        ) from error


def exist(root: Path) -> bool:
    """Whether anybody was ever added; where that may not be looked at, somebody was."""
    try:
        return (root / USERS).exists()
    except PermissionError:
        return True


def save(root: Path, users: Users) -> None:
    write_atomically(root / USERS, json.dumps(list(map(asdict, users)), indent=2), mode=0o600)


@contextmanager
def one_writer(root: Path) -> Iterator[None]:
    """Held from `load` to `save`.

    Raises:
        EvergreenError: if another command changes users for more than ten seconds.
    """
    path = (root / USERS).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(path, timeout=10):
            yield
    except Timeout as error:
        raise EvergreenError("another command is changing users: try again") from error
