"""A folder of parquet files scored: each as `bento.score` does, to a file of the same name.

Each output is whole or not there. Who runs the same again leaves finished ones as they are and goes
on within the one that was cut off.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bento import table
from bento.score import Scored, open_rows, score
from bento.scorer import Counts, Scorer
from data.errors import EvergreenError


def score_files(
    scorer: Scorer,
    sources: Sequence[Path],
    folder: Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> Scored:
    """Write the answers for each of `sources` to `folder`, see `bento.score.score`.

    Args:
        strict: the first row that breaks the contract stops all; files before its own are written.

    Returns:
        All files as one: the first refused row is that of the first file that has one.

    Raises:
        EvergreenError: as `score` does; before anything is written if a file's columns do not fit.
    """
    rows = checked(scorer, sources, folder)
    total = Scored(folder, Counts(), 0, 0)
    for source in sources:
        found = score(
            scorer,
            source,
            folder / source.name,
            strict=strict,
            overwrite=overwrite,
            workers=workers,
            progress=_from(total.counts.rows, rows, progress),
        )
        total = joined(total, found, source)
    return total


def checked(scorer: Scorer, sources: Sequence[Path], folder: Path) -> int:
    """How many rows all of `sources` have; raises as `score_files` does before it writes."""
    if folder.exists() and not folder.is_dir():
        raise EvergreenError(f"{folder} is a file: name a folder for the answers of a folder")
    rows = 0
    for source in sources:
        file = open_rows(source)
        table.check_schema(file.schema_arrow, scorer.contract, source)
        rows += file.metadata.num_rows
    return rows


def _from(
    before: int, rows: int, progress: Callable[[int, int], None]
) -> Callable[[int, int], None]:
    """Progress within a file as that within all of them."""
    return lambda done, _: progress(before + done, rows)


def joined(total: Scored, found: Scored, source: Path) -> Scored:
    """With one more file; a fault names the file that it is in."""
    first = found.counts.first
    counts = found.counts
    if first:
        counts = replace(counts, first=(first[0], f"{first[1]} ({source.name})"))
    return Scored(total.path, total.counts + counts, total.resumed + found.resumed, total.files + 1)
