"""Quality of probabilities against 0/1 outcomes, and intervals that respect dependent rows."""

from dataclasses import dataclass

import numpy as np
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
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    gaps = [len(part) * abs(label[part].mean() - probability[part].mean()) for part in parts]
    return float(sum(gaps) / len(label))


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
    _, place = np.unique(block, return_inverse=True)
    sums, counts = np.bincount(place, weights=values), np.bincount(place)
    draws = np.random.default_rng(seed).integers(len(sums), size=(samples, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high))
