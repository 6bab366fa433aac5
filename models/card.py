"""The model card that is signed with a version: what it is, on what, how good, and where not.

Its sections follow Mitchell et al. 2019, "Model Cards for Model Reporting"; `models.page` has
its two forms.
"""

from collections.abc import Sequence

import numpy as np

from data.digests import digest_of
from data.problem import Problem
from data.task import Task
from models import card_figures as figures
from models.card_figures import Evidence
from models.importance import FieldImportance, shares
from models.page import Card, Section, Table
from models.quality import NumberQuality, measure
from models.recalibrate import say
from models.verdict import GateReport

__all__ = ["Evidence", "build"]

LINEAGE = (
    "choice", "calibration", "as_of", "cause", "author", "git_sha", "git_dirty", "snapshot",
    "snapshot_tag", "params", "lock", "packages", "python", "prefect_run",
)  # fmt: skip


AGAIN = Section(
    "How to make and check it again",
    (
        "`evergreen reproduce VERSION` makes this model again from its commit, snapshot, "
        "parameters and lock, and compares every byte.",
        "`model_signing verify key` checks the signature of this folder with the public key alone.",
    ),
)


def build(evidence: Evidence) -> Card:
    """The card of a judged model."""
    artifact, problem, report = evidence.artifact, evidence.problem, evidence.report
    own = artifact.score(evidence.held.columns)
    sections = (
        _details(evidence),
        _use(problem),
        _data(evidence),
        figures.of_candidates(evidence, own),
        *figures.of_classes(evidence, own),
        figures.of_slices(evidence, own),
        figures.of_calibration(evidence, own),
        _importance(evidence.importance, evidence.task),
        _gates(report),
        _limits(problem),
        AGAIN,
    )
    verdict = "passed its gates" if report.passed else "did not pass its gates"
    summary = (
        f"As of {evidence.lineage.get('as_of', 'unknown')} it {verdict}: {report.reason[:500]}. "
        f"{_headline(evidence, own)}."
    )
    return Card(f"{problem.name}: {problem.target}", summary, sections)


def _headline(evidence: Evidence, own: np.ndarray) -> str:
    task, found = evidence.task, measure(evidence.held.label, own, evidence.task)
    said = {task.ranking: "roc_auc", task.loss: "log_loss"}
    if isinstance(found, NumberQuality):
        said |= {"R²": "r2", "RMSE": "rmse"}
    shown = (f"{name} {figures.text(getattr(found, key), key)}" for name, key in said.items())
    return f"{', '.join(shown)} on {found.rows} held-out rows"


def _details(evidence: Evidence) -> Section:
    artifact, lineage = evidence.artifact, evidence.lineage
    rows = [("digest", artifact.digest), ("kind", lineage.get("candidate", "unknown"))]
    rows += [(name.replace("_", " "), lineage[name]) for name in LINEAGE if name in lineage]
    said = _answer(evidence.task, evidence.problem.target)
    return Section("Model details", (said,), Table(("what", "value"), tuple(rows)))


def _answer(task: Task, target: str) -> str:
    if task.kind == "regression":
        return f"It gives the {target} to be expected, a number."
    if task.classes:
        return f"It gives the probability of each {target}: {', '.join(task.classes)}."
    return f"It gives the probability that an event is {target}."


def _use(problem: Problem) -> Section:
    said = tuple(text for text in (problem.description, problem.intended_use) if text)
    return Section("Intended use", said or ("The problem does not say.",))


def _data(evidence: Evidence) -> Section:
    training, held = evidence.artifact.training, evidence.held
    learned, judged, files = training["train"], training["holdout"], training["partitions"]
    level = training.get("recalibration")
    said = (
        f"As known at {training['as_of']}; no candidate saw the rows that it is judged on. "
        f"{training['missing_labels']} rows had no label yet. `training.json` in the artefact "
        "names every file with its sha256."
    )
    rows = [
        ("learned from", f"{training['train_rows']} rows, {learned[0]} to {learned[-1]}"),
        ("judged on", f"{len(held)} rows, {level['period'] if level else ', '.join(judged)}"),
        (f"digest of {len(files)} files", digest_of(files)),
    ]
    if level:
        shift = say(np.asarray(level["shift"]), evidence.task)
        what = f"{shift} from {level['rows']} rows of {level['period']}"
        rows.append((f"level, since version {level['version']}", what))
    return Section("Data", (said,), Table(("window", "what"), tuple(rows)))


def _importance(found: Sequence[FieldImportance], task: Task) -> Section:
    if not found:
        same = "What the model that it was recalibrated from goes by: a shift changes no ranking."
        return Section("What it goes by", (same,))
    unit = "the outcome's variance" if task.kind == "regression" else "nats"
    said = (
        f"Mean {task.loss} that shuffling a field among the holdout's rows adds, in {unit}. A "
        "field that others stand in for has less than it carries; none of it says what causes what."
    )
    parts = shares(found)
    rows = tuple((one.field, f"{parts[one.field]:.0%}", figures.say(one.loss, 4)) for one in found)
    largest = max(parts.values(), default=0.0) or 1.0
    bars = tuple(parts[one.field] / largest for one in found)
    return Section(
        "What it goes by", (said,), Table(("field", "share", f"added {task.loss}"), rows, bars)
    )


def _gates(report: GateReport) -> Section:
    rows = tuple((v.name, v.mark, v.reason) for v in report.verdicts)
    said = report.reason if report.passed else f"Not to be served: {report.reason}"
    return Section("Gates", (said,), Table(("gate", "verdict", "reason"), rows))


def _limits(problem: Problem) -> Section:
    said = problem.limits or ("The problem does not say.",)
    common = "Scores say what was usual in the past of this data, not what causes an outcome."
    return Section("Limits, ethics and caveats", (*said, common))
