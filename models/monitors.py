"""Monitors of quality: served probabilities against matured labels; pure functions.

A single period is noise (a storm is no fault of the model), so that what exceeds its limit warns,
and alarms when the period before did, too. Limits are what the reference's own periods reach.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from data.conformal import limit
from data.monitor_params import Monitor
from data.params import Params
from data.reference import Reference
from data.verdicts import Finding, Verdict, twice
from models.quality import block_bootstrap, log_losses, measure
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


def quality(judged: Judged, reference: Reference, params: Params, last: Finding | None) -> Finding:
    """Whether the answers are worse than the reference's own periods ever were.

    Two ways to be worse: log loss beyond that of the period's own rate, and ROC-AUC. What is
    further beyond its limit decides.

    Args:
        reference: what out-of-fold scores reached, by period.
        last: what was said of the period before.
    """
    if (unknown := judged.too_few(QUALITY, params.monitor)) is not None:
        return unknown
    if not reference.slices:
        return _no_history(QUALITY, len(judged))
    whole, found = reference.slices[0], measure(judged.label, judged.probability)
    loss = found.log_loss - entropy(found.positive_rate)
    past = [each.added_loss for each in tallies(whole)]
    areas = [area for area in whole.roc_auc if area is not None]
    rate = params.monitor.false_alarm_rate
    usual, above = limit(past, rate), loss - float(np.median(past))
    value, threshold = loss, usual
    low, high = _loss_interval(judged, params)
    reason = f"log loss {found.log_loss:.3f}, {loss:+.3f} [{low:+.3f}, {high:+.3f}] beside the "
    reason += f"period's own rate, {usual.say()}"
    if found.roc_auc is not None and areas:
        middle = float(np.median(areas))
        lost, usual_lost = middle - found.roc_auc, limit([middle - area for area in areas], rate)
        room = max(usual.value - float(np.median(past)), 1e-9)
        if lost / max(usual_lost.value, 1e-9) > above / room:
            value, threshold = lost, usual_lost
        reason += f"; ROC-AUC {found.roc_auc:.3f}, {lost:+.3f} below the reference's median, "
        reason += usual_lost.say()
    reason += f"; {judged.missing} labels missing" if judged.missing else ""
    evidence = {
        **asdict(found),
        "added_loss": {"value": loss, "low": low, "high": high},
        "coverage": judged.coverage,
        "missing": judged.missing,
        "past": past,
        "past_roc_auc": areas,
        "rate": threshold.rate,
    }
    said = Finding(QUALITY, Verdict.OK, value, threshold.value, len(judged), reason, evidence)
    return twice(said, value > threshold.value, last)


def _loss_interval(judged: Judged, params: Params) -> tuple[float, float]:
    """Log loss beside that of the rate, with whole days drawn."""
    found = block_bootstrap(
        log_losses(judged.label, judged.probability) - entropy(float(judged.label.mean())),
        judged.day,
        params.gates.bootstrap_samples,
        params.gates.confidence,
        params.train.seed,
    )
    return found.low, found.high


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
        "rate": usual.rate,
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
