"""Gates on how good the answers are, on rows with labels.

The level of a week's rate is what no model here can know, so that on the holdout rankings are
compared, and losses at the holdout's own level. A level, and a bias against a slice, is a fault of
the model where it shows on the rows that the model was trained on. To the margin of a comparison
comes what chance alone does to a retrain, see `models.yardstick.noise`.

ROC-AUC is the mean over `Task.contrasts`, and log loss that of `Task.losses`, of every task; log
odds are log probabilities of several classes, and a number in units of its scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from data.task import Task
from data.windows import Labelled
from models.bootstrap import Interval, auc_difference, block_bootstrap
from models.calibrate import Calibration, line
from models.candidates import BASE_RATE, linear_name
from models.evidence import Case
from models.quality import (
    at_level,
    brier_parts,
    expected_calibration_error,
    margins,
    ranking,
)
from models.verdict import Verdict, of_interval, step
from models.yardstick import levels


def beats_base_rate(case: Case) -> Verdict:
    """The whole interval of the gain in ROC-AUC over a constant must lie above the margin."""
    by = case.params.beat_base_rate_by
    return _ranks(case, "beats_base_rate", case.scores[BASE_RATE], by)


def beats_logistic(case: Case) -> Verdict:
    """The whole interval of the gain in ROC-AUC over the linear one must lie above the margin."""
    by = case.params.beat_logistic_by
    return _ranks(case, "beats_logistic", case.scores[linear_name(case.task)], by)


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
    return no_more_loss(name, case.holdout, case.score, other, margin, case.draws, case.task)


def no_more_loss(
    name: str,
    held: Labelled,
    score: np.ndarray,
    other: np.ndarray,
    margin: float,
    draws: Mapping[str, Any],
    task: Task,
) -> Verdict:
    """What `log_loss` says, of any two models' answers to the same rows."""
    difference = task.losses(held.label, score) - task.losses(held.label, other)
    interval = block_bootstrap(difference, held.day, **draws)
    passed = interval.value <= margin
    return of_interval(name, task.loss, interval, margin, len(held), passed)


def calibration(case: Case) -> Verdict:
    """Log loss at the holdout's own level, beyond the yardstick's: what spread and shape cost.

    It fails where the whole interval lies above the margin, or the value above three margins.
    """
    name = "calibration"
    margin = case.params.calibration_margin + case.retrain_noise.loss
    if unknown := _too_little(case, name, margin):
        return unknown
    label, task = case.holdout.label, case.task
    own, other = (at_level(label, score, task) for score in (case.score, case.yardstick_score))
    difference = task.losses(label, own) - task.losses(label, other)
    interval = block_bootstrap(difference, case.holdout.day, **case.draws)
    passed = interval.low <= margin and interval.value <= 3 * margin
    found = of_interval(name, f"{task.loss} at level", interval, margin, len(label), passed)
    parts = brier_parts(label, case.score, task)
    squares = "squared error" if task.kind == "regression" else "Brier"
    said = (
        f"{found.reason}; ECE {expected_calibration_error(label, case.score, task):.3f} "
        f"({expected_calibration_error(label, own, task):.3f} at level), {squares} = "
        f"{parts.reliability:.4f} - {parts.resolution:.4f} + {parts.uncertainty:.4f}"
    )
    return found.because(said)


def calibration_level(case: Case) -> Verdict:
    """On the training rows the mean answer must be the mean outcome, within the margin.

    The holdout's week swings, the past as a whole does not: a shift here is the model's own. What a
    calibration moves, learned on recent periods, is allowed if the artefact's is the one that the
    training's rolling scores lead to. Of several classes the one that is furthest off counts.
    """
    name, task, needed = "calibration_level", case.task, case.params.slice_past_rows
    margin = case.params.level_margin + case.retrain_noise.level
    label, score = case.seen.rows.label, case.past_score
    said, due = _calibration(case), case.calibration
    if not all(np.allclose(*pair, atol=1e-9)
               for pair in ((said.slope, due.slope), (said.shift, due.shift))):  # fmt: skip
        reason = (
            f"{step(task)} * {_shown(said)} is not the calibration that the rolling scores lead to "
            f"({_shown(due, ', ')})"
        )
        largest = float(max(np.atleast_1d(said.shift), key=abs))
        return Verdict(name, False, largest, margin, len(label), None, reason)
    before = (margins(score, task) - np.asarray(said.shift)) / said.slope
    found = levels(label, before, task, needed)
    outcome = max(found, key=lambda each: abs(found[each]))
    shift = -found[outcome]
    reason = (
        f"{step(task, outcome)} {shift:+.3f} too high on {len(label)} training rows before "
        f"calibration ({_means(label, score, task, outcome)}), up to {margin:.3f} is allowed"
    )
    return Verdict(name, abs(shift) <= margin, shift, margin, len(label), None, reason)


def _calibration(case: Case) -> Calibration:
    """What the artefact says of its own calibration."""
    return Calibration.from_json(case.challenger.training["calibration"])


def _shown(found: Calibration, between: str = " ") -> str:
    shifts = " ".join(f"{shift:+.3f}" for shift in np.atleast_1d(found.shift))
    return f"{found.slope:.3f}{between}{shifts}"


def _means(label: np.ndarray, score: np.ndarray, task: Task, outcome: str) -> str:
    if outcome:
        place = task.classes.index(outcome)
        label, score = label == place, score[:, place]
    told, known = score.mean(), label.mean()
    if task.kind == "regression":
        return f"mean prediction {told:.4g}, mean outcome {known:.4g}"
    return f"mean probability {told:.3f}, rate {known:.3f}"


