"""The model card that is signed with a version: what it is, on what, how good, and where not.

Its sections follow Mitchell et al. 2019, "Model Cards for Model Reporting"; `models.page` has
its two forms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.digests import digest_of
from data.params import Params
from data.problem import Problem
from data.windows import Labelled
from models import slices
from models.artifact import Artifact
from models.bootstrap import Interval, auc_difference, block_bootstrap
from models.importance import FieldImportance, shares
from models.page import Card, Section, Table
from models.quality import BinaryQuality, calibration_points, log_losses, measure  # fmt: skip
from models.verdict import GateReport

OWN = "this model"
SLICES = 12
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


@dataclass(frozen=True)
class Evidence:
    """What a card is written from.

    Attributes:
        held: the holdout, which no candidate learned from.
        scores: every candidate's probabilities for it, each of shape (n,).
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


def build(evidence: Evidence) -> Card:
    """The card of a judged model."""
    artifact, problem, report = evidence.artifact, evidence.problem, evidence.report
    own = artifact.score(evidence.held.columns)
    sections = (
        _details(evidence),
        _use(problem),
        _data(evidence),
        _metrics(evidence, own),
        _slices(evidence, own),
        _calibration(evidence, own),
        _importance(evidence.importance),
        _gates(report),
        _limits(problem),
        AGAIN,
    )
    ranked = measure(evidence.held.label, own)
    verdict = "passed its gates" if report.passed else "did not pass its gates"
    auc = "not defined" if ranked.roc_auc is None else f"{ranked.roc_auc:.3f}"
    summary = (
        f"As of {evidence.lineage.get('as_of', 'unknown')} it {verdict}: {report.reason[:500]}. "
        f"ROC-AUC {auc}, log loss {ranked.log_loss:.3f} on {ranked.rows} held-out rows."
    )
    return Card(f"{problem.name}: {problem.target}", summary, sections)


def _details(evidence: Evidence) -> Section:
    artifact, lineage = evidence.artifact, evidence.lineage
    rows = [("digest", artifact.digest), ("kind", lineage.get("candidate", "unknown"))]
    rows += [(name.replace("_", " "), lineage[name]) for name in LINEAGE if name in lineage]
    said = f"It gives the probability that an event is {evidence.problem.target}."
    return Section("Model details", (said,), Table(("what", "value"), tuple(rows)))


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
        what = f"log odds {level['shift']:+.3f} from {level['rows']} rows of {level['period']}"
        rows.append((f"level, since version {level['version']}", what))
    return Section("Data", (said,), Table(("window", "what"), tuple(rows)))


def _metrics(evidence: Evidence, own: np.ndarray) -> Section:
    label, gates = evidence.held.label, evidence.params.gates
    said = (
        f"On the holdout, of which {label.mean():.1%} are {evidence.problem.target}. Brackets hold "
        f"{gates.confidence:.0%} of {gates.bootstrap_samples} bootstraps over whole days."
    )
    head = ("candidate", "ROC-AUC", "PR-AUC", "log loss", "Brier", "calibration error")
    rows = []
    for name, score in _named(evidence.scores, own).items():
        found = measure(label, score)
        assert isinstance(found, BinaryQuality)
        auc = _auc(evidence, score) if found.roc_auc is not None else "not defined"
        loss = _loss(evidence, log_losses(label, score), np.ones(len(label), dtype=bool))
        pr_auc = "not defined" if found.pr_auc is None else f"{found.pr_auc:.3f}"
        rows.append(
            (name, auc, pr_auc, loss, f"{found.brier:.3f}", f"{found.calibration_error:.3f}")
        )
    return Section("Metrics", (said,), Table(head, tuple(rows)))


def _named(scores: Mapping[str, np.ndarray], own: np.ndarray) -> dict[str, np.ndarray]:
    """The candidates' scores, with a word on which of them is this model."""
    same = [name for name, score in scores.items() if np.array_equal(score, own)]
    if not same:
        return {**scores, OWN: own}
    return {f"{n} ({OWN})" if n in same else n: score for n, score in scores.items()}


