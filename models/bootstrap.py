"""Intervals that respect dependent rows: whole blocks are drawn, such as days."""

from dataclasses import dataclass

import numpy as np

from data.task import Task


@dataclass(frozen=True)
class Interval:
    """A point estimate with a two-sided bootstrap interval."""

    value: float
    low: float
    high: float

    def over(self, scale: float) -> "Interval":
        """The same in another unit."""
        return Interval(self.value / scale, self.low / scale, self.high / scale)


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
        above = ((multiplicity @ self.wins) * multiplicity).sum(1)
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
    task: Task,
) -> Interval:
    """ROC-AUC of `score` minus that of `other` on the same rows, with a paired block bootstrap.

    Args:
        block: of each row, shape (n,); see `block_bootstrap`.
    """
    place, counts = _draw(block, samples, seed)
    once = np.ones((1, counts.shape[1]))
    (one, draws), (its, others) = (
        [_area(label, values, place, times, task) for times in (once, counts)]
        for values in (score, other)
    )
    return interval_of(float((one - its)[0]), draws - others, confidence)


def auc_draws(
    label: np.ndarray,
    score: np.ndarray,
    block: np.ndarray,
    samples: int,
    seed: int,
    task: Task,
) -> np.ndarray:
    """ROC-AUC of resamples of whole blocks, shape (samples,)."""
    place, counts = _draw(block, samples, seed)
    return _area(label, score, place, counts, task)


def _area(
    label: np.ndarray, score: np.ndarray, place: np.ndarray, counts: np.ndarray, task: Task
) -> np.ndarray:
    """The mean over the task's contrasts of `_Wins.auc`."""
    blocks = counts.shape[1]
    each = [_wins(*contrast, place, blocks).auc(counts)
            for contrast in task.contrasts(label, score)]  # fmt: skip
    return np.asarray(np.mean(each, axis=0))


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