def calibration_slope(case: Case) -> Verdict:
    """On the training rows log odds may be too timid, as regularised ones are, but not too bold.

    The slope of the outcome on the model's own log odds (Cox 1958), before calibration, must be at
    least the threshold and at most the yardstick's slope there times the allowed ratio. Of several
    classes one slope is that of all log probabilities, and a number's is the outcome's on it.
    """
    name, least, task = "calibration_slope", case.params.slope_minimum, case.task
    label = case.seen.rows.label
    own = _slope(label, case.past_score, task) * _calibration(case).slope
    most = case.params.slope_ratio * _slope(label, case.yardstick_past_score, task)
    reason = f"slope {own:.2f} on {len(label)} training rows, {least:.2f} to {most:.2f} is allowed"
    return Verdict(name, least <= own <= most, own, least, len(label), None, reason)


def _slope(label: np.ndarray, score: np.ndarray, task: Task) -> float:
    margin = margins(score, task)
    if not np.ptp(margin, axis=0).any():
        return 0.0
    if task.kind != "binary":
        return line(label, margin, task)[0]
    odds = margin[:, None]
    return float(LogisticRegression(C=1e9, max_iter=1000).fit(odds, label).coef_[0, 0])


def overfit(case: Case) -> Verdict:
    """ROC-AUC on the training rows minus that on the holdout, beyond the yardstick's same gap.

    It fails where the whole interval lies above the margin; the yardstick takes out how hard the
    held-out week is.
    """
    margin = case.params.overfit_margin + case.retrain_noise.auc
    other = case.yardstick_past_score, case.yardstick_score
    return _gap(case, "overfit", margin, other, lambda gap, _: gap.low <= margin)


def holdout_untouched(case: Case) -> Verdict:
    """The same gap must not be far below the yardstick's: then the held-out rows were trained on.

    It fails where the whole interval lies below minus the margin, and that of the gain over the
    yardstick on the held-out rows above it; and that over a linear model of the gates' own, too: a
    plainer model has a smaller gap than the yardstick, and ranks no better than such a one.
    """
    name, margin = "holdout_untouched", -case.params.untouched_margin

    def holds(gap: Interval, here: Interval) -> bool:
        return gap.high >= margin or here.low <= -margin

    other = case.yardstick_past_score, case.yardstick_score
    found = _gap(case, name, margin, other, holds)
    if found.passed is not False:
        return found
    held, task = case.holdout, case.task
    gain = auc_difference(held.label, case.score, case.plain_score, held.day,
                          **case.draws, task=task)  # fmt: skip
    return replace(found, passed=gain.low <= -margin)


def _gap(
    case: Case,
    name: str,
    margin: float,
    other: tuple[np.ndarray, np.ndarray],
    holds: Callable[[Interval, Interval], bool],
) -> Verdict:
    """The gap beyond that of other scores, of the training and of the held-out rows.

    Args:
        holds: judges it, and the gain on the held-out rows.
    """
    if unknown := _too_little(case, name, margin):
        return unknown
    past, held, task = case.seen.rows, case.holdout, case.task
    there = auc_difference(past.label, case.past_score, other[0],
                           past.day, **case.draws, task=task)  # fmt: skip
    here = auc_difference(held.label, case.score, other[1],
                          held.day, **case.draws, task=task)  # fmt: skip
    interval = Interval(there.value - here.value, there.low - here.high, there.high - here.low)
    own = [ranking(rows.label, score, task) for rows, score in
           ((past, case.past_score), (held, case.score))]  # fmt: skip
    found = of_interval(name, f"{task.ranking} gap", interval, margin, len(past),
                        holds(interval, here))  # fmt: skip
    return found.because(f"{found.reason}; {own[0]:.3f} in training, {own[1]:.3f} held out")


def _ranks(case: Case, name: str, other: np.ndarray, by: float) -> Verdict:
    if unknown := _too_little(case, name, by):
        return unknown
    held, task = case.holdout, case.task
    interval = auc_difference(held.label, case.score, other, held.day, **case.draws, task=task)
    return of_interval(name, task.ranking, interval, by, len(held), interval.low >= by)


def _not_worse(case: Case, name: str, other: np.ndarray, margin: float) -> Verdict:
    margin += case.retrain_noise.auc
    if unknown := _too_little(case, name, -margin):
        return unknown
    return no_worse_ranking(name, case.holdout, case.score, other, margin, case.draws, case.task)


def no_worse_ranking(
    name: str,
    held: Labelled,
    score: np.ndarray,
    other: np.ndarray,
    margin: float,
    draws: Mapping[str, Any],
    task: Task,
) -> Verdict:
    """What `not_worse_than_yardstick` says, of any two models' answers to the same rows."""
    interval = auc_difference(held.label, score, other, held.day, **draws, task=task)
    passed = interval.high >= -margin and interval.value >= -2 * margin
    return of_interval(name, task.ranking, interval, -margin, len(held), passed)


def _too_little(case: Case, name: str, threshold: float) -> Verdict | None:
    held, needed = case.holdout, case.params.minimum_rows
    differ = case.task.learnable(held.label)
    if len(held) >= needed and differ and len(np.unique(held.day)) > 1:
        return None
    outcomes = "both" if case.task.kind == "binary" else "different"
    reason = (
        f"{len(held)} rows cannot be judged ({needed}, {outcomes} outcomes and two days needed)"
    )
    return Verdict(name, None, None, threshold, len(held), None, reason)