def _auc(evidence: Evidence, score: np.ndarray) -> str:
    """ROC-AUC with its interval: what is over that of a constant, which has one half."""
    held, constant = evidence.held, np.zeros(len(score))
    found = auc_difference(held.label, score, constant, held.day, *_draws(evidence))
    return _say(Interval(found.value + 0.5, found.low + 0.5, found.high + 0.5))


def _loss(evidence: Evidence, losses: np.ndarray, mask: np.ndarray) -> str:
    """Mean log loss of the rows of the holdout where `mask` (n,) is true."""
    day = evidence.held.day
    return _say(block_bootstrap(losses[mask], day[mask], *_draws(evidence)))


def _draws(evidence: Evidence) -> tuple[int, float, int]:
    gates = evidence.params.gates
    return gates.bootstrap_samples, gates.confidence, evidence.params.train.seed


def _say(interval: Interval, digits: int = 3) -> str:
    value, low, high = (f"{v:z.{digits}f}" for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _slices(evidence: Evidence, own: np.ndarray) -> Section:
    label = evidence.held.label
    losses, rows = log_losses(label, own), []
    for field in evidence.problem.slices:
        values = slices.values(evidence.problem, field, evidence.held.columns)
        names, counts = np.unique(values, return_counts=True)
        for i in np.argsort(-counts, kind="stable")[:SLICES]:
            mask = values == names[i]
            found = measure(label[mask], own[mask])
            assert isinstance(found, BinaryQuality)
            auc = "not defined" if found.roc_auc is None else f"{found.roc_auc:.3f}"
            loss = _loss(evidence, losses, mask)
            rates = (f"{found.positive_rate:.3f}", f"{found.mean_probability:.3f}")
            rows.append((f"{field} {names[i]}", str(found.rows), *rates, auc, loss))
    head = ("slice", "rows", "observed", "predicted", "ROC-AUC", "log loss")
    said = f"This model on parts of the holdout; the {SLICES} largest of each field."
    return Section("Slices", (said,), Table(head, tuple(rows)))


def _calibration(evidence: Evidence, own: np.ndarray) -> Section:
    label, artifact = evidence.held.label, evidence.artifact
    decided = own >= artifact.threshold
    said = (
        f"A probability from {artifact.threshold:.3f} on is a decision for "
        f"{evidence.problem.target}: {decided.mean():.1%} of the holdout, of which "
        f"{_share(label[decided])} were; of the others {_share(label[~decided])} were."
    )
    points = calibration_points(label, own)
    rows = tuple((f"{predicted:.3f}", f"{observed:.3f}") for predicted, observed in points)
    table = Table(("predicted", "observed"), rows, tuple(observed for _, observed in points))
    return Section("Calibration and decision", (said, "Tenths of the holdout:"), table)


def _share(values: np.ndarray) -> str:
    return f"{values.mean():.1%}" if len(values) else "none"


def _importance(found: Sequence[FieldImportance]) -> Section:
    if not found:
        same = "What the model that it was recalibrated from goes by: a shift changes no ranking."
        return Section("What it goes by", (same,))
    said = (
        "Mean log loss that shuffling a field among the holdout's rows adds, in nats. A field that "
        "others stand in for has less than it carries; none of it says what causes what."
    )
    parts = shares(found)
    rows = tuple((one.field, f"{parts[one.field]:.0%}", _say(one.loss, 4)) for one in found)
    largest = max(parts.values(), default=0.0) or 1.0
    bars = tuple(parts[one.field] / largest for one in found)
    return Section(
        "What it goes by", (said,), Table(("field", "share", "added log loss"), rows, bars)
    )


def _gates(report: GateReport) -> Section:
    rows = tuple((v.name, v.mark, v.reason) for v in report.verdicts)
    said = report.reason if report.passed else f"Not to be served: {report.reason}"
    return Section("Gates", (said,), Table(("gate", "verdict", "reason"), rows))


def _limits(problem: Problem) -> Section:
    said = problem.limits or ("The problem does not say.",)
    common = "Scores say what was usual in the past of this data, not what causes an outcome."
    return Section("Limits, ethics and caveats", (*said, common))
