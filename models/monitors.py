"""Monitors of quality: served probabilities against matured labels; pure functions.

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
from data.verdicts import Finding, Verdict, twice
from models.bootstrap import auc_draws, interval_of, mean_draws
from models.quality import log_losses, measure
from models.tally import EVERYTHING, Slice, Tally, entropy, tallies, tally

QUALITY, CALIBRATION, ESTIMATED = "quality", "calibration", "estimated_quality"
SLICE_ROWS = 100
SHOWN = 12


@dataclass(frozen=True)
class Judged:
    """The answers of a period whose labels have matured.

    Attributes:
        label, probability, day: shape (n,), in order of event time.
        due: answers that can have a label.
        slices: name -> the value of each row, shape (n,).
        why: why there is none.
    """

    label: np.ndarray
    probability: np.ndarray
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

    Two ways to be worse: log loss beyond that of the period's own rate, and ROC-AUC. What is
    further beyond its limit decides, and only if the whole interval over bootstrapped days is.

    Args:
        reference: what out-of-fold scores reached, by period.
        last: what was said of the period before.
    """
    if (unknown := judged.too_few(QUALITY, params.monitor)) is not None:
        return unknown
    if not reference.slices:
        return _no_history(QUALITY, len(judged))
    found = measure(judged.label, judged.probability)
    loss, area = _loss(judged, reference, params), _area(judged, reference, params)
    worst = max([loss, *([area] if area else [])], key=lambda each: each.ratio)
    reason = f"log loss {found.log_loss:.3f}: beside the period's own rate {loss.value:+.3f} (at "
    reason += f"least {loss.low:+.3f}) more than the reference's median, {loss.usual.say()}"
    if area:
        reason += f"; ROC-AUC {found.roc_auc:.3f}: {area.value:+.3f} (at least {area.low:+.3f}) "
        reason += f"below the reference's median, {area.usual.say()}"
    reason += f"; {judged.missing} labels missing" if judged.missing else ""
    evidence = {
        **asdict(found),
        "worse": {"log_loss": asdict(loss), "roc_auc": asdict(area) if area else None},
        "coverage": judged.coverage,
        "missing": judged.missing,
        "past": list(worst.past),
    }
    threshold = worst.usual.value
    said = Finding(QUALITY, Verdict.OK, worst.low, threshold, len(judged), reason, evidence)
    return twice(said, worst.ratio > 1, last)


def _loss(judged: Judged, reference: Reference, params: Params) -> Worse:
    """Log loss beside that of the rows' own rate."""
    past = [each.added_loss for each in tallies(reference.slices[0])]
    added = log_losses(judged.label, judged.probability) - entropy(float(judged.label.mean()))
    draws = mean_draws(added, judged.day, params.gates.bootstrap_samples, params.train.seed)
    return _worse(float(added.mean()), draws, past, params)


def _area(judged: Judged, reference: Reference, params: Params) -> Worse | None:
    """ROC-AUC, negative so that more is worse; None where there is one outcome only."""
    past = [-area for area in reference.slices[0].roc_auc if area is not None]
    if not past or not 0 < judged.label.sum() < len(judged):
        return None
    given = (judged.label, judged.probability, judged.day)
    draws = auc_draws(*given, params.gates.bootstrap_samples, params.train.seed)
    return _worse(-float(measure(*given[:2]).roc_auc or 0), -draws, past, params)


def _worse(value: float, draws: np.ndarray, past: Sequence[float], params: Params) -> Worse:
    middle = float(np.median(past))
    found = interval_of(value, draws, params.gates.confidence)
    beyond = tuple(round(float(each - middle), 6) for each in past)
    usual = limit(beyond, params.monitor.false_alarm_rate)
    return Worse(value - middle, found.low - middle, found.high - middle, beyond, usual)


