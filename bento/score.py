"""Score a parquet file: a part at a time, so that memory stays flat and a kill loses little.

Finished parts lie beside the output, each written whole or not at all, under the name of the job:
the input's sha256, the version and its digest. Who runs the same job again goes on after them; the
output is joined from all parts at the end and says in its own metadata what it was made from.
"""

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from bento import table
from bento.contract import KEY
from bento.scorer import REFUSED, Counts, Scorer
from data.digests import canonical_json, sha256_file, write_atomically
from data.errors import EvergreenError

PART_ROWS = 2**14
JOB, COUNTS = b"evergreen.job", b"evergreen.counts"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What an output is made from: equal jobs give equal outputs."""

    input_sha256: str
    model_version: str
    digest: str
    part_rows: int

    def difference(self, other: "Job") -> str:
        """In which words another job differs."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(
            f"{name} {str(theirs[name])[:16]} instead of {str(mine[name])[:16]}"
            for name in mine
            if mine[name] != theirs[name]
        )


@dataclass(frozen=True)
class Scored:
    """Finished output, a file or a folder of them; `resumed` rows lay there from an earlier run."""

    path: Path
    counts: Counts
    resumed: int
    files: int = 1


def score(
    scorer: Scorer,
    source: Path,
    path: Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> Scored:
    """Write the answers for the rows of `source` to `path`, in their order.

    Args:
        strict: stop at the first row that breaks the contract, and write no output.
        overwrite: replace what is at `path`, or was begun there, if it is of another job.
        progress: is told how many rows are done, and of how many.

    Raises:
        EvergreenError: if a file cannot be read, a column is missing or of another type, `path`
            holds something else or cannot be written, or another run is writing it.
    """
    file, before = open_rows(source), _stamp(source)
    columns = table.check_schema(file.schema_arrow, scorer.contract, source)
    if path.exists() and path.samefile(source):
        raise EvergreenError(f"{path} is the input: name another file for the answers")
    job = Job(sha256_file(source), scorer.version, scorer.digest, PART_ROWS)
    if path.exists() and not _replaced(path, job, overwrite):
        found = _counts(pq.read_schema(path))
        _refuse_first(found, source, strict)
        return Scored(path, found, found.rows)
    parts = path.with_name(f".{path.name}.parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with FileLock(parts / "lock", timeout=0):
            _claim(parts, path, job, overwrite)
            run = _Run(scorer, file, columns, parts, source, strict, progress)
            whole = parts / "whole.parquet"
            counts, resumed = run.all(whole, job, workers)
            if _stamp(source) == before:
                whole.replace(path)
            shutil.rmtree(parts)
            if _stamp(source) != before:
                raise EvergreenError(f"{source} changed while it was read: run again")
    except Timeout as error:
        raise EvergreenError(f"another run is writing {path}: wait until it ends") from error
    except OSError as error:
        raise EvergreenError(
            f"{error.filename or path}: {error.strerror or error}; make room there, or name "
            "another OUT, then run again: what is done is kept"
        ) from error
    return Scored(path, counts, resumed)


def open_rows(source: Path) -> pq.ParquetFile:
    """A file of rows, not read yet."""
    try:
        schema = pq.read_schema(source)
        text = [
            field.name
            for field in schema
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
        text = [name for name in text if name != KEY]
        return pq.ParquetFile(source, read_dictionary=text)
    except (OSError, pa.ArrowException) as error:
        raise EvergreenError(f"{source} cannot be read as parquet ({error})") from error


def _stamp(source: Path) -> tuple[int, int, int]:
    """What changes when a file is written or replaced."""
    found = source.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _replaced(path: Path, job: Job, overwrite: bool) -> bool:
    """Whether what is there has to give way: it is of another job, and that is wanted."""
    try:
        said = (pq.read_schema(path).metadata or {}).get(JOB)
    except (OSError, pa.ArrowException):
        said = None
    found = Job(**json.loads(said)) if said else None
    if found == job:
        return False
    if not overwrite:
        what = f"was made from {job.difference(found)}" if found else "is no output of `score`"
        raise EvergreenError(f"{path} {what}: name another file, or say --overwrite")
    return True


def _claim(parts: Path, path: Path, job: Job, overwrite: bool) -> None:
    """Make the parts folder this job's own; parts of another job are not taken for ours."""
    place = parts / "job.json"
    if place.exists():
        found = Job(**json.loads(place.read_text()))
        if found == job:
            return
        if not overwrite:
            raise EvergreenError(
                f"{path} was begun from {job.difference(found)}: name another file, or say "
                "--overwrite"
            )
        for old in parts.glob("*.arrow"):
            old.unlink()
    write_atomically(place, canonical_json(asdict(job)))


@dataclass(frozen=True)
class _Run:
    scorer: Scorer
    file: pq.ParquetFile
    columns: list[str]
    parts: Path
    source: Path
    strict: bool
    progress: Callable[[int, int], None]

    def all(self, whole: Path, job: Job, workers: int) -> tuple[Counts, int]:
        """Score what is not there yet, and join all parts in order.

        Returns:
            The counts of all, and how many rows were there.
        """
        total, resumed, rows = Counts(), 0, self.file.metadata.num_rows
        # Results are taken in the order of the rows, and few batches are in memory at a time.
        with ThreadPoolExecutor(workers) as pool, _writer(whole, self.scorer.schema) as writer:
            for counts, lay_there in _in_order(pool, workers, self._tasks()):
                part = _read(self._part(total.rows)).read_all()
                writer.write_table(part.replace_schema_metadata())
                total += counts
                resumed += counts.rows if lay_there else 0
                _refuse_first(total, self.source, self.strict)
                self.progress(total.rows, rows)
            told = {JOB: asdict(job), COUNTS: asdict(total)}
            writer.add_key_value_metadata({k: canonical_json(v) for k, v in told.items()})
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        return total, resumed

    def _tasks(self) -> Iterator[Callable[[], tuple[Counts, bool]]]:
        """For each part: what gives its counts, and whether it lay there."""
        for first, batch in self._batches():
            if batch is None:
                yield partial(self._kept, first)
            else:
                yield partial(self._score, first, batch)

    def _batches(self) -> Iterator[tuple[int, pa.RecordBatch | None]]:
        """Number of the first row, and the rows; None where their part is finished."""
        start = 0
        for group in range(self.file.num_row_groups):
            end = start + self.file.metadata.row_group(group).num_rows
            finished = self._finished(start, end)
            if finished[-1:] == [end] or start == end:
                yield from ((first, None) for first in [start, *finished][:-1])
            else:
                yield from self._unfinished(group, start)
            start = end

    def _unfinished(self, group: int, first: int) -> Iterator[tuple[int, pa.RecordBatch | None]]:
        try:
            for batch in self.file.iter_batches(
                PART_ROWS, [group], self.columns, use_threads=False
            ):
                yield first, None if self._part(first).exists() else batch
                first += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise EvergreenError(
                f"{self.source} cannot be read from row {first} on ({error})"
            ) from error

    def _finished(self, start: int, end: int) -> list[int]:
        """Where each of the parts ends that cover a row group from its first row on."""
        ends: list[int] = []
        while start < end and self._part(start).exists():
            start += _counts(_read(self._part(start)).schema).rows
            ends.append(start)
        return ends

    def _part(self, first: int) -> Path:
        return self.parts / f"{first:015d}.arrow"

    def _kept(self, first: int) -> tuple[Counts, bool]:
        return _counts(_read(self._part(first)).schema), True

    def _score(self, first: int, rows: pa.RecordBatch) -> tuple[Counts, bool]:
        try:
            answers, counts = self.scorer.answer(rows, first)
        except ValueError as error:
            raise EvergreenError(
                f"{self.source}: the rows from {first} on cannot be scored ({error})"
            ) from error
        sink = pa.BufferOutputStream()
        told = {COUNTS: canonical_json(asdict(counts))}
        with pa.ipc.new_file(sink, answers.schema.with_metadata(told)) as writer:
            writer.write_batch(answers)
        write_atomically(self._part(first), sink.getvalue())
        return counts, False


def _in_order(
    pool: ThreadPoolExecutor, ahead: int, tasks: Iterator[Callable[[], Result]]
) -> Iterator[Result]:
    """The results of tasks in their order; at most `ahead` + 1 tasks are under way."""
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _refuse_first(counts: Counts, source: Path, strict: bool) -> None:
    if strict and counts.first:
        row, fault = counts.first
        raise EvergreenError(
            f"{source}, row {row} (from 0), {fault}: mend it, or leave out --strict to have such "
            "rows in the output with the reason"
        )


def _counts(schema: pa.Schema) -> Counts:
    return Counts.from_json(json.loads(schema.metadata[COUNTS]))


def _read(part: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(part)))
    except (OSError, pa.ArrowException) as error:
        raise EvergreenError(f"{part} is damaged ({error}): delete it and run again") from error


def _writer(whole: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Without Arrow's own schema, so that columns of few values are read back as plain text."""
    few = [each.name for each in schema if pa.types.is_dictionary(each.type)]
    return pq.ParquetWriter(
        whole, schema, compression="zstd", use_dictionary=[*few, REFUSED], store_schema=False
    )
