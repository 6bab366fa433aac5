"""Quality of probabilities against 0/1 outcomes, and intervals that respect dependent rows."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score

EPSILON = 1e-7
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Quality:
    """Metrics of one model on one set of rows; None where they are not defined."""

    rows: int
    positive_rate: float
    mean_probability: float
    roc_auc: float | None
    pr_auc: float | None
    log_loss: float
    brier: float
    calibration_error: float


@dataclass(frozen=True)
class Interval:
    """A point estimate with a two-sided bootstrap interval."""

    value: float
    low: float
    high: float

    def over(self, scale: float) -> "Interval":
        """The same in another unit."""
        return Interval(self.value / scale, self.low / scale, self.high / scale)


def measure(label: np.ndarray, probability: np.ndarray) -> Quality:
    """All metrics of probabilities (n,) for labels (n,) of 0 and 1; n must be positive."""
    both = 0 < label.sum() < len(label)
    return Quality(
        rows=len(label),
        positive_rate=float(label.mean()),
        mean_probability=float(probability.mean()),
        roc_auc=float(roc_auc_score(label, probability)) if both else None,
        pr_auc=float(average_precision_score(label, probability)) if both else None,
        log_loss=float(log_losses(label, probability).mean()),
        brier=float(((probability - label) ** 2).mean()),
        calibration_error=expected_calibration_error(label, probability),
    )


def log_losses(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Each row's log loss in nats, shape (n,)."""
    p = np.clip(probability.astype(np.float64), EPSILON, 1 - EPSILON)
    return -np.where(label == 1, np.log(p), np.log1p(-p))


def expected_calibration_error(label: np.ndarray, probability: np.ndarray) -> float:
    """ECE over ten bins of equal count (Naeini et al. 2015): mean |observed - predicted|."""
    gaps = [len(part) * abs(label[part].mean() - probability[part].mean())
            for part in _bins(probability)]  # fmt: skip
    return float(sum(gaps) / len(label))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log odds, shape (n,); probabilities of 0 and 1 are moved inside by `EPSILON`."""
    return np.asarray(logit(np.clip(probability.astype(np.float64), EPSILON, 1 - EPSILON)))


def level_shift(label: np.ndarray, odds: np.ndarray) -> float:
    """What to add to log odds (n,) so that their mean probability is the labels' rate."""
    rate = np.clip(label.mean(), EPSILON, 1 - EPSILON)
    return float(brentq(lambda shift: expit(odds + shift).mean() - rate, -40.0, 40.0))


def at_level(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Probabilities moved to the labels' rate: what is left of an error is not the level's."""
    odds = log_odds(probability)
    return np.asarray(expit(odds + level_shift(label, odds)))


@dataclass(frozen=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty (Murphy 1973), over bins."""

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(label: np.ndarray, probability: np.ndarray) -> BrierParts:
    """The decomposition over ten bins of equal count; what varies within a bin is left out."""
    rate, n = float(label.mean()), len(label)
    found = [(len(part), label[part].mean(), probability[part].mean())
             for part in _bins(probability)]  # fmt: skip
    return BrierParts(
        reliability=float(sum(k * (p - y) ** 2 for k, y, p in found) / n),
        resolution=float(sum(k * (y - rate) ** 2 for k, y, _ in found) / n),
        uncertainty=rate * (1 - rate),
    )


def calibration_points(
    label: np.ndarray, probability: np.ndarray
) -> tuple[tuple[float, float], ...]:
    """(mean probability, observed rate) of ten bins of equal count, ascending."""
    return tuple((float(probability[part].mean()), float(label[part].mean()))
                 for part in _bins(probability))  # fmt: skip


def _bins(probability: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(probability, kind="stable")
    return [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]


@dataclass(frozen=True)
class _Wins:
    """How often a positive of block i scores above a negative of block j; ties count half.

    From these counts the ROC-AUC of any resample of whole blocks follows without sorting again.
    """

    wins: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    def auc(self, multiplicity: np.ndarray) -> np.ndarray:
        """ROC-AUC of resamples; `multiplicity` (samples, blocks) says how often each was drawn."""
        above = np.einsum("si,ij,sj->s", multiplicity, self.wins, multiplicity)
        pairs = (multiplicity @ self.positives) * (multiplicity @ self.negatives)
        return np.asarray(above / np.maximum(pairs, 1))


def _wins(label: np.ndarray, score: np.ndarray, place: np.ndarray, blocks: int) -> _Wins:
    positive = label == 1
    wins = np.zeros((blocks, blocks))
    for block in range(blocks):
        below = np.sort(score[~positive & (place == block)])
        left = np.searchsorted(below, score[positive], side="left")
        right = np.searchsorted(below, score[positive], side="right")
        wins[:, block] = np.bincount(place[positive], (left + right) / 2, minlength=blocks)
    counts = [np.bincount(place[rows], minlength=blocks) for rows in (positive, ~positive)]
    return _Wins(wins, *counts)


def auc_difference(
    label: np.ndarray,
    score: np.ndarray,
    other: np.ndarray,
    block: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """ROC-AUC of `score` minus that of `other` on the same rows, with a paired block bootstrap.

    Args:
        label, score, other, block: one value per row, shape (n,); see `block_bootstrap`.
    """
    place, counts = _draw(block, samples, seed)
    blocks = counts.shape[1]
    own, others = (_wins(label, values, place, blocks) for values in (score, other))
    once = np.ones((1, blocks))
    value = float((own.auc(once) - others.auc(once))[0])
    return interval_of(value, own.auc(counts) - others.auc(counts), confidence)


def auc_draws(
    label: np.ndarray, score: np.ndarray, block: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """ROC-AUC of resamples of whole blocks, shape (samples,)."""
    place, counts = _draw(block, samples, seed)
    return _wins(label, score, place, counts.shape[1]).auc(counts)


def mean_draws(values: np.ndarray, block: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Mean of `values` (n,) of resamples of whole blocks, shape (samples,)."""
    place, counts = _draw(block, samples, seed)
    sums = np.bincount(place, weights=values)
    return np.asarray(counts @ sums / (counts @ np.bincount(place)))


def block_bootstrap(
    values: np.ndarray,
    block: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Interval of a mean whose rows are dependent within blocks (Künsch 1989).

    Args:
        values: one value per row, shape (n,).
        block: the block of each row, such as its day, shape (n,); whole blocks are drawn.
        samples: how many times to draw.
        confidence: share of draws between `low` and `high`.
        seed: makes the draws repeatable.
    """
    draws = mean_draws(values, block, samples, seed)
    return interval_of(float(values.mean()), draws, confidence)


def _draw(block: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row's block as a number (n,), and how often each is drawn (samples, blocks)."""
    names, place = np.unique(block, return_inverse=True)
    draws = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
    return place, np.apply_along_axis(np.bincount, 1, draws, minlength=len(names))


def interval_of(value: float, draws: np.ndarray, confidence: float) -> Interval:
    """The central `confidence` of bootstrap draws (samples,) around a point estimate."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
