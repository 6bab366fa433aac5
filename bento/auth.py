"""Keys of the endpoint: who may ask it, and for what.

A key is 256 random bits, and only its sha256 is kept. Slow and salted hashes make guessing dear
where people choose passwords; nobody guesses 256 bits, and a hash that costs nothing keeps no
gateway busy. HAProxy looks the hash up in a tree of strings, whose timing may tell how far a
guess's hash agrees with a stored one: who asks chooses the key and not its hash, and even a whole
hash leads to no key.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from data.digests import write_atomically
from data.errors import EvergreenError

Scope = Literal["predict", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEYS, INSTALLATION = "keys/api.json", "keys/installation.key"
PREFIX = "evergreen_"
MOST = 2
ID_LENGTH = 12
FOREVER = 253402300799  # the end of the year 9999
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key; times are ISO 8601 in UTC.

    Attributes:
        sha256: of the key; its first characters name it in lists.
        expires: from then on it opens nothing; None for never.
        revoked: when it was taken back; such a key is kept, so that keys stay on.
    """

    name: str
    scope: Scope
    sha256: str
    created: str
    expires: str | None = None
    revoked: str | None = None

    @property
    def id(self) -> str:
        return self.sha256[:ID_LENGTH]

    def state(self, at: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked is not None:
            return "revoked"
        over = self.expires is not None and datetime.fromisoformat(self.expires) <= at
        return "expired" if over else "active"


Keys = tuple[ApiKey, ...]


def create(
    keys: Keys, name: str, scope: Scope, at: datetime, expires: datetime | None = None
) -> tuple[Keys, ApiKey, str]:
    """A first key for a name: all keys with it, what is kept of it, and the key itself.

    Raises:
        EvergreenError: if the name cannot be one, or has a key.
    """
    if not _NAME.fullmatch(name) or _ID.fullmatch(name) or name == "installation":
        raise EvergreenError(
            f"{name!r} is no name for a key: use up to 63 of a-z, 0-9, '_', '.', '-' (not "
            f"`installation`, and nothing that looks like the id of a key)"
        )
    if _active(keys, name, at):
        raise EvergreenError(f"{name} has a key: `evergreen keys rotate {name}` makes the next one")
    return _add(keys, name, scope, at, expires)


def rotate(
    keys: Keys, name: str, at: datetime, expires: datetime | None = None
) -> tuple[Keys, ApiKey, str]:
    """A second key for a name, beside the one that its clients still use.

    Raises:
        EvergreenError: if the name has no active key, or two.
    """
    active = _active(keys, name, at)
    if not active:
        raise EvergreenError(
            f"{name} has no active key: `evergreen keys create {name} --scope ...` makes one"
        )
    if len(active) >= MOST:
        ids = " and ".join(key.id for key in active)
        raise EvergreenError(
            f"{name} has {MOST} active keys ({ids}): revoke the older one with "
            f"`evergreen keys revoke {active[0].id}` first"
        )
    return _add(keys, name, active[-1].scope, at, expires)


def revoke(keys: Keys, which: str, at: datetime) -> tuple[Keys, Keys]:
    """Take back a key by its id, or all of a name: all keys then, and those taken back.

    Raises:
        EvergreenError: if nothing is called so, or it is revoked already.
    """
    found = [key for key in keys if which in (key.id, key.name) and key.revoked is None]
    if not found:
        raise EvergreenError(
            f"no key that could be revoked is called {which}: `evergreen keys list` shows all"
        )
    back = {key.sha256: replace(key, revoked=at.isoformat(timespec="seconds")) for key in found}
    return tuple(back.get(key.sha256, key) for key in keys), tuple(back.values())


def _active(keys: Keys, name: str, at: datetime) -> list[ApiKey]:
    return [key for key in keys if key.name == name and key.state(at) == "active"]


def _add(
    keys: Keys, name: str, scope: Scope, at: datetime, expires: datetime | None
) -> tuple[Keys, ApiKey, str]:
    secret = PREFIX + secrets.token_urlsafe(32)
    until = None if expires is None else expires.isoformat(timespec="seconds")
    made = ApiKey(name, scope, _sha256(secret), at.isoformat(timespec="seconds"), until)
    return (*keys, made), made, secret


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def load(folder: Path) -> Keys:
    """The keys of a serving folder; none if none was ever made.

    Raises:
        EvergreenError: if the file is not one of keys.
    """
    path = folder / KEYS
    try:
        keys = tuple(ApiKey(**entry) for entry in json.loads(path.read_bytes()))
        if not all(key.scope in SCOPES and len(key.sha256) == 64 for key in keys):
            raise ValueError("an entry is no key")
        return keys
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise EvergreenError(
            f"{path} holds no keys ({error}): restore it; without it nobody could be let in"
        ) from error


def save(folder: Path, keys: Keys) -> None:
    text = json.dumps([asdict(key) for key in keys], indent=2)
    write_atomically(folder / KEYS, text, mode=0o600)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Held from `load` to `save`.

    Raises:
        EvergreenError: if another command changes keys for more than ten seconds.
    """
    (folder / KEYS).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock((folder / KEYS).with_suffix(".lock"), timeout=10):
            yield
    except Timeout as error:
        raise EvergreenError("another command is changing keys: try again") from error


def renew_installation(folder: Path) -> None:
    """A new key for the installation's own commands: they read it where only its owner can.

    It is made anew at every start of the gateway, so that whoever listened on its port while it was
    down was shown a key that opens nothing any more.
    """
    write_atomically(folder / INSTALLATION, PREFIX + secrets.token_urlsafe(32), mode=0o600)


def installation(folder: Path) -> str | None:
    """The key that this installation's commands send; None before the first start."""
    try:
        return (folder / INSTALLATION).read_text()
    except FileNotFoundError:
        return None


def grants(keys: Sequence[ApiKey], own: str | None) -> dict[str, str]:
    """What the gateway is told: by hash of a key, `scope:expiry:id`; and whether keys are on.

    Args:
        own: the installation's key.
    """
    found = {
        key.sha256: f"{key.scope}:{_epoch(key.expires)}:{key.id}"
        for key in keys
        if key.revoked is None
    }
    if own is not None:
        found[_sha256(own)] = f"admin:{FOREVER}:installation"
    return {"keys": "on" if keys else "off", **found}


def _epoch(expires: str | None) -> int:
    return FOREVER if expires is None else int(datetime.fromisoformat(expires).timestamp())
