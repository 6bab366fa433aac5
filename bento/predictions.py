"""Reading the prediction log: lines as the servers write them, and archives of them as parquet.

Who reads turns closed files into columns, a twentieth of the size. A file of lines goes only when
its archive is on disk; its columns are those of `bento.records`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from bento import records
from bento.prediction_log import ARCHIVED, FILE, LINES, Entry, closed_files
from bento.records import Record
from data.errors import EvergreenError
from data.task import BINARY

CHUNK = 20_000
KEEP = 4 * 2**30
WINDOW = 2**20


def read(
    folder: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    model_version: str | None = None,
    probes: bool = False,
    since: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """Records of all slots, file by file in the order they were written.

    Args:
        folder: the serving folder.
        start, end: only events of [start, end), in the problem's own clock.
        model_version: only answers of this version.
        probes: smoke tests, too.
        since: only what was answered from then on; nothing older is read.
    """
    for record in _records(folder, since=since):
        if (
            (since is None or record.logged_at >= since)
            and (start is None or record.event_time >= start)
            and (end is None or record.event_time < end)
            and (model_version is None or record.model_version == model_version)
            and (probes or not record.probe)
        ):
            yield record.said()


def find(folder: Path, request_id: str) -> dict[str, Any] | None:
    """The record of one answer, a smoke test's included; None if no slot gave it."""
    for record in _records(folder, request_id.partition("-")[0]):
        if record.request_id == request_id:
            return record.said()
    return None


def archive(folder: Path, keep: int = KEEP) -> list[Path]:
    """Turn what no slot writes any more into parquet; the new files.

    Args:
        folder: the serving folder.
        keep: bytes of archives that are kept for each slot; the oldest go.
    """
    made = []
    for slot in sorted((folder / "log").glob("*/")):
        with FileLock(slot / "archive.lock"):
            made += [_archived(path) for path in closed_files(slot) if path.suffix == LINES]
            archives = [path for path in closed_files(slot) if path.suffix == ARCHIVED]
            while sum(path.stat().st_size for path in archives) > keep:
                archives.pop(0).unlink()
    return made


def table(
    folder: Path, columns: list[str], start: datetime, end: datetime, versions: Sequence[str]
) -> pd.DataFrame:
    """Columns of the answers that versions gave to the events of [start, end), without probes.

    Args:
        folder: the serving folder.
        columns: names of the archive's; those of a score that nobody gave are empty.
    """
    wanted = (
        (pc.field("event_time") >= start)
        & (pc.field("event_time") < end)
        & pc.field("model_version").isin(list(versions))
        & ~pc.field("probe")
    )
    known = {field.name: field.type for field in records.schema(BINARY)}
    asked = pa.schema([(name, known.get(name, pa.float64())) for name in columns])
    parts = [asked.empty_table()]
    for slot in sorted((folder / "log").glob("*/")):
        for path in closed_files(slot):
            if path.suffix == ARCHIVED:
                parts.append(pq.read_table(path, filters=wanted))
            else:
                parts += [part.filter(wanted) for part in _tables(_lines(path))]
        parts += [part.filter(wanted) for part in _tables(_lines(slot / FILE))]
    found: pd.DataFrame = _joined(parts).select(columns).to_pandas()
    return found


def _archived_records(
    path: Path, request: str = "", since: datetime | None = None
) -> Iterator[Record]:
    """The records of an archive; with the id of a request, those of its answer."""
    wanted = pc.starts_with(pc.field("request_id"), request)
    if since is not None:
        wanted &= pc.field("logged_at") >= since
    for row in pq.read_table(path, filters=wanted).to_pylist():
        yield records.of_archive(row)


def _archived(path: Path) -> Path:
    """The archive of a file of lines, which is gone then."""
    made, part = path.with_suffix(ARCHIVED), path.with_suffix(".part")
    tables = list(_tables(_lines(path)))  # versions of another task may have answered in between
    schema = pa.unify_schemas(
        [records.schema(BINARY)] if not tables else [t.schema for t in tables]
    )
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for each in tables:
            writer.write_table(_joined([schema.empty_table(), each]))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(made)
    path.unlink()
    return made


def _tables(found: Iterator[Record]) -> Iterator[pa.Table]:
    for task, alike in groupby(found, key=lambda record: record.task):
        while chunk := list(islice(alike, CHUNK)):
            rows = [record.stored() for record in chunk]
            yield pa.Table.from_pylist(rows, schema=records.schema(task))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """All in one; what a table does not have is missing there."""
    return pa.concat_tables(tables, promote_options="default")


def _records(folder: Path, request: str = "", since: datetime | None = None) -> Iterator[Record]:
    """The records of all slots; with the id of a request, at least those of its answer.

    With a moment, at least what was answered from then on.
    """
    for slot in sorted((folder / "log").glob("*/")):
        for path in [*closed_files(slot), slot / FILE]:
            if path.suffix == ARCHIVED:
                yield from _archived_records(path, request, since)
            else:
                yield from _lines(path, request, since)


def _lines(path: Path, request: str = "", since: datetime | None = None) -> Iterator[Record]:
    """The records of one file of lines; with a request's id, at least those of its answer.

    With a moment, at least what was answered from then on.

    Raises:
        EvergreenError: if a line is something else.
    """
    decoder, wanted = msgspec.json.Decoder(Entry), request.encode()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # archived or dropped since it was listed
    with file:
        if since is not None:
            _skip(file, since)
        for line in file:
            if wanted not in line:
                continue
            try:
                yield from records.of_entry(decoder.decode(line))
            except msgspec.ValidationError as error:
                raise EvergreenError(f"{path} is no prediction log: {error}") from error
            except msgspec.DecodeError:
                continue  # torn: its request was never answered


class _Moment(msgspec.Struct):
    logged_at: datetime


def _skip(file: BinaryIO, since: datetime) -> None:
    """Go to a line before the first of that moment or later; a slot writes in the order of time."""
    size, window = file.seek(0, os.SEEK_END), WINDOW
    while window < size:
        file.seek(-window, os.SEEK_END)
        file.readline()
        place, line = file.tell(), file.readline()
        with suppress(msgspec.DecodeError):
            if msgspec.json.decode(line, type=_Moment).logged_at < since:
                file.seek(place)
                return
        window *= 4
    file.seek(0)