def calibration(
    judged: Judged, reference: Reference, params: Monitor, last: Finding | None
) -> Finding:
    """Whether probabilities are too high or too low: of everything, or of slices beyond that.

    The gap is in log odds. That of everything swings with the periods, and its limit with it; what
    the values of a slice add to it does not, and is counted in standard errors.
    """
    if (unknown := judged.too_few(CALIBRATION, params)) is not None:
        return unknown
    if not reference.slices:
        return _no_history(CALIBRATION, len(judged))
    now = tally(judged.label, judged.probability, judged.slices)
    past, rate = past_tallies(reference), params.false_alarm_rate
    gaps = np.array([each.bias for each in past[EVERYTHING]])
    scores = slice_scores(past, now)
    middle, gap = float(np.median(gaps)), now[EVERYTHING].bias
    held = {EVERYTHING[0]: (abs(gap - middle), limit(np.abs(gaps - middle).tolist(), rate))}
    history = slice_history(past)
    held |= {n: (v, limit(history[n], rate)) for n, v in spreads(scores).items() if n in history}
    name = max(held, key=lambda each: held[each][0] / max(held[each][1].value, 1e-9))
    value, usual = held[name]
    reason = f"probabilities are off by {gap:+.2f} log odds, {held[EVERYTHING[0]][1].say()}"
    shown = sorted(scores, key=lambda each: -abs(scores[each]))
    if name != EVERYTHING[0]:
        worst = next(each for each in shown if each[0] == name)
        reason += f"; values of {name} by {value:.2f} standard errors beyond that, {usual.say()}"
        reason += f"; most of all {worst[1]}, by {now[worst].bias - gap:+.2f}"
    evidence = {
        "gap": gap,
        "positive_rate": float(judged.label.mean()),
        "mean_probability": float(judged.probability.mean()),
        "past": gaps.tolist(),
        "resolved": usual.resolved,
        "held": {n: {"value": v, "threshold": u.value} for n, (v, u) in held.items()},
        "slices": [
            {"slice": s[0], "value": s[1], "rows": now[s].rows, "standard_errors": scores[s],
             "gap": now[s].bias - gap}
            for s in shown[:SHOWN]
        ],
    }  # fmt: skip
    said = Finding(CALIBRATION, Verdict.OK, value, usual.value, len(judged), reason, evidence)
    return twice(said, value > usual.value, last)


def past_tallies(reference: Reference) -> dict[Slice, list[Tally]]:
    """Every slice's sums in every period."""
    return {(each.slice, each.value): tallies(each) for each in reference.slices}


def slice_scores(
    past: Mapping[Slice, Sequence[Tally]], now: Mapping[Slice, Tally]
) -> dict[Slice, float]:
    """How far each slice's gap beyond the whole's is from what it was, in standard errors.

    The error is that of the sums, and what the gap itself moves from period to period.
    """
    found = {}
    for name, tally_now in now.items():
        if name == EVERYTHING or name not in past or tally_now.rows < SLICE_ROWS:
            continue
        before = [
            (each.bias - whole.bias, 1 / each.variance)
            for each, whole in zip(past[name], past[EVERYTHING], strict=True)
            if each.rows >= SLICE_ROWS and each.variance
        ]
        if len(before) < 2 or not tally_now.variance:
            continue
        gaps, errors = np.array(before).T
        moves = max(float(gaps.var(ddof=1) - errors.mean()), 0.0)
        spread = moves + float(gaps.var(ddof=1)) / len(gaps) + 1 / tally_now.variance
        gap = tally_now.bias - now[EVERYTHING].bias
        found[name] = float((gap - gaps.mean()) / np.sqrt(spread))
    return found


def spreads(scores: Mapping[Slice, float]) -> dict[str, float]:
    """How far the values of each slice are off together: the root mean square of their scores."""
    found: dict[str, list[float]] = {}
    for (name, _), score in scores.items():
        found.setdefault(name, []).append(score)
    return {name: float(np.sqrt(np.mean(np.square(each)))) for name, each in found.items()}


def slice_history(past: Mapping[Slice, Sequence[Tally]]) -> dict[str, list[float]]:
    """The same for each period of the reference against the others."""
    found: dict[str, list[float]] = {}
    for place in range(len(past[EVERYTHING])):
        others = {name: [*each[:place], *each[place + 1 :]] for name, each in past.items()}
        scores = slice_scores(others, {name: each[place] for name, each in past.items()})
        for name, value in spreads(scores).items():
            found.setdefault(name, []).append(value)
    return found


def estimated_quality(reference: Reference, scores: np.ndarray, minimum_rows: int) -> Finding:
    """What quality the scores alone suggest: a chart, never a trigger.

    Calibrated by the reference, each score says how often it is right (CBPE of NannyML); that is
    optimistic as soon as the relation itself has changed.
    """
    if len(scores) < minimum_rows or not reference.steps[0]:
        reason = f"{len(scores)} answers (at least {minimum_rows} are needed, and a reference)"
        return Finding(ESTIMATED, Verdict.UNKNOWN, None, None, len(scores), reason)
    chance = np.interp(scores, *reference.steps)
    order = np.argsort(scores, kind="stable")
    positive, negative = chance[order], 1 - chance[order]
    below = np.cumsum(negative) - negative / 2
    area = float((positive * below).sum() / max(positive.sum() * negative.sum(), 1e-12))
    loss = float(np.mean(-chance * np.log(np.clip(scores, 1e-7, 1))
                         - (1 - chance) * np.log(np.clip(1 - scores, 1e-7, 1))))  # fmt: skip
    reason = f"ROC-AUC {area:.3f} and log loss {loss:.3f}, if the relation has not changed"
    evidence = {"roc_auc": area, "log_loss": loss, "positive_rate": float(chance.mean())}
    return Finding(ESTIMATED, Verdict.OK, area, None, len(scores), reason, evidence)


def _no_history(monitor: str, rows: int) -> Finding:
    reason = "the model keeps no history of its quality: train it again"
    return Finding(monitor, Verdict.UNKNOWN, None, None, rows, reason)
