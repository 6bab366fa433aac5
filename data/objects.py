"""DVC's objects by their md5, hashed on every read: the cache first, then the default remote.

DVC trusts an object by its size, its time and its mode. Here only the bytes count: an object of the
cache that is damaged or missing is replaced by the remote's, if that one is sound.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dvc.exceptions import DvcException

from data.digests import md5_file
from data.errors import EvergreenError

State = Literal["sound", "damaged", "missing"]


class UnsoundError(EvergreenError):
    """No copy of an object is sound."""


@dataclass(frozen=True)
class Objects:
    """The object stores of one repository, named by md5 (a folder's ends in `.dir`).

    Attributes:
        cache: DVC's local store.
        remote: DVC's store at the default remote; None if there is none.
        remote_name: how DVC's configuration calls it.
        mended: damaged objects of the cache that were replaced when they were read.
    """

    cache: Any
    remote: Any
    remote_name: str
    mended: list[str] = field(default_factory=list)

    def state(self, md5: str) -> State:
        """What the cache has of it, by hashing."""
        return _state(self._cached(md5), md5)

    def path(self, md5: str) -> Path:
        """A sound file of the cache, fetched from the remote if it has to be.

        Raises:
            UnsoundError: if neither has it whole, naming both.
        """
        path = self._cached(md5)
        if (here := _state(path, md5)) == "sound":
            return path
        if (there := self._download(md5, path)) == "sound":
            if here == "damaged":
                self.mended.append(md5)
            return path
        raise UnsoundError(f"{path} is {here}, and {self._at_remote(md5)} is {there}")

    def put(self, md5: str, source: Path) -> None:
        """Make a sound file the cache's object."""
        path = self._cached(md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        shutil.copyfile(source, temporary)
        _settle(temporary, path)

    def push(self, md5: str, *, check: bool = False) -> bool:
        """Copy an object to the remote; False if it has it already.

        Args:
            md5: the object.
            check: hash what the remote has, where otherwise its name is enough.

        Raises:
            EvergreenError: if there is no default remote, or it refuses.
            UnsoundError: if no copy is whole.
        """
        if self.remote is None:
            raise EvergreenError("no default remote: set one with `dvc remote add --default`")
        try:
            if self.remote.exists(md5) and (not check or self._remote_state(md5) == "sound"):
                return False
            self.remote.add(str(self.path(md5)), self.cache.fs, md5, check_exists=False)
        except (OSError, DvcException) as error:
            raise EvergreenError(f"remote {self.remote_name!r} refused {md5}: {error}") from error
        return True

    def _cached(self, md5: str) -> Path:
        return Path(self.cache.oid_to_path(md5))

    def _at_remote(self, md5: str) -> str:
        if self.remote is None:
            return "the default remote, which is not set,"
        return f"remote {self.remote_name!r} ({self.remote.oid_to_path(md5)})"

    def _download(self, md5: str, path: Path) -> State:
        """Replace the cache's object by the remote's if that is sound."""
        with self._fetched(md5, path.parent) as temporary:
            if (found := _state(temporary, md5)) == "sound":
                _settle(temporary, path)
        return found

    def _remote_state(self, md5: str) -> State:
        with self._fetched(md5, self._cached(md5).parent) as temporary:
            return _state(temporary, md5)

    @contextmanager
    def _fetched(self, md5: str, folder: Path) -> Iterator[Path]:
        """The remote's object as a temporary file; absent if the remote does not have it."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{md5}.{os.getpid()}.tmp"
        try:
            if self.remote is not None and self.remote.exists(md5):
                self.remote.fs.get_file(self.remote.oid_to_path(md5), str(temporary))
            yield temporary
        except (OSError, DvcException) as error:
            raise UnsoundError(f"{self._at_remote(md5)} cannot be read: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _state(path: Path, md5: str) -> State:
    if not path.is_file():
        return "missing"
    return "sound" if md5_file(path) == md5.removesuffix(".dir") else "damaged"


def _settle(temporary: Path, path: Path) -> None:
    """Put a whole file in its place, read-only as DVC keeps its objects."""
    temporary.chmod(0o444)
    temporary.replace(path)
