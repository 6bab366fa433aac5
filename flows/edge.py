"""Take a version to where there is no Evergreen, and say how large and how fast it is there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bento import edge
from bento.edge_run import BATCH, Model, check_golden
from flows.project import Project

REPEATS = 5


@dataclass(frozen=True)
class Exported:
    """Sizes in bytes; microseconds are the best of a few rounds over the golden rows."""

    path: str
    fresh: bool
    model_version: str
    digest: str
    bytes_by_file: dict[str, int]
    microseconds_alone: float
    microseconds_in_batches: float
    check: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_export(project: Project, number: str, place: Path) -> Exported:
    """Export a version, then check and measure what lies there."""
    version = project.registry.get(number)
    folder = project.registry.folder(version)
    fresh = edge.export(folder, number, project.params.release.smoke_tolerance, place)
    model = Model(place)
    lines = [json.dumps(row) for row in model.about["golden"]["rows"]]
    return Exported(
        path=str(place),
        fresh=fresh,
        model_version=number,
        digest=version.digest,
        bytes_by_file={path.name: path.stat().st_size for path in sorted(place.iterdir())},
        microseconds_alone=_microseconds(model, lines, 1),
        microseconds_in_batches=_microseconds(model, lines, BATCH),
        check=check_golden(model),
    )


def _microseconds(model: Model, lines: list[str], size: int) -> float:
    """Of one row in batches of that size, from text to answer."""

    def once() -> float:
        start = perf_counter()
        for first in range(0, len(lines), size):
            model.answers(lines[first : first + size])
        return perf_counter() - start

    return min(once() for _ in range(REPEATS)) / len(lines) * 1e6


def render(exported: Exported) -> RenderableType:
    sizes = ", ".join(
        f"{name} {size / 1024:,.0f} KiB" for name, size in exported.bytes_by_file.items()
    )
    done = "holds" if exported.fresh else "held already"
    return Group(
        Text(f"{exported.path} {done} version {exported.model_version}: {sizes}"),
        Text(exported.check),
        Text(
            f"{exported.microseconds_alone:,.0f} µs for a row alone, "
            f"{exported.microseconds_in_batches:,.0f} µs in batches of {BATCH}; not quantised, not "
            "pruned"
        ),
    )
