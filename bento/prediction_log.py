"""Every answered request as one JSON line, appended before the answer leaves.

One `write` on an append-only descriptor: what a client was told survives a killed process. A full
file is closed under a number and a new one begun; the oldest go when a slot holds too many. A
gateway that retries a request may leave two records of one event: join by `key`.
"""

import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from data.task import BINARY, REGRESSION, Task, multiclass

FILE = "predictions.jsonl"
CLOSED = "predictions-{:08d}"
LINES, ARCHIVED = ".jsonl", ".parquet"
KEY = "key"
SEGMENT = 64 * 1024 * 1024
logger = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request, as a line of the log.

    Attributes:
        event_time: the field that says when a decision is due, in the problem's own clock.
        threshold: of two outcomes: a probability from here on was a positive decision.
        probe: the request was pinned to a slot (a smoke test), so it is nobody's traffic.
        many: the rows came as a list; then the answer's ids are numbered.
        probabilities: of two outcomes one a row, of several classes one for each of `classes`.
        rows: the raw fields, and the caller's key.
        classes: of several classes their names.
        predictions: of a regression, in place of probabilities.
    """

    logged_at: datetime
    request_id: str
    model_version: str
    digest: str
    event_time: str
    threshold: float | None
    degraded: bool
    probe: bool
    many: bool
    probabilities: list[float | list[float]] | UnsetType = UNSET
    rows: Sequence[Any]
    classes: tuple[str, ...] | UnsetType = UNSET
    predictions: list[float] | UnsetType = UNSET

    @property
    def task(self) -> Task:
        """Of a regression without its scale, which no line says."""
        if self.classes is not UNSET:
            return _of_classes(self.classes)
        return BINARY if self.predictions is UNSET else REGRESSION

    @property
    def scores(self) -> list[Any]:
        """One for each row."""
        return self.predictions or self.probabilities or []


def logged(task: Task, scores: list[Any]) -> dict[str, Any]:
    """The scores of an entry as its fields."""
    if task.kind == "regression":
        return {"predictions": scores}
    return {"probabilities": scores, **({"classes": task.classes} if task.classes else {})}


@cache
def _of_classes(classes: tuple[str, ...]) -> Task:
    return multiclass(classes)


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
        last = int(closed[-1].stem.rpartition("-")[2]) if closed else 0
        self._path.rename(self._path.with_name(CLOSED.format(last + 1) + LINES))
        os.close(self._descriptor)
        self._open()
        lines = [path for path in closed if path.suffix == LINES]
        for path in lines[: max(0, len(lines) + 1 - self._segments)]:
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
    """What a slot does not write any more, as lines or archived, the oldest first."""
    return sorted(folder.glob(f"{CLOSED.partition('{')[0]}*[0-9].*"))


def row_ids(entry_id: str, many: bool, rows: int) -> list[str]:
    """The ids of a request's answers."""
    return [f"{entry_id}-{i}" for i in range(rows)] if many else [entry_id]
