"""Has a window drifted from the reference more than the reference drifts by itself?

The statistic is the population stability index (PSI) of Siddiqi (2006). Its usual limit of 0.2 says
nothing about seasonal data, so the limit here is the reference's own: what its periods show against
the others, see `data.conformal`.
"""

from dataclasses import asdict, dataclass

import numpy as np

from data.conformal import Limit, limit
from data.reference import SCORE, Histogram, Reference
from data.verdicts import Finding, Verdict, twice

FEATURE_DRIFT, SCORE_DRIFT = "feature_drift", "score_drift"
RATE = 0.05
FLOOR = 1e-4


@dataclass(frozen=True)
class ColumnDrift:
    """PSI of one column and the largest one that the reference shows within itself."""

    name: str
    psi: float
    limit: float

    @property
    def unusual(self) -> bool:
        return self.psi > self.limit


@dataclass(frozen=True)
class DriftReport:
    """The drift of one window; `columns` are sorted by PSI, largest first.

    Attributes:
        rate: how often a period like the reference's is above `limit`, at most.
    """

    verdict: Verdict
    statistic: float | None
    limit: float
    rate: float
    rows: int
    columns: tuple[ColumnDrift, ...]
    score: ColumnDrift | None
    reason: str

    def finding(self) -> Finding:
        """The same as every monitor says it."""
        evidence = {"columns": [asdict(column) for column in self.columns], "rate": self.rate}
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
        reason = (
            f"PSI of the scores {score.psi:.3f}; the reference itself reaches {score.limit:.3f}"
        )
        found = Finding(SCORE_DRIFT, Verdict.OK, score.psi, score.limit, self.rows, reason)
        return twice(found, score.unusual, last)


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """Population stability index between two histograms of counts, shares floored at 1e-4."""
    p = np.maximum(expected / max(expected.sum(), 1), FLOOR)
    q = np.maximum(actual / max(actual.sum(), 1), FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


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
        scores: the probabilities that were served for them, shape (n,).
        minimum_rows: with fewer rows the verdict is UNKNOWN.
        rate: how often a period like the reference's may be above the limit.
    """
    usual = self_limit(reference, rate)
    if len(matrix) < minimum_rows:
        reason = f"{len(matrix)} rows are too few to judge drift: {minimum_rows} are needed"
        return DriftReport(
            Verdict.UNKNOWN, None, usual.value, usual.rate, len(matrix), (), None, reason
        )
    values = {h.name: matrix[:, i] for i, h in enumerate(_features(reference))}
    values[SCORE] = scores
    drifts = {
        h.name: ColumnDrift(
            h.name, psi(_total(h), h.count(values[h.name])), limit(_within(h), rate).value
        )
        for h in reference.histograms
    }
    score = drifts.pop(SCORE)
    columns = tuple(sorted(drifts.values(), key=lambda drift: -drift.psi))
    return _judge(columns, score, usual, len(matrix))


def self_limit(reference: Reference, rate: float = RATE) -> Limit:
    """What the largest PSI over all features may reach, from each period against the others."""
    within = np.array([_within(h) for h in _features(reference)])
    return limit(within.max(axis=0).tolist(), rate)


def _judge(
    columns: tuple[ColumnDrift, ...], score: ColumnDrift, usual: Limit, rows: int
) -> DriftReport:
    top, unusual = columns[0], [c.name for c in columns if c.unusual]
    if top.psi > usual.value:
        verdict = Verdict.ALARM
        reason = f"{top.name} has PSI {top.psi:.2f}, {usual.say()}"
    elif unusual:
        verdict = Verdict.WARN
        reason = f"unusual for itself: {', '.join(unusual)}; no PSI above {usual.value:.2f}"
    else:
        verdict = Verdict.OK
        reason = f"largest PSI {top.psi:.2f} ({top.name}), {usual.say()}"
    return DriftReport(verdict, top.psi, usual.value, usual.rate, rows, columns, score, reason)


def _features(reference: Reference) -> list[Histogram]:
    return [h for h in reference.histograms if h.name != SCORE]


def _total(histogram: Histogram) -> np.ndarray:
    total: np.ndarray = np.asarray(histogram.counts).sum(axis=0)
    return total


def _within(histogram: Histogram) -> list[float]:
    """PSI of each reference period against all the others together."""
    counts = np.asarray(histogram.counts)
    total = counts.sum(axis=0)
    return [psi(total - row, row) for row in counts]
