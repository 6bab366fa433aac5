"""Gates on how good the answers are, on rows with labels.

The level of a week's rate is what no model here can know, so that on the holdout rankings are
compared, and losses at the holdout's own level. A level, and a bias against a slice, is a fault of
the model where it shows on the rows that the model was trained on. To the margin of a comparison
comes what chance alone does to a retrain, see `models.yardstick.noise`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.calibrate import Calibration
from models.candidates import BASE_RATE, LOGISTIC
from models.evidence import Case
from models.quality import (
    Interval,
    at_level,
    auc_difference,
    block_bootstrap,
    brier_parts,
    expected_calibration_error,
    level_shift,
    log_losses,
    log_odds,
)
from models.slices import SliceFinding
from models.verdict import Verdict


def beats_base_rate(case: Case) -> Verdict:
    """The whole interval of the gain in ROC-AUC over a constant must lie above the margin."""
    by = case.params.beat_base_rate_by
    return _ranks(case, "beats_base_rate", case.scores[BASE_RATE], by)


def beats_logistic(case: Case) -> Verdict:
    """The whole interval of the gain in ROC-AUC over the linear one must lie above the margin."""
    by = case.params.beat_logistic_by
    return _ranks(case, "beats_logistic", case.scores[LOGISTIC], by)


def not_worse_than_yardstick(case: Case) -> Verdict:
    """The loss in ROC-AUC may be above the margin by chance only, and never above twice it.

    It fails where the whole interval lies below -margin, or the difference itself below -2 margins.
    """
    return _not_worse(case, "not_worse_than_yardstick", case.yardstick_score,
                      case.params.yardstick_margin)  # fmt: skip


def not_worse_than_champion(case: Case) -> Verdict | None:
    """As `not_worse_than_yardstick`, against the champion on the same rows, if there is one."""
    if case.champion_score is None:
        return None
    margin = case.params.champion_margin
    return _not_worse(case, "not_worse_than_champion", case.champion_score, margin)


def log_loss(case: Case) -> Verdict:
    """The mean log loss may exceed the champion's (else the base rate's) by at most the margin."""
    name = "log_loss"
    margin = case.params.log_loss_margin + case.retrain_noise.loss
    if unknown := _too_little(case, name, margin):
        return unknown
    other = case.champion_score
    other = case.scores[BASE_RATE] if other is None else other
    label = case.holdout.label
    difference = log_losses(label, case.score) - log_losses(label, other)
    interval = block_bootstrap(difference, case.holdout.day, **case.draws)
    passed = interval.value <= margin
    return _verdict(name, "log loss", interval, margin, len(label), passed)


def calibration(case: Case) -> Verdict:
    """Log loss at the holdout's own level, beyond the yardstick's: what spread and shape cost.

    It fails where the whole interval lies above the margin, or the value above three margins.
    """
    name = "calibration"
    margin = case.params.calibration_margin + case.retrain_noise.loss
    if unknown := _too_little(case, name, margin):
        return unknown
    label = case.holdout.label
    own, other = (at_level(label, score) for score in (case.score, case.yardstick_score))
    difference = log_losses(label, own) - log_losses(label, other)
    interval = block_bootstrap(difference, case.holdout.day, **case.draws)
    passed = interval.low <= margin and interval.value <= 3 * margin
    found = _verdict(name, "log loss at level", interval, margin, len(label), passed)
    parts = brier_parts(label, case.score)
    said = (
        f"{found.reason}; ECE {expected_calibration_error(label, case.score):.3f} "
        f"({expected_calibration_error(label, own):.3f} at level), Brier = "
        f"{parts.reliability:.4f} - {parts.resolution:.4f} + {parts.uncertainty:.4f}"
    )
    return _with_reason(found, said)


def calibration_level(case: Case) -> Verdict:
    """On the training rows the mean probability must be their rate, within the margin of log odds.

    The holdout's week swings, the past as a whole does not: a shift here is the model's own. What a
    calibration moves, learned on recent periods, is allowed if the artefact's is the one that the
    training's rolling scores lead to.
    """
    name = "calibration_level"
    margin = case.params.level_margin + case.retrain_noise.level
    label, score = case.seen.rows.label, case.past_score
    said, due = _calibration(case), case.calibration
    if not np.allclose((said.slope, said.shift), (due.slope, due.shift), atol=1e-9):
        reason = (
            f"log odds * {said.slope:.3f} {said.shift:+.3f} is not the calibration that the "
            f"rolling scores lead to ({due.slope:.3f}, {due.shift:+.3f})"
        )
        return Verdict(name, False, said.shift, margin, len(label), None, reason)
    odds = log_odds(score)
    shift = -level_shift(label, (odds - said.shift) / said.slope)
    reason = (
        f"log odds {shift:+.3f} too high on {len(label)} training rows before calibration (mean "
        f"probability {score.mean():.3f}, rate {label.mean():.3f}), up to {margin:.3f} is allowed"
    )
    return Verdict(name, abs(shift) <= margin, shift, margin, len(label), None, reason)


def _calibration(case: Case) -> Calibration:
    """What the artefact says of its own calibration."""
    return Calibration.from_json(case.challenger.training["calibration"])


def calibration_slope(case: Case) -> Verdict:
    """On the training rows log odds may be too timid, as regularised ones are, but not too bold.

    The slope of the outcome on the model's own log odds (Cox 1958), before calibration, must be at
    least the threshold and at most the yardstick's slope there times the allowed ratio.
    """
    name, least = "calibration_slope", case.params.slope_minimum
    label = case.seen.rows.label
    own = _slope(label, case.past_score) * _calibration(case).slope
    most = case.params.slope_ratio * _slope(label, case.yardstick_past_score)
    reason = f"slope {own:.2f} on {len(label)} training rows, {least:.2f} to {most:.2f} is allowed"
    return Verdict(name, least <= own <= most, own, least, len(label), None, reason)


def _slope(label: np.ndarray, probability: np.ndarray) -> float:
    odds = log_odds(probability)[:, None]
    if np.ptp(odds) == 0:
        return 0.0
    return float(LogisticRegression(C=1e9, max_iter=1000).fit(odds, label).coef_[0, 0])


def overfit(case: Case) -> Verdict:
    """ROC-AUC on the training rows minus that on the holdout, beyond the yardstick's same gap.

    It fails where the whole interval lies above the margin; the yardstick takes out how hard the
    held-out week is.
    """
    margin = case.params.overfit_margin
    return _gap(case, "overfit", margin, lambda interval: interval.low <= margin)


def holdout_untouched(case: Case) -> Verdict:
    """The same gap must not be far below the yardstick's: then the held-out rows were trained on.

    It fails where the whole interval lies below minus the margin.
    """
    margin = -case.params.untouched_margin
    return _gap(case, "holdout_untouched", margin, lambda interval: interval.high >= margin)


def _gap(case: Case, name: str, margin: float, holds: Callable[[Interval], bool]) -> Verdict:
    if unknown := _too_little(case, name, margin):
        return unknown
    past, held = case.seen.rows, case.holdout
    there = auc_difference(past.label, case.past_score, case.yardstick_past_score,
                           past.day, **case.draws)  # fmt: skip
    here = auc_difference(held.label, case.score, case.yardstick_score, held.day, **case.draws)
    interval = Interval(there.value - here.value, there.low - here.high, there.high - here.low)
    own = [roc_auc_score(rows.label, score) for rows, score in
           ((past, case.past_score), (held, case.score))]  # fmt: skip
    found = _verdict(name, "ROC-AUC gap", interval, margin, len(past), holds(interval))
    return _with_reason(found, f"{found.reason}; {own[0]:.3f} in training, {own[1]:.3f} held out")


def slice_bias(case: Case) -> Verdict:
    """No slice's probabilities may be off by more than the margin of log odds on training rows.

    It fails where a slice's whole interval lies beyond the margin, or its value beyond three.
    """
    margin = case.params.slice_bias_margin + case.retrain_noise.slice_bias
    known = [(f, f.bias) for f in case.slices if f.bias]
    return _worst("slice_bias", known, margin, "log odds", case.params.slice_past_rows, both=True)


def slice_fit(case: Case) -> Verdict:
    """On training rows no slice, nor the whole, may lose more log loss than the yardstick does.

    It fails where a slice's whole interval lies above the margin, or its value above three: the
    model did not learn these rows, or learned other labels than they have.
    """
    margin = case.params.slice_fit_margin
    known = [(f, f.fit) for f in case.slices if f.fit]
    return _worst("slice_fit", known, margin, "log loss in training", case.params.slice_past_rows)


def slice_regression(case: Case) -> Verdict:
    """No slice may lose more log loss than the margin against the champion, else the yardstick.

    It fails where a slice's whole interval lies above the margin, or its value above three.
    """
    margin = case.params.slice_loss_margin + case.retrain_noise.slice_loss
    known = [(f, f.regression) for f in case.slices if f.regression]
    return _worst("slice_regression", known, margin, f"log loss against the {case.compared[0]}",
                  case.params.slice_rows)  # fmt: skip


def _worst(
    name: str,
    known: list[tuple[SliceFinding, Interval]],
    margin: float,
    unit: str,
    needed: int,
    both: bool = False,
) -> Verdict:
    if not known:
        reason = f"no slice has {needed} rows on two days"
        return Verdict(name, None, None, margin, 0, None, reason)

    def beyond(interval: Interval) -> float:
        """How far the nearer end of an interval, or a third of its value, lies out."""
        low = max(interval.low, interval.value / 3)
        return max(low, -interval.high, -interval.value / 3) if both else low

    finding, interval = max(known, key=lambda item: beyond(item[1]))
    where = f"{finding.slice}={finding.value}"
    found = _verdict(name, f"{where}: {unit}", interval, margin, len(known),
                     beyond(interval) <= margin)  # fmt: skip
    return _with_reason(found, f"{found.reason}, the worst of {len(known)} slices")


def _ranks(case: Case, name: str, other: np.ndarray, by: float) -> Verdict:
    if unknown := _too_little(case, name, by):
        return unknown
    held = case.holdout
    interval = auc_difference(held.label, case.score, other, held.day, **case.draws)
    return _verdict(name, "ROC-AUC", interval, by, len(held), interval.low >= by)


def _not_worse(case: Case, name: str, other: np.ndarray, margin: float) -> Verdict:
    margin += case.retrain_noise.auc
    if unknown := _too_little(case, name, -margin):
        return unknown
    held = case.holdout
    interval = auc_difference(held.label, case.score, other, held.day, **case.draws)
    passed = interval.high >= -margin and interval.value >= -2 * margin
    return _verdict(name, "ROC-AUC", interval, -margin, len(held), passed)


def _too_little(case: Case, name: str, threshold: float) -> Verdict | None:
    held, needed = case.holdout, case.params.minimum_rows
    both = 0 < held.label.sum() < len(held)
    if len(held) >= needed and both and len(np.unique(held.day)) > 1:
        return None
    reason = f"{len(held)} rows cannot be judged ({needed}, both outcomes and two days needed)"
    return Verdict(name, None, None, threshold, len(held), None, reason)


def _verdict(
    name: str, metric: str, interval: Interval, threshold: float, n: int, passed: bool
) -> Verdict:
    reason = (
        f"{metric} {interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] "
        f"against {threshold:+.4f}"
    )
    bounds = (interval.low, interval.high)
    return Verdict(name, bool(passed), interval.value, threshold, n, bounds, reason)


def _with_reason(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, reason=reason)
