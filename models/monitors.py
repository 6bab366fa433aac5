"""Monitors of quality: served answers against matured labels; pure functions.

A single period is noise (a storm is no fault of the model), so that what exceeds its limit warns,
and alarms when the period before did, too. Limits are what the reference's own periods reach.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from data.conformal import Limit, limit
from data.monitor_params import Monitor
from data.params import Params
from data.reference import Reference
from data.task import Task
from data.verdicts import Finding, Verdict, twice
from models.bootstrap import auc_draws, interval_of, mean_draws
from models.quality import measure, ranking
from models.tally import constant_loss, tallies

QUALITY, TURNED = "quality", "turned"
BELOW_CHANCE = 0.45  # of any ranking, whose chance is 0.5
OWN = {"binary": "rate", "multiclass": "rates", "regression": "mean"}


@dataclass(frozen=True)
class Judged:
    """The answers of a period whose labels have matured.

    Attributes:
        task: the model's own, with its scale.
        label, score: of n rows in order of event time, see `data.task`.
        day: shape (n,).
        due: answers that can have a label.
        slices: name -> the value of each row, shape (n,).
        why: why there is none.
    """

    task: Task
    label: np.ndarray
    score: np.ndarray
    day: np.ndarray
    due: int
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    why: str = ""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def missing(self) -> int:
        return self.due - len(self)

    @property
    def coverage(self) -> float:
        return len(self) / self.due if self.due else 0.0

    def too_few(self, monitor: str, limits: Monitor) -> Finding | None:
        """UNKNOWN, if there are too few to judge."""
        if len(self) >= limits.minimum_rows and self.coverage >= limits.minimum_label_coverage:
            return None
        reason = self.why or (
            f"{len(self)} of {self.due} answers have a matured label, {self.missing} are missing: "
            f"too few to judge (at least {limits.minimum_label_coverage:.0%} of them and "
            f"{limits.minimum_rows} are)"
        )
        evidence = {"coverage": self.coverage, "missing": self.missing}
        return Finding(monitor, Verdict.UNKNOWN, None, None, len(self), reason, evidence)


@dataclass(frozen=True)
class Worse:
    """How much worse than usual, in one sense.

    Attributes:
        value, low, high: beyond the reference's median: the estimate, and its interval.
        past, usual: what the reference's own periods are beyond it, and the limit from them.
    """

    value: float
    low: float
    high: float
    past: tuple[float, ...]
    usual: Limit

    @property
    def ratio(self) -> float:
        return self.low / max(self.usual.value, 1e-9)


def quality(judged: Judged, reference: Reference, params: Params, last: Finding | None) -> Finding:
    """Whether the answers are worse than the reference's own periods ever were.

    Two ways to be worse: loss beyond that of the period's own constant answer, and ROC-AUC. What is
    further beyond its limit decides, and only if the whole interval over bootstrapped days is. If
    all of that of the ranking is well below chance, outcomes or fields are turned round.

    Args:
        reference: what out-of-fold scores reached, by period.
        last: what was said of the period before.
    """
    if (unknown := judged.too_few(QUALITY, params.monitor)) is not None:
        return unknown
    if not reference.slices:
        return no_history(QUALITY, len(judged))
    task = judged.task
    found = measure(judged.label, judged.score, task)
    loss, area = _loss(judged, reference, params), _area(judged, reference, params)
    worst = max([loss, *([area] if area else [])], key=lambda each: each.ratio)
    reason = f"{task.loss} {found.log_loss:.3f}: beside the period's own {OWN[task.kind]} "
    reason += f"{loss.value:+.3f} (at least {loss.low:+.3f}) more than the reference's median, "
    reason += loss.usual.say()
    if area:
        reason += (
            f"; {task.ranking} {found.roc_auc:.3f}: {area.value:+.3f} (at least {area.low:+.3f}) "
        )
        reason += f"below the reference's median, {area.usual.say()}"
    turned = area is not None and (found.roc_auc or 0.0) + area.value - area.low < BELOW_CHANCE
    reason += "; the answers rank worse than chance does" if turned else ""
    reason += f"; {judged.missing} labels missing" if judged.missing else ""
    evidence = {
        **asdict(found),
        "worse": {"log_loss": asdict(loss), "roc_auc": asdict(area) if area else None},
        "coverage": judged.coverage,
        "missing": judged.missing,
        "past": list(worst.past),
        TURNED: turned,
    }
    threshold = worst.usual.value
    said = Finding(QUALITY, Verdict.OK, worst.low, threshold, len(judged), reason, evidence)
    return twice(said, worst.ratio > 1, last)


def _loss(judged: Judged, reference: Reference, params: Params) -> Worse:
    """Loss beside that of the rows' own constant answer."""
    past = [each.added_loss for each in tallies(reference.slices[0])]
    losses = judged.task.losses(judged.label, judged.score)
    added = losses - constant_loss(judged.label, judged.task)
    draws = mean_draws(added, judged.day, params.gates.bootstrap_samples, params.train.seed)
    return _worse(float(added.mean()), draws, past, params)


def _area(judged: Judged, reference: Reference, params: Params) -> Worse | None:
    """ROC-AUC, negative so that more is worse; None where all outcomes are the same."""
    past = [-area for area in reference.slices[0].roc_auc if area is not None]
    label, score, task = judged.label, judged.score, judged.task
    if not past or not task.learnable(label):
        return None
    samples, seed = params.gates.bootstrap_samples, params.train.seed
    draws = auc_draws(label, score, judged.day, samples, seed, task)
    return _worse(-float(ranking(label, score, task) or 0), -draws, past, params)


def _worse(value: float, draws: np.ndarray, past: Sequence[float], params: Params) -> Worse:
    middle = float(np.median(past))
    found = interval_of(value, draws, params.gates.confidence)
    beyond = tuple(round(float(each - middle), 6) for each in past)
    usual = limit(beyond, params.monitor.false_alarm_rate)
    return Worse(value - middle, found.low - middle, found.high - middle, beyond, usual)


def no_history(monitor: str, rows: int) -> Finding:
    """UNKNOWN, for a model whose reference says nothing of quality."""
    reason = "the model keeps no history of its quality: train it again"
    return Finding(monitor, Verdict.UNKNOWN, None, None, rows, reason)
