"""Make a registered version again in a temporary checkout, and compare it with the record.

Only what was recorded goes in: the commit, the parameters, the snapshot of the data, the moment. So
it works with a dirty work tree and without a local DVC cache, and needs no server.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data.contracts import to_columns
from data.features import Columns
from data.partitions import Partitions
from data.periods import Period
from flows.dossier import PARAMS, STUDY
from flows.lineage import tags_of
from flows.project import Project
from flows.site import (
    Site,
    data_check,
    lock_check,
    opened,
    params_check,
    refuse_if_lost,
    stored,
)
from models import artifact, reproduce
from models.artifact import Artifact
from models.reproduce import Check, Comparison
from models.tracking import flatten
from models.version import Version


def run_reproduce(project: Project, number: str, python: Path | None = None) -> Comparison:
    """Train a version again from its record and compare digest, metrics and predictions.

    Args:
        python: an interpreter with the recorded packages; without it this one if it has them, or
            an environment made from the recorded lock.

    Raises:
        EvergreenError: if something that was recorded cannot be brought back.
    """
    with tempfile.TemporaryDirectory() as scratch:
        checks = _again(project, project.registry.get(number), python, Path(scratch))
    return Comparison(number, tuple(checks))


def _again(project: Project, version: Version, python: Path | None, into: Path) -> list[Check]:
    """Make a version again; its artefact is left in a folder of its number.

    A recalibrated one is made from the version that it came from, which is made again first.
    """
    tags = tags_of(project, version)
    refuse_if_lost(version, tags)
    kept, whole = stored(project, version)
    before, number = list[Check](), version.trained
    if number != version.number:
        found = _again(project, project.registry.get(number), python, into)
        before = [replace(check, name=f"version {number}: {check.name}") for check in found]
    with opened(project, tags["git_sha"], python) as site:
        checks = [
            whole,
            lock_check(site, version, tags),
            params_check(project, site, version, tags),
            data_check(project, site, tags["snapshot"], kept),
        ]
        made = _moved(site, into / number, number) if before else _trained(project, site, version)
        rebuilt = artifact.load(site.out / "model")
        checks += [reproduce.identity(version.digest, rebuilt, kept), *made]
        checks.append(_predictions(site, kept, rebuilt))
        shutil.copytree(rebuilt.folder, into / version.number)
    return [*before, *checks]


def _trained(project: Project, site: Site, version: Version) -> list[Check]:
    """Train and evaluate in a site."""
    study, given = _study(project, site, version), ("--params", PARAMS, "--raw", site.raw)
    site.run("models.train", *given, "--out", site.out, *study)
    held, evaluation = site.out / "holdout.parquet", site.out / "evaluation"
    site.run("models.evaluate", "--holdout", held, "--out", evaluation)
    return [_metrics(project, version, evaluation)]


def _moved(site: Site, base: Path, number: str) -> list[Check]:
    """Learn the shift again in a site, and apply it to the model as it was trained."""
    given = ("--params", PARAMS, "--raw", site.raw, "--base", base, "--version", number)
    site.run("models.shifted", *given, "--out", site.out)
    return []


def _study(project: Project, site: Site, version: Version) -> tuple[object, ...]:
    """The recorded study of a tuned version: a new one might stop elsewhere."""
    text = project.registry.text(version, STUDY)
    if text is None:
        return ()
    path = site.checkout / STUDY
    path.write_text(text)
    return "--study", path


def _metrics(project: Project, version: Version, evaluation: Path) -> Check:
    found = flatten(json.loads((evaluation / "metrics.json").read_text()))
    rebuilt = {name: float(value) for name, value in found.items() if value is not None}
    return reproduce.metrics(project.registry.run(version).data.metrics, rebuilt)


def _predictions(site: Site, stored: Artifact | None, rebuilt: Artifact) -> Check:
    if stored is None:
        return Check("predictions", False, "the stored artefact cannot be asked", "")
    return reproduce.predictions(stored, rebuilt, _sample(site, rebuilt))


def _sample(site: Site, rebuilt: Artifact) -> Columns:
    """Up to 10,000 raw rows: the holdout's first, then the newest that were trained on."""
    training, frames, rows = rebuilt.training, [], 0
    for name in (*training["holdout"], *reversed(training["train"])):
        if rows < reproduce.ROWS:
            frames.append(Partitions(site.raw).rows(Period.parse(name)))
            rows += len(frames[-1])
    return to_columns(pd.concat(frames).head(reproduce.ROWS), rebuilt.fields)


def render(found: Comparison) -> RenderableType:
    """The comparison as a table."""
    table = Table("")
    table.add_column("recorded", overflow="fold")
    table.add_column("made again", overflow="fold")
    table.add_column("")
    for check in found.checks:
        mark = Text("equal", style="green") if check.equal else Text("differs", style="bold red")
        table.add_row(check.name, Text(check.recorded), Text(check.rebuilt), mark)
    return Group(table, Text(found.message, style="green" if found.equal else "bold red"))
