"""Every answered request as one JSON line, appended before the answer leaves.

One `write` on an append-only descriptor: what a client was told survives a killed process. A full
file is closed under a number and a new one begun; the oldest go when a slot holds too many. A
gateway that retries a request may leave two records of one event: join by `key`.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from data.errors import EvergreenError

FILE = "predictions.jsonl"
CLOSED = "predictions-{:08d}.jsonl"
KEY = "key"
SEGMENT = 64 * 1024 * 1024
logger = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request, as a line of the log.

    Attributes:
        event_time: the field that says when a decision is due, in the problem's own clock.
        threshold: a probability from here on was a positive decision.
        probe: the request was pinned to a slot (a smoke test), so it is nobody's traffic.
        many: the rows came as a list; then the answer's ids are numbered.
        rows: the raw fields, and the caller's key.
    """

    logged_at: datetime
    request_id: str
    model_version: str
    digest: str
    event_time: str
    threshold: float
    degraded: bool
    probe: bool
    many: bool
    probabilities: list[float]
    rows: Sequence[Any]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One answered row; `row` has the raw fields as they were sent, timestamps as text."""

    logged_at: datetime
    request_id: str
    key: str | None
    event_time: datetime
    model_version: str
    digest: str
    probability: float
    decision: bool
    degraded: bool
    probe: bool
    row: dict[str, Any]


class PredictionLog:
    """The append-only files of one slot."""

    def __init__(self, path: Path, segment: int = SEGMENT, segments: int = 32) -> None:
        """Args: path: of the file that is written; segment: bytes; segments: closed ones kept."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._segment = segment
        self._segments = segments
        self._encoder = msgspec.json.Encoder()
        self._open()
        self._end_torn_line()

    def append(self, entries: Sequence[Entry]) -> None:
        """Write all entries at once.

        Raises:
            OSError: if they were not written whole (a full disk).
        """
        data = self._encoder.encode_lines(entries)
        if self._size and self._size + len(data) > self._segment:
            self._begin_another()
        self._size += (written := os.write(self._descriptor, data))
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes of the prediction log were written")

    def is_writable(self) -> bool:
        """Whether a write succeeds now; it leaves an empty line."""
        try:
            return os.write(self._descriptor, b"\n") == 1
        except OSError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _begin_another(self) -> None:
        """Close the file under the next number, and drop the oldest that are too many."""
        closed = closed_files(self._path.parent)
        last = _number(closed[-1]) if closed else 0
        self._path.rename(self._path.with_name(CLOSED.format(last + 1)))
        os.close(self._descriptor)
        self._open()
        for path in closed[: max(0, len(closed) + 1 - self._segments)]:
            logger.warning("%s is dropped: the log holds %d files", path, self._segments)
            path.unlink(missing_ok=True)

    def _end_torn_line(self) -> None:
        """An entry cut off by a full disk must not swallow the next one."""
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(self._descriptor, b"\n")


def now() -> datetime:
    return datetime.now(UTC)


def slot_file(folder: Path, slot: str) -> Path:
    """Where a slot of this serving folder logs."""
    return folder / "log" / slot / FILE


def closed_files(folder: Path) -> list[Path]:
    """What a slot does not write any more, the oldest first."""
    return sorted(folder.glob(CLOSED.replace("{:08d}", "*")))


def read(
    folder: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    model_version: str | None = None,
    probes: bool = False,
) -> Iterator[dict[str, Any]]:
    """Records of all slots, file by file in the order they were written.

    Args:
        folder: the serving folder.
        start, end: only events of [start, end), in the problem's own clock.
        model_version: only answers of this version.
        probes: smoke tests, too.
    """
    for entry in _entries(folder):
        if (model_version is None or entry.model_version == model_version) and (
            probes or not entry.probe
        ):
            for record in _records(entry):
                if (start is None or record.event_time >= start) and (
                    end is None or record.event_time < end
                ):
                    yield msgspec.structs.asdict(record)


def find(folder: Path, request_id: str) -> dict[str, Any] | None:
    """The record of one answer, a smoke test's included; None if no slot gave it."""
    request = request_id.partition("-")[0]
    for entry in _entries(folder, request.encode()):
        for record in _records(entry) if entry.request_id == request else ():
            if record.request_id == request_id:
                return msgspec.structs.asdict(record)
    return None


def row_ids(entry_id: str, many: bool, rows: int) -> list[str]:
    """The ids of a request's answers."""
    return [f"{entry_id}-{i}" for i in range(rows)] if many else [entry_id]


def _entries(folder: Path, holding: bytes = b"") -> Iterator[Entry]:
    """The entries of all slots, of those lines that hold some bytes."""
    decoder = msgspec.json.Decoder(Entry)
    for slot in sorted((folder / "log").glob("*/")):
        for path in [*closed_files(slot), slot / FILE]:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue  # closed under its number, or dropped, since it was listed
            with file:
                for line in file:
                    if holding not in line:
                        continue
                    try:
                        yield decoder.decode(line)
                    except msgspec.ValidationError as error:
                        raise EvergreenError(f"{path} is no prediction log: {error}") from error
                    except msgspec.DecodeError:
                        continue  # torn: its request was never answered


def _records(entry: Entry) -> Iterator[Record]:
    ids = row_ids(entry.request_id, entry.many, len(entry.rows))
    for own_id, row, probability in zip(ids, entry.rows, entry.probabilities, strict=True):
        key = row.pop(KEY)
        yield Record(
            logged_at=entry.logged_at,
            request_id=own_id,
            key=key,
            event_time=msgspec.convert(row[entry.event_time], datetime),
            model_version=entry.model_version,
            digest=entry.digest,
            probability=probability,
            decision=probability >= entry.threshold,
            degraded=entry.degraded,
            probe=entry.probe,
            row=row,
        )


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
