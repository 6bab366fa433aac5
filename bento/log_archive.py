"""The prediction log as parquet: closed files become columns, a twentieth of the size.

Done by who reads the log, not by the server. A file of lines goes only when its archive is on disk.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from bento.prediction_log import ARCHIVED, FILE, LINES, Record, closed_files, lines

CHUNK = 20_000
KEEP = 4 * 2**30
SCHEMA = pa.schema(
    [
        ("logged_at", pa.timestamp("us", tz="UTC")),
        ("request_id", pa.string()),
        ("key", pa.string()),
        ("event_time", pa.timestamp("us")),
        ("model_version", pa.string()),
        ("digest", pa.string()),
        ("probability", pa.float64()),
        ("decision", pa.bool_()),
        ("degraded", pa.bool_()),
        ("probe", pa.bool_()),
        ("row", pa.string()),  # JSON
    ]
)


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
    folder: Path, columns: list[str], start: datetime, end: datetime, model_version: str
) -> pd.DataFrame:
    """Columns of the answers that a version gave to the events of [start, end), without probes.

    Args:
        folder: the serving folder.
        columns: names of the archive's.
    """
    wanted = (
        (pc.field("event_time") >= start)
        & (pc.field("event_time") < end)
        & (pc.field("model_version") == model_version)
        & ~pc.field("probe")
    )
    parts = [SCHEMA.empty_table()]
    for slot in sorted((folder / "log").glob("*/")):
        for path in closed_files(slot):
            if path.suffix == ARCHIVED:
                parts.append(pq.read_table(path, filters=wanted))
            else:
                parts += [part.filter(wanted) for part in _tables(lines(path))]
        parts += [part.filter(wanted) for part in _tables(lines(slot / FILE))]
    found: pd.DataFrame = pa.concat_tables(parts).select(columns).to_pandas()
    return found


def records(path: Path, request: str = "") -> Iterator[Record]:
    """The records of an archive; with the id of a request, those of its answer."""
    wanted = pc.starts_with(pc.field("request_id"), request)
    for row in pq.read_table(path, filters=wanted).to_pylist():
        yield Record(**{**row, "row": msgspec.json.decode(row["row"])})


def _archived(path: Path) -> Path:
    """The archive of a file of lines, which is gone then."""
    made, part = path.with_suffix(ARCHIVED), path.with_suffix(".part")
    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        for each in _tables(lines(path)):
            writer.write_table(each)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(made)
    path.unlink()
    return made


def _tables(found: Iterator[Record]) -> Iterator[pa.Table]:
    while chunk := list(islice(found, CHUNK)):
        rows = [
            {**msgspec.structs.asdict(record), "row": msgspec.json.encode(record.row).decode()}
            for record in chunk
        ]
        yield pa.Table.from_pylist(rows, schema=SCHEMA)
