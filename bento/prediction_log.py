"""Every answered row as one JSON line, appended before the answer leaves.

One `write` on an append-only descriptor for each request: what a client was told survives a killed
process. A gateway that retries a request may leave two records of one event: join by `key`.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

FILE = "predictions.jsonl"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One answered row.

    Attributes:
        event_time: when the decision is due, in the problem's own clock.
        probe: the request was pinned to a slot (a smoke test), so it is nobody's traffic.
        row: the raw fields as they were sent, timestamps as text.
    """

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
    """The append-only file of one slot."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o600)
        self._encoder = msgspec.json.Encoder()
        self._end_torn_line()

    def append(self, records: Sequence[Record]) -> None:
        """Write all records at once.

        Raises:
            OSError: if they were not written whole (a full disk).
        """
        data = self._encoder.encode_lines(records)
        if (written := os.write(self._descriptor, data)) != len(data):
            raise OSError(f"only {written} of {len(data)} bytes of the prediction log were written")

    def close(self) -> None:
        os.close(self._descriptor)

    def _end_torn_line(self) -> None:
        """A record cut off by a full disk must not swallow the next one."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


def now() -> datetime:
    return datetime.now(UTC)


def slot_file(folder: Path, slot: str) -> Path:
    """Where a slot of this serving folder logs."""
    return folder / "log" / slot / FILE


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
    for path in sorted((folder / "log").glob(f"*/{FILE}")):
        for record in _records(path):
            if (
                (start is None or record.event_time >= start)
                and (end is None or record.event_time < end)
                and (model_version is None or record.model_version == model_version)
                and (probes or not record.probe)
            ):
                yield msgspec.structs.asdict(record)


def find(folder: Path, request_id: str) -> dict[str, Any] | None:
    """The record of one answer, a smoke test's included; None if no slot gave it."""
    wanted = request_id.encode()
    for path in sorted((folder / "log").glob(f"*/{FILE}")):
        for record in _records(path, wanted):
            if record.request_id == request_id:
                return msgspec.structs.asdict(record)
    return None


def _records(path: Path, holding: bytes = b"") -> Iterator[Record]:
    """The records of a file, of those lines that hold some bytes."""
    decoder = msgspec.json.Decoder(Record)
    with path.open("rb") as file:
        for line in file:
            if holding not in line:
                continue
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError:
                continue  # torn: its request was never answered
