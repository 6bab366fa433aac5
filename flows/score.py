"""Score a file or a folder with a registered version, as the endpoint would."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from bento.score import Scored, score
from bento.score_folder import score_files
from bento.score_spread import score_spread
from bento.scorer import Scorer
from data import spread
from data.errors import EvergreenError
from data.partitions import LABELS, kind_of
from flows.project import Project
from models.registry import CHAMPION
from models.version import Version

WORKERS = 4  # at most; each holds a part's rows


def chosen(project: Project, number: str | None) -> Version:
    """The version of that number; without one, the champion.

    Raises:
        EvergreenError: if there is no such version.
    """
    if number is not None:
        return project.registry.get(number)
    found = project.registry.alias(CHAMPION)
    if found is None:
        raise EvergreenError("there is no champion yet: release a version, or name one")
    return found


def run_score(
    project: Project,
    number: str | None,
    source: Path,
    path: Path,
    *,
    strict: bool,
    overwrite: bool,
    progress: Callable[[int, int], None],
) -> Scored:
    """Score a file to a file, or the files of a folder to a folder, see `bento.score.score`.

    The version's artefact is verified before it is loaded. With EVERGREEN_DASK set, a folder's
    files are scored by that cluster.
    """
    version = chosen(project, number)
    artefact, cluster = project.registry.folder(version), project.settings.dask
    if cluster and source.is_dir():
        with spread.opened(cluster) as client:
            run = partial(score_spread, client, artefact, version.number, files_of(source), path)
            return run(strict=strict, overwrite=overwrite, progress=progress)
    scorer = Scorer.load(artefact, version.number)
    here = partial(
        score_files if source.is_dir() else score,
        strict=strict,
        overwrite=overwrite,
        workers=min(WORKERS, os.cpu_count() or 1),
        progress=progress,
    )
    return here(scorer, files_of(source) if source.is_dir() else source, path)


def files_of(folder: Path) -> list[Path]:
    """The parquet files of a folder in order, without labels that partitions have beside them.

    Raises:
        EvergreenError: if there is none.
    """
    found = sorted(folder.glob("*.parquet"))
    rows = [path for path in found if kind_of(path.name) != LABELS]
    if not rows:
        raise EvergreenError(f"{folder} has no parquet file of rows: name a file, or their folder")
    return rows


def render(scored: Scored) -> RenderableType:
    """What came of it, in a few lines."""
    counts, lines = scored.counts, list[str]()
    files = f"{scored.files} files, " if scored.files > 1 else ""
    if scored.resumed == counts.rows:
        lines.append(f"{scored.path} holds these answers already: {files}{counts.rows:,} rows")
    else:
        again = f", {scored.resumed:,} of them by an earlier run" if scored.resumed else ""
        lines.append(f"{scored.path}: {files}{counts.rows:,} rows are scored{again}")
    for field, rows in counts.unseen.items():
        if rows:
            lines.append(f"{field}: {rows:,} rows have a category that training did not see")
    if counts.first:
        row, fault = counts.first
        lines.append(
            f"{counts.refused:,} rows break the contract and have no answer (see their "
            f"`refused`); the first is row {row} (from 0), {fault}"
        )
    return Group(*map(Text, lines))
