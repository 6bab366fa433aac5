"""The sections of a model card that hold figures of the holdout, in the words of the task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_score, recall_score

from data.params import Params
from data.problem import Problem
from data.task import BINARY, Task
from data.windows import Labelled
from models import slices
from models.artifact import Artifact
from models.bootstrap import Interval, auc_difference, block_bootstrap
from models.gates_page import number
from models.importance import FieldImportance
from models.page import Section, Table
from models.quality import calibration_points, measure, ranking
from models.verdict import GateReport, metrics

OWN = "this model"
SLICES = 12
# What a slice's rows came to, and the model's word on them; of classes there is no one number.
PAIRS = {
    "binary": {"positive_rate": "observed", "mean_probability": "predicted"},
    "multiclass": {"accuracy": "accuracy", "f1": "macro F1"},
    "regression": {"mean": "observed", "mean_prediction": "predicted"},
}
MEANS = frozenset({"positive_rate", "mean_probability", "mean", "mean_prediction"})
IN_ITS_UNIT = frozenset({"rmse", "mae", "mean", "mean_prediction"})


@dataclass(frozen=True)
class Evidence:
    """What a card is written from.

    Attributes:
        held: the holdout, which no candidate learned from.
        scores: every candidate's answers to it.
        importance: of the raw fields, on the same rows.
        lineage: the tags of the version.
        params: how intervals are drawn.
    """

    artifact: Artifact
    problem: Problem
    held: Labelled
    scores: Mapping[str, np.ndarray]
    report: GateReport
    importance: Sequence[FieldImportance]
    lineage: Mapping[str, str]
    params: Params

    @property
    def task(self) -> Task:
        return self.artifact.task


def of_candidates(evidence: Evidence, own: np.ndarray) -> Section:
    """Every candidate on the same rows."""
    label, gates, task = evidence.held.label, evidence.params.gates, evidence.task
    said = (
        f"On the holdout, {_outcomes(evidence)}. Brackets hold "
        f"{gates.confidence:.0%} of {gates.bootstrap_samples} bootstraps over whole days."
    )
    scores = _named(evidence.scores, own)
    found = {name: measure(label, score, task) for name, score in scores.items()}
    heads = {**metrics(task, found.values()), "calibration_error": "calibration error"}
    keys = [key for key in heads if key not in MEANS]
    rows = []
    for name, score in scores.items():
        shown = {key: text(getattr(found[name], key), key) for key in keys}
        if found[name].roc_auc is not None:
            shown["roc_auc"] = _auc(evidence, score)
        losses = task.losses(label, score)
        shown["log_loss"] = _loss(evidence, losses, np.ones(len(label), dtype=bool))
        rows.append((name, *shown.values()))
    head = ("candidate", *(heads[key] for key in keys))
    return Section("Metrics", (said,), Table(head, tuple(rows)))


def _outcomes(evidence: Evidence) -> str:
    label, target = evidence.held.label, evidence.problem.target
    if evidence.task.kind == "regression":
        spread, scale = number(label.std()), number(evidence.task.scale)
        return (
            f"whose mean {target} is {number(label.mean())}, its standard deviation {spread}. The "
            f"last two columns are in units of {scale}, that of the training rows, the first of "
            "them in its square"
        )
    if evidence.task.classes:
        rates = zip(evidence.task.classes, evidence.task.constant(label), strict=True)
        return "of which " + ", ".join(f"{rate:.1%} are {name}" for name, rate in rates)
    return f"of which {label.mean():.1%} are {target}"


def text(value: float | None, key: str) -> str:
    """One figure of a `Quality`, by its name."""
    if value is None:
        return "not defined"
    return number(value) if key in IN_ITS_UNIT else f"{value:.3f}"


def _named(scores: Mapping[str, np.ndarray], own: np.ndarray) -> dict[str, np.ndarray]:
    """The candidates' scores, with a word on which of them is this model."""
    same = [name for name, score in scores.items() if np.array_equal(score, own)]
    if not same:
        return {**scores, OWN: own}
    return {f"{n} ({OWN})" if n in same else n: score for n, score in scores.items()}


