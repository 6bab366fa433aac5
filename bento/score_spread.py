"""A folder scored by the workers of a Dask cluster, each a file at a time.

The workers see both folders under the same path. Each output is that of `bento.score`, byte for
byte, and a run that was stopped goes on as it does there.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bento.score import Scored, score
from bento.score_folder import checked, joined
from bento.scorer import Counts, Scorer

if TYPE_CHECKING:
    from distributed import Client


def score_spread(
    client: "Client",
    artefact: Path,
    version: str,
    sources: Sequence[Path],
    folder: Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> Scored:
    """`bento.score_folder.score_files` by the workers; files after a fault may be written, too."""
    rows = checked(_scorer(artefact, version), sources, folder)
    made = [
        client.submit(_score, artefact, version, source.absolute(), folder.absolute() / source.name,
                      strict, overwrite, pure=False)
        for source in sources
    ]  # fmt: skip
    total = Scored(folder, Counts(), 0, 0)
    try:
        for source, future in zip(sources, made, strict=True):
            total = joined(total, future.result(), source)
            progress(total.counts.rows, rows)
    finally:
        client.cancel(made)  # type: ignore[no-untyped-call]
    return total


def _score(
    artefact: Path, version: str, source: Path, path: Path, strict: bool, overwrite: bool
) -> Scored:
    scorer = _scorer(artefact, version)
    return score(scorer, source, path, strict=strict, overwrite=overwrite, workers=1)


@lru_cache(1)
def _scorer(artefact: Path, version: str) -> Scorer:
    return Scorer.load(artefact, version)
