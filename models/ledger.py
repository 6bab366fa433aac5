"""The ledger: what was decided about which version. One hashed line for each, only appended.

Every line carries the hash of the line before it, so that an edited, dropped or moved line is found
where it stands. Lines cut off at the end are found by the head (number and hash of the last line),
which the registry keeps in MLflow. The head may lag by the one line that a killed writer had just
appended; it never leads. What follows the last newline is no line: a writer died while it wrote.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from data.digests import canonical_json, digest_of
from data.errors import EvergreenError

if TYPE_CHECKING:
    from models.fence import Writer
    from models.tracking import Tracking

GENESIS = "0" * 64
TORN = ".torn"
HEAD = "ledger_head"  # the tag of the registered model by which MLflow knows the last line
LOCK_SECONDS = 120.0
IDLE_SECONDS = 60.0  # less, so that who waits has the lock before it gives up


class Kind(StrEnum):
    """What a line says of a version."""

    PROMOTED = "promoted"  # it is champion, over `expected`
    RELEASED = "released"  # it took the traffic
    ROLLED_BACK = "rolled_back"  # it is champion again, and `expected` was taken back
    REJECTED = "rejected"  # its gates refused it
    WAIVER = "waiver"  # a person answers for a gate that failed
    APPROVED = "approved"
    REFUSED = "refused"  # by a person
    NOT_PROMOTED = "not_promoted"  # nobody decided in time
    ABORTED = "aborted"  # shadow or canary spoke against it before it was promoted
    CUT_OFF = "cut_off"  # its release was killed during the canary; it may be tried again
    AB_STARTED = "ab_started"  # it shares the traffic with the champion
    AB_ENDED = "ab_ended"


@dataclass(frozen=True)
class Act:
    """When something is done to a version, by whom and why; `run` is the Prefect run."""

    at: datetime
    by: str
    reason: str
    run: str = "none"


@dataclass(frozen=True)
class Head:
    """Number and hash of a ledger's last line; `0` and zeros where there is none."""

    seq: int = 0
    hash: str = GENESIS

    @classmethod
    def parse(cls, text: str) -> "Head":
        seq, _, digest = text.partition(":")
        return cls(int(seq), digest)

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        seq: its number, from 1 on.
        at: UTC, ISO text.
        version, digest: what it is about.
        expected: the champion that it was judged against or takes the place of; None if none.
        previous: hash of the line before.
        hash: sha256 of everything else as canonical JSON.
    """

    seq: int
    at: str
    kind: Kind
    version: str
    digest: str
    expected: str | None
    reason: str
    by: str
    run: str
    previous: str
    detail: Mapping[str, str] = field(default_factory=dict)
    hash: str = ""

    def sealed(self) -> Self:
        """The same entry with its hash."""
        content = {**asdict(self), "hash": _hash(asdict(self))}
        return type(self)(**content)

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)

    @property
    def line(self) -> str:
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class Ledger:
    """A file of lines; whoever appends holds the registry's lock."""

    path: Path

    @property
    def place(self) -> str:
        """Where the lines are kept, for messages."""
        return str(self.path)

    @contextmanager
    def held(
        self, lock: Path, seconds: float = LOCK_SECONDS, idle: float = IDLE_SECONDS
    ) -> Iterator["Ledger"]:
        """The ledger, to be appended to; nobody else on this host holds the lock meanwhile.

        Args:
            seconds: how long to wait for the lock.
            idle: in which a holder on another host shows that it lives; 0 for no limit.

        Raises:
            EvergreenError: if another run has it for longer than that.
        """
        try:
            with FileLock(lock, timeout=seconds):
                yield self
        except Timeout as error:
            raise EvergreenError(
                f"{lock} is held for over {seconds:g} s: another run is promoting"
            ) from error

    def copies(self) -> str:
        """What is to be said of copies; a file has none."""
        return ""

    @contextmanager
    def fenced(self, tracking: "Tracking", head: Head) -> Iterator["Writer"]:
        """What writes to MLflow that which follows from the line `head`.

        A file's lock goes with its process, so there is nothing to ask.
        """
        yield tracking.client()

    def read(self) -> list[Entry]:
        """All lines, oldest first.

        Raises:
            EvergreenError: naming the line that was edited, dropped or moved.
        """
        return parse(self._lines()[0], self.place)

    def torn(self) -> bool:
        """Whether a killed writer left a part of a line."""
        return bool(self._lines()[1])

    def append(
        self,
        kind: Kind,
        version: str,
        digest: str,
        act: Act,
        expected: str | None = None,
        detail: Mapping[str, str] | None = None,
    ) -> Entry:
        """Add a line; it is on disk, name and content, when this returns."""
        lines, torn = self._lines()
        known = parse(lines, self.place)
        last = known[-1].head if known else Head()
        at = act.at.astimezone(UTC).isoformat(timespec="seconds")
        who = (act.reason, act.by, act.run, last.hash)
        entry = Entry(last.seq + 1, at, kind, version, digest, expected, *who, dict(detail or {}))
        sealed = entry.sealed()
        self._set_aside(torn)
        self._write(sealed, lines)
        return sealed

    def _write(self, entry: Entry, before: list[bytes]) -> None:
        """Append it to the lines before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{entry.line}\n".encode())
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)

    def _lines(self) -> tuple[list[bytes], bytes]:
        """The complete lines, and what a killed writer left behind the last of them."""
        try:
            *lines, torn = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], b""
        return lines, torn

    def _set_aside(self, torn: bytes) -> None:
        """Move a torn end to a file beside the lines."""
        if not torn:
            return
        with self.path.with_name(self.path.name + TORN).open("ab") as kept:
            kept.write(torn + b"\n")
            os.fsync(kept.fileno())
        os.truncate(self.path, self.path.stat().st_size - len(torn))


def parse(lines: Sequence[bytes], place: str) -> list[Entry]:
    """Lines as entries, every hash and every link checked.

    Raises:
        EvergreenError: naming the first line that does not fit.
    """
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        before = entries[-1].head if entries else Head()
        try:
            content: dict[str, Any] = json.loads(line)
            entry = Entry(**{**content, "kind": Kind(content["kind"])})
            whole = entry.hash == _hash(content) and entry.line.encode() == line
        except (ValueError, TypeError, KeyError):
            whole = False
        if not whole:
            raise _broken(place, number, "was edited: its hash does not fit its content")
        if entry.head.seq != before.seq + 1 or entry.previous != before.hash:
            raise _broken(
                place, number, "does not follow the one before: a line was dropped or moved"
            )
        entries.append(entry)
    return entries


def head_fault(entries: Sequence[Entry], head: Head | None) -> str | None:
    """How the head that MLflow keeps differs from the ledger; None where it fits.

    It fits, too, if it lags by the one line that a killed writer had just appended.
    """
    heads = [Head(), *(entry.head for entry in entries)]
    known = head or Head()
    if known in heads[-2:]:
        return None
    if known.seq > heads[-1].seq:
        return (
            f"the ledger ends with line {heads[-1].seq}, but MLflow has seen line {known.seq}: "
            "lines were cut off; restore it from a backup"
        )
    if known in heads:
        return (
            f"MLflow has seen line {known.seq} of {heads[-1].seq} only: its database is older "
            "than the ledger, or lines were added by hand"
        )
    return f"line {known.seq} is not the one that MLflow has seen: the ledger was written anew"


def _hash(content: Mapping[str, Any]) -> str:
    return digest_of({name: value for name, value in content.items() if name != "hash"})


def _broken(place: str, number: int, what: str) -> EvergreenError:
    return EvergreenError(f"{place}: line {number} {what}; restore it from a backup")


def _sync_folder(folder: Path) -> None:
    """So that a new file's name is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