def _auc(evidence: Evidence, score: np.ndarray) -> str:
    """ROC-AUC with its interval: what is over that of a constant, which has one half."""
    held, constant = evidence.held, np.zeros_like(score)
    found = auc_difference(
        held.label, score, constant, held.day, *_draws(evidence), task=evidence.task
    )
    return say(Interval(found.value + 0.5, found.low + 0.5, found.high + 0.5))


def _loss(evidence: Evidence, losses: np.ndarray, mask: np.ndarray) -> str:
    """Mean loss of the rows of the holdout where `mask` (n,) is true."""
    day = evidence.held.day
    return say(block_bootstrap(losses[mask], day[mask], *_draws(evidence)))


def _draws(evidence: Evidence) -> tuple[int, float, int]:
    gates = evidence.params.gates
    return gates.bootstrap_samples, gates.confidence, evidence.params.train.seed


def say(interval: Interval, digits: int = 3) -> str:
    """Value and bounds."""
    value, low, high = (f"{v:z.{digits}f}" for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def of_slices(evidence: Evidence, own: np.ndarray) -> Section:
    """This model on each value of each slice."""
    label, task, pair = evidence.held.label, evidence.task, PAIRS[evidence.task.kind]
    losses, rows = task.losses(label, own), []
    for field in evidence.problem.slices:
        values = slices.values(evidence.problem, field, evidence.held.columns)
        names, counts = np.unique(values, return_counts=True)
        for i in np.argsort(-counts, kind="stable")[:SLICES]:
            mask = values == names[i]
            found = measure(label[mask], own[mask], task)
            shown = [text(getattr(found, key), key) for key in (*pair, "roc_auc")]
            loss = _loss(evidence, losses, mask)
            rows.append((f"{field} {names[i]}", str(found.rows), *shown, loss))
    head = ("slice", "rows", *pair.values(), task.ranking, task.loss)
    said = f"This model on parts of the holdout; the {SLICES} largest of each field."
    return Section("Slices", (said,), Table(head, tuple(rows)))


def of_classes(evidence: Evidence, own: np.ndarray) -> list[Section]:
    """This model on each of several classes; none for another task."""
    task, label = evidence.task, evidence.held.label
    if not task.classes:
        return []
    best, rows = own.argmax(axis=1), []
    for place, name in enumerate(task.classes):
        event, told = (label == place).astype(np.int8), best == place
        auc = ranking(event, own[:, place], BINARY)
        rates = [event.mean(), own[:, place].mean(), auc]
        known = [
            score(event, told, zero_division=np.nan) for score in (recall_score, precision_score)
        ]
        shown = [text(None if v is None or np.isnan(v) else v, name) for v in (*rates, *known)]
        rows.append((name, str(int(event.sum())), *shown))
    head = ("class", "rows", "observed", "predicted", "ROC-AUC", "recall", "precision")
    said = "Each class against all others; recall and precision are of the likeliest class."
    return [Section("Classes", (said,), Table(head, tuple(rows)))]


def of_calibration(evidence: Evidence, own: np.ndarray) -> Section:
    """Whether answers mean what they say, and what is decided by them."""
    label, task = evidence.held.label, evidence.task
    points = calibration_points(label, own, task)
    shown = number if task.kind == "regression" else "{:.3f}".format
    rows = tuple((shown(predicted), shown(observed)) for predicted, observed in points)
    observed = np.array([observed for _, observed in points])
    bars = observed
    if task.kind == "regression":
        bars = (observed - observed.min()) / (np.ptp(observed) or 1.0)
    table = Table(("predicted", "observed"), rows, tuple(bars.tolist()))
    tenths = "Tenths of the holdout:"
    if task.kind == "binary":
        return Section("Calibration and decision", (_decision(evidence, own), tenths), table)
    if task.classes:
        tenths = "Tenths of all probabilities, of all classes together:"
    return Section("Calibration", (tenths,), table)


def _decision(evidence: Evidence, own: np.ndarray) -> str:
    label, artifact = evidence.held.label, evidence.artifact
    decided = own >= artifact.threshold
    return (
        f"A probability from {artifact.threshold:.3f} on is a decision for "
        f"{evidence.problem.target}: {decided.mean():.1%} of the holdout, of which "
        f"{_share(label[decided])} were; of the others {_share(label[~decided])} were."
    )


def _share(values: np.ndarray) -> str:
    return f"{values.mean():.1%}" if len(values) else "none"
