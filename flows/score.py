"""Score a file with a registered version, as the endpoint would."""

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from bento.score import Scored, score
from bento.scorer import Scorer
from data.errors import EvergreenError
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
    """See `bento.score.score`; the version's artefact is verified before it is loaded."""
    version = chosen(project, number)
    scorer = Scorer.load(project.registry.folder(version), version.number)
    return score(
        scorer,
        source,
        path,
        strict=strict,
        overwrite=overwrite,
        workers=min(WORKERS, os.cpu_count() or 1),
        progress=progress,
    )


def render(scored: Scored) -> RenderableType:
    """What came of it, in a few lines."""
    counts, lines = scored.counts, []
    if scored.resumed == counts.rows:
        lines.append(f"{scored.path} holds these answers already: {counts.rows:,} rows")
    else:
        again = f", {scored.resumed:,} of them by an earlier run" if scored.resumed else ""
        lines.append(f"{scored.path}: {counts.rows:,} rows are scored{again}")
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
