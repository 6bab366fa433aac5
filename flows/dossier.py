"""What is kept of a judged model: the signed folder of its version, and its run in MLflow."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from data import digests
from flows.project import Project
from models import artifact, card, evaluate, importance, page, signing, tracking
from models.artifact import Artifact, Trained
from models.card import Evidence
from models.gates import GateReport, Verdict
from models.importance import FieldImportance
from models.registry import Version

PARAMS = "params.yaml"


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
    held, scores = judged.trained.holdout, judged.trained.holdout_scores
    evidence = Evidence(
        artifact=judged.challenger,
        problem=project.problem,
        held=held,
        scores=scores,
        report=judged.report,
        importance=judged.importance,
        lineage=judged.tags,
        params=project.params,
    )
    described = card.build(evidence)
    pictures = evaluate.figures(held.label, scores)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / tracking.REGISTERED
        shutil.copytree(judged.challenger.folder, folder / tracking.ARTIFACT)
        page.write(described, folder)
        (folder / "gates.json").write_text(digests.canonical_json(judged.report.to_json()))
        signing.sign(folder, project.keys)
        run_id = tracking.log_training(
            project.registry.tracking,
            name=f"train {judged.tags['as_of']}",
            params=artifact.model_params(project.params),
            metrics=evaluate.flat_metrics(evaluate.evaluate(held.label, scores)),
            tags={**judged.tags, "digest": judged.report.digest},
            holdout=judged.trained.holdout_table(),
            figures={**pictures, "importance": importance.figure(judged.importance)},
            registered=folder,
            gates=judged.report,
            texts={
                PARAMS: yaml.safe_dump(project.params.model_dump()),
                "importance.json": importance.to_json(judged.importance),
            },
        )
    shown = f"{described.summary} The whole card: `evergreen card VERSION`, or `{page.HTML}` here."
    return Kept(run_id, shown)
