"""Quality of answers against outcomes: metrics, calibration, level.

Everywhere: `label` (n,) and `score` (n,), or (n, classes), as `data.task` has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax
from sklearn.metrics import average_precision_score, f1_score, r2_score, roc_auc_score

from data.task import EPSILON, Task

CALIBRATION_BINS = 10
ROUNDS = 200  # of the search for the level of several classes


@dataclass(frozen=True)
class Quality:
    """Metrics of one model on one set of rows; None where they are not defined.

    Attributes:
        roc_auc: the mean over `Task.contrasts`.
        log_loss: the mean of `Task.losses`.
    """

    rows: int
    roc_auc: float | None
    log_loss: float
    calibration_error: float


@dataclass(frozen=True)
class BinaryQuality(Quality):
    """Of probabilities for two outcomes."""

    positive_rate: float
    mean_probability: float
    pr_auc: float | None
    brier: float


@dataclass(frozen=True)
class ClassQuality(Quality):
    """Of probabilities for several classes; `accuracy` and `f1` (macro) are of the likeliest."""

    brier: float
    accuracy: float
    f1: float


@dataclass(frozen=True)
class NumberQuality(Quality):
    """Of numbers; means and errors in the outcome's unit."""

    mean: float
    mean_prediction: float
    r2: float | None
    rmse: float
    mae: float


def measure(label: np.ndarray, score: np.ndarray, task: Task) -> Quality:
    """All metrics of answers to rows with these labels; there must be one."""
    auc, loss = ranking(label, score, task), float(task.losses(label, score).mean())
    common = (len(label), auc, loss, expected_calibration_error(label, score, task))
    if task.kind == "regression":
        differ, known = label - score, task.learnable(label)
        r2 = float(r2_score(label, score)) if known else None
        errors = float(np.sqrt((differ**2).mean())), float(np.abs(differ).mean())
        return NumberQuality(*common, float(label.mean()), float(score.mean()), r2, *errors)
    brier = float(task.squared_errors(label, score).mean())
    if task.kind == "multiclass":
        best = score.argmax(axis=1)
        f1 = float(f1_score(label, best, average="macro", zero_division=0.0))
        return ClassQuality(*common, brier, float((best == label).mean()), f1)
    precision = None if auc is None else float(average_precision_score(label, score))
    return BinaryQuality(*common, float(label.mean()), float(score.mean()), precision, brier)


def ranking(label: np.ndarray, score: np.ndarray, task: Task) -> float | None:
    """Mean ROC-AUC over the task's contrasts; None where all labels are the same."""
    if not task.learnable(label):
        return None
    return float(np.mean([roc_auc_score(*each) for each in task.contrasts(label, score)]))


def expected_calibration_error(label: np.ndarray, score: np.ndarray, task: Task) -> float:
    """ECE over ten bins of equal count (Naeini et al. 2015): mean |observed - predicted|.

    Of several classes the mean of each one's (Kull et al. 2019); of numbers in units of the scale.
    """
    each = [sum(len(part) * abs(observed[part].mean() - told[part].mean()) for part in _bins(told))
            for observed, told in _columns(label, score, task)]  # fmt: skip
    return float(np.mean(each) / len(label) / task.scale)


def _columns(
    label: np.ndarray, score: np.ndarray, task: Task
) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Outcome and answer of each class, or of the one number there is."""
    if not task.classes:
        return [(label, score)]
    return list(zip(task.hot(label).T, score.T, strict=True))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log odds, shape (n,); probabilities of 0 and 1 are moved inside by `EPSILON`."""
    return np.asarray(logit(np.clip(probability.astype(np.float64), EPSILON, 1 - EPSILON)))


def margins(score: np.ndarray, task: Task) -> np.ndarray:
    """Answers on the scale on which models add up: log odds, log probabilities, or as they are."""
    if task.kind == "regression":
        return score.astype(np.float64)
    if task.kind == "multiclass":
        return np.asarray(np.log(np.clip(score.astype(np.float64), EPSILON, 1)))
    return log_odds(score)


def answers(margin: np.ndarray, task: Task) -> np.ndarray:
    """The answers at these margins."""
    if task.kind == "regression":
        return margin
    return np.asarray(softmax(margin, axis=1) if task.kind == "multiclass" else expit(margin))


def level_shift(label: np.ndarray, margin: np.ndarray, task: Task) -> np.ndarray:
    """What to add to margins so that the mean answer is that of the labels.

    Shape (); of several classes (classes,), with mean 0.
    """
    if task.kind == "regression":
        return np.asarray(label.mean() - margin.mean())
    if task.kind == "binary":
        rate = np.clip(label.mean(), EPSILON, 1 - EPSILON)
        return np.asarray(brentq(lambda shift: expit(margin + shift).mean() - rate, -40.0, 40.0))
    rates = np.clip(task.constant(label), EPSILON, 1)
    shift = np.zeros(task.width)
    for _ in range(ROUNDS):  # iterative proportional fitting, as in Saerens et al. (2002)
        change = np.log(rates / softmax(margin + shift, axis=1).mean(axis=0))
        shift += change
        if np.ptp(change) < 1e-10:
            break
    return np.asarray(shift - shift.mean())


def at_level(label: np.ndarray, score: np.ndarray, task: Task) -> np.ndarray:
    """Answers moved to the labels' level: what is left of an error is not the level's."""
    margin = margins(score, task)
    return answers(margin + level_shift(label, margin, task), task)


@dataclass(frozen=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty (Murphy 1973), over bins."""

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(label: np.ndarray, score: np.ndarray, task: Task) -> BrierParts:
    """The decomposition over ten bins of equal count; what varies within a bin is left out.

    Summed over classes; of numbers the squared error's, in units of the squared scale.
    """
    parts = [_brier_parts(*each) for each in _columns(label / task.scale if not task.classes
             else label, score / task.scale, task)]  # fmt: skip
    return BrierParts(*np.sum(parts, axis=0).tolist())


def _brier_parts(label: np.ndarray, score: np.ndarray) -> tuple[float, float, float]:
    mean, n = float(label.mean()), len(label)
    found = [(len(part), label[part].mean(), score[part].mean()) for part in _bins(score)]
    return (
        float(sum(k * (p - y) ** 2 for k, y, p in found) / n),
        float(sum(k * (y - mean) ** 2 for k, y, _ in found) / n),
        float(np.var(label)),
    )


def calibration_points(
    label: np.ndarray, score: np.ndarray, task: Task
) -> tuple[tuple[float, float], ...]:
    """(mean answer, mean outcome) of ten bins of equal count, ascending; classes are pooled."""
    told, observed = score.ravel(), task.hot(label).ravel()
    return tuple((float(told[part].mean()), float(observed[part].mean()))
                 for part in _bins(told))  # fmt: skip


def _bins(probability: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(probability, kind="stable")
    return [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
