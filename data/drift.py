"""Has a window drifted from the reference more than the reference drifts by itself?

The distance of two periods in one column is the population stability index (PSI, Siddiqi 2006);
that of a window is its distance from the nearest period of the reference, so that what the model
has seen once, such as another season, is no drift. PSI's usual limit of 0.2 says nothing about
seasonal data: each distance is held against the largest that a period of the reference has from the
others in that column. The statistic is the largest of these ratios, and its limit what the
reference's own periods reach, each against the others, see `data.conformal`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np

from data.conformal import Limit, joint, limit
from data.reference import SCORE, Reference
from data.verdicts import Finding, Verdict, twice

FEATURE_DRIFT, SCORE_DRIFT = "feature_drift", "score_drift"
RATE = 0.05
FLOOR = 1e-4  # of a share
NOISE = 0.02  # PSI that two samples of a few hundred rows have anyway


@dataclass(frozen=True)
class ColumnDrift:
    """PSI of one column to the nearest period, and what is usual for it within the reference.

    Attributes:
        ratio: of both; the noise of a sample is added to each.
        limit: the PSI from which this column alone is an alarm.
    """

    name: str
    psi: float
    usual: float
    ratio: float
    limit: float


@dataclass(frozen=True)
class Distance:
    """How far a window is from all of the reference together: what a retrain would learn from.

    Attributes:
        psi: the largest of any feature, of `column`.
        limit: the largest that a period of the reference has against all others together.
    """

    column: str
    psi: float
    limit: float


@dataclass(frozen=True)
class DriftReport:
    """The drift of one window; `columns` are sorted by ratio, largest first.

    Attributes:
        statistic: the largest ratio; None without enough rows.
        resolved: how often a period like the reference's exceeds what these showed, at most.
        odd: the period of the reference that is unlike all others, and sets no limit.
        whole: the distance from all periods together; the verdict is about the nearest one.
        past: the statistic of each period of the reference.
    """

    verdict: Verdict
    statistic: float | None
    limit: float
    resolved: float
    odd: str | None
    rows: int
    columns: tuple[ColumnDrift, ...]
    score: ColumnDrift | None
    reason: str
    whole: Distance | None = None
    past: tuple[float, ...] = ()

    def finding(self) -> Finding:
        """The same as every monitor says it."""
        columns = [asdict(column) for column in self.columns]
        whole = asdict(self.whole) if self.whole else None
        evidence = {
            "columns": columns,
            "resolved": self.resolved,
            "odd": self.odd,
            "whole": whole,
            "past": list(self.past),
        }
        return Finding(
            FEATURE_DRIFT,
            self.verdict,
            self.statistic,
            self.limit,
            self.rows,
            self.reason,
            evidence,
        )

    def score_finding(self, last: Finding | None = None) -> Finding:
        """What is said of the scores; `last` is what was said of the period before."""
        if self.score is None:
            return Finding(SCORE_DRIFT, Verdict.UNKNOWN, None, None, self.rows, self.reason)
        score = self.score
        of = "the scores" if score.name == SCORE else score.name
        reason = f"PSI of {of} {score.psi:.3f}; the reference itself reaches {score.limit:.3f}"
        found = Finding(SCORE_DRIFT, Verdict.OK, score.psi, score.limit, self.rows, reason)
        return twice(found, score.psi > score.limit, last)


@dataclass(frozen=True, eq=False)
class Usual:
    """How far the reference's own periods are from each other.

    Attributes:
        shares: of each column's bins, floored, shape (periods, bins + 1).
        own: the largest distance of a period from the others, by column; the odd one apart.
        past: the largest ratio of each period but the odd one.
        limit: for the largest ratio; score: for the PSI of the scores, of several the largest.
    """

    shares: tuple[np.ndarray, ...]
    own: np.ndarray
    past: tuple[float, ...]
    limit: Limit
    score: Limit


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """Population stability index between two histograms of counts, shares floored at 1e-4."""
    return float(_psi(_shares(expected), _shares(actual)))


def _psi(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """PSI of floored shares over the last axis."""
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def _shares(counts: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.maximum(shares, FLOOR))


def compare(
    reference: Reference,
    matrix: np.ndarray,
    scores: np.ndarray,
    minimum_rows: int,
    rate: float = RATE,
) -> DriftReport:
    """Compare a window with the reference.

    Args:
        reference: the profile kept with the model.
        matrix: the window's features, shape (n, features), in the reference's order.
        scores: the answers that were served for them, shape (n,) or (n, classes).
        minimum_rows: with fewer rows the verdict is UNKNOWN.
        rate: how often a period like the reference's may be above the limit.
    """
    rows, width = matrix.shape
    usual = usual_of(reference, width, rate)
    name = None if usual.limit.odd is None else reference.periods[usual.limit.odd]
    about = usual.limit.value, usual.limit.resolved, name, rows
    if rows < minimum_rows:
        reason = f"{rows} rows are too few to judge drift: {minimum_rows} are needed"
        return DriftReport(Verdict.UNKNOWN, None, *about, (), None, reason)
    values = [*matrix.T, *(scores.T if scores.ndim > 1 else [scores])]
    pairs = zip(reference.histograms, values, strict=True)
    counts = [histogram.count(column) for histogram, column in pairs]
    drifts = []
    for place, histogram in enumerate(reference.histograms):
        near = float(_psi(usual.shares[place], _shares(counts[place])).min())
        own = float(usual.own[place])
        ratio, limit_ = (near + NOISE) / (own + NOISE), usual.limit.value * (own + NOISE) - NOISE
        drifts.append(ColumnDrift(histogram.name, near, own, ratio, limit_))
    score = max(drifts[width:], key=lambda drift: drift.psi)
    score = replace(score, limit=usual.score.value)
    columns = tuple(sorted(drifts[:width], key=lambda drift: -drift.ratio))
    verdict, reason = _judge(columns, usual.limit, name)
    whole = distance(reference, counts[:width])
    return DriftReport(verdict, columns[0].ratio, *about, columns, score, reason, whole, usual.past)


def distance(reference: Reference, counts: Sequence[np.ndarray]) -> Distance:
    """How far a window is from all periods of the reference together.

    Args:
        counts: its histogram of every feature, shape (bins + 1,) each.
    """
    found = {
        histogram.name: psi(np.asarray(histogram.counts).sum(axis=0), mine)
        for histogram, mine in zip(reference.histograms, counts, strict=False)
    }
    top = max(found, key=lambda name: found[name])
    return Distance(top, found[top], _usual_distance(reference, len(counts)))


@lru_cache(maxsize=8)
def _usual_distance(reference: Reference, width: int) -> float:
    """The largest PSI of any feature in one period against all others together."""
    found = []
    for histogram in reference.histograms[:width]:
        counts = np.asarray(histogram.counts)
        found.append(_psi(_shares(counts.sum(axis=0) - counts), _shares(counts)).max())
    return float(max(found))


def _judge(columns: tuple[ColumnDrift, ...], usual: Limit, name: str | None) -> tuple[Verdict, str]:
    top = columns[0]
    reason = f"{top.name} is {top.ratio:.2f} times as far from the nearest period as those of the "
    reason += f"reference are (PSI {top.psi:.2f}), {usual.say()}"
    reason += f"; {name} is unlike all others and sets no limit" if name else ""
    return (Verdict.ALARM if top.ratio > usual.value else Verdict.OK), reason


@lru_cache(maxsize=8)
def usual_of(reference: Reference, width: int, rate: float = RATE) -> Usual:
    """What is usual within a reference of two or more periods.

    Args:
        width: how many columns are features; scores follow.
    """
    shares = tuple(_shares(histogram.counts) for histogram in reference.histograms)
    distances = np.array([_psi(table[:, None], table[None]) for table in shares])
    periods = np.arange(distances.shape[1])
    distances[:, periods, periods] = np.inf
    near = distances.min(axis=2)
    found, scores = joint(near[:width] + NOISE, rate), near[width:]
    own = np.append(found.own - NOISE, scores.max(axis=1))
    usual = limit(scores.max(axis=0).tolist(), rate)
    return Usual(shares, own, found.past, found.limit, usual)
