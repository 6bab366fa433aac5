"""What is kept of a judged model: the signed folder of its version, and its run in MLflow."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from data import digests
from data.params import Params
from flows.project import Project
from models import (
    artifact,
    card,
    evaluate,
    figures,
    gates_page,
    importance,
    page,
    signing,
    tracking,
)
from models.artifact import Artifact, Trained
from models.card import Evidence
from models.gates import GateReport, Verdict
from models.importance import FieldImportance
from models.page import Card
from models.version import Version

PARAMS = "params.yaml"
STUDY = "study.json"
GATES = "gates.json"


@dataclass(frozen=True)
class Judgement:
    """A model with all that was found out about it; `tags` are its lineage."""

    challenger: Artifact
    trained: Trained
    report: GateReport
    importance: tuple[FieldImportance, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Kept:
    """The MLflow run that holds a version's files, and what the registry says beside it."""

    run_id: str
    summary: str


def importances(
    project: Project, trained: Trained, challenger: Artifact, champion: Version | None
) -> tuple[tuple[FieldImportance, ...], Verdict]:
    """What the challenger goes by, and whether the champion goes by the same."""
    held, params = trained.holdout, project.params
    own, other = importance.measure(challenger, held, params), None
    if champion:
        serving = artifact.load(project.registry.folder(champion))
        other = importance.measure(serving, held, params)
    return own, importance.shift(own, other, len(held), params.importance)


def keep(project: Project, judged: Judgement) -> Kept:
    """Write the card, sign it with the artefact and the gate report, and log the training."""
    described = card.build(_evidence(project, judged))
    trained, params = judged.trained, project.params
    name = f"train {judged.tags['as_of']}"
    table, task = trained.holdout_table(), trained.task
    periods = evaluate.by_period(trained.rolling, params, task)
    with tempfile.TemporaryDirectory() as scratch:
        folder = signed(project, judged.challenger, judged.report, described, Path(scratch))
        run_id = tracking.log_training(
            project.registry.tracking,
            name=name,
            params={**artifact.model_params(params), "chosen": trained.choice.settings},
            metrics=evaluate.flat(evaluate.summary(table, trained.rolling, params, task)),
            tags={**judged.tags, "digest": judged.report.digest},
            holdout=table,
            figures=_figures(judged, periods),
            registered=folder,
            texts=_texts(params, judged, periods, name),
            trials=trained.trials,
            metric=params.rolling.metric,
        )
    return Kept(run_id, shown(described))


def signed(
    project: Project, challenger: Artifact, report: GateReport, described: Card, into: Path
) -> Path:
    """The signed folder of a version: artefact, card and gate report."""
    folder = into / tracking.REGISTERED
    shutil.copytree(challenger.folder, folder / tracking.ARTIFACT)
    page.write(described, folder)
    (folder / GATES).write_text(digests.canonical_json(report.to_json()))
    signing.sign(folder, project.keys)
    return folder


def shown(described: Card) -> str:
    """What the registry says beside a version."""
    return f"{described.summary} The whole card: `evergreen card VERSION`, or `{page.HTML}` here."


def _evidence(project: Project, judged: Judgement) -> Evidence:
    return Evidence(
        artifact=judged.challenger,
        problem=project.problem,
        held=judged.trained.holdout,
        scores=judged.trained.holdout_scores,
        report=judged.report,
        importance=judged.importance,
        lineage=judged.tags,
        params=project.params,
    )


def _figures(judged: Judgement, periods: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    trained = judged.trained
    names = [feature.name for feature in trained.features]
    gains = dict(zip(names, map(float, trained.model.importance(len(names))), strict=True))
    held, scores = trained.holdout, trained.holdout_scores
    drawn = figures.figures(held.label, scores, gains, trained.task, periods)
    return {**drawn, "field_importance": importance.figure(judged.importance, trained.task)}


def _texts(
    params: Params, judged: Judgement, periods: Sequence[Mapping[str, Any]], name: str
) -> dict[str, str]:
    """What else is kept with the run, by file name."""
    study = judged.trained.study
    return {
        **pages(judged.report, name),
        PARAMS: yaml.safe_dump(params.model_dump()),
        "rolling.json": json.dumps(periods, indent=1),
        "field_importance.json": importance.to_json(judged.importance),
        **({STUDY: digests.canonical_json(study.to_json())} if study else {}),
    }


def pages(report: GateReport, name: str) -> dict[str, str]:
    """The gate report of a run as pages, by file name."""
    return {
        "gates.md": report.to_markdown(),
        "gates.html": gates_page.to_html(report, f"Gates: {name}"),
    }
