"""Has a window drifted from the reference more than the reference drifts by itself?

The statistic is the population stability index (PSI) of Siddiqi (2006). Its usual limit of 0.2 says
nothing about seasonal data, so the limit here is the reference's own: the largest PSI that any of
its periods shows against the others. For an exchangeable period the chance to exceed it is at most
1 / (periods + 1), as in conformal prediction (Vovk et al. 2005).
"""

from dataclasses import asdict, dataclass

import numpy as np

from data.reference import SCORE, Histogram, Reference
from data.verdicts import Finding, Verdict

FEATURE_DRIFT = "feature_drift"
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
    """The drift of one window; `columns` are sorted by PSI, largest first."""

    verdict: Verdict
    statistic: float | None
    limit: float
    rows: int
    columns: tuple[ColumnDrift, ...]
    score: ColumnDrift | None
    reason: str

    def finding(self) -> Finding:
        """The same as every monitor says it."""
        columns = [asdict(column) for column in self.columns]
        evidence = {"columns": columns, "score": asdict(self.score) if self.score else None}
        return Finding(
            FEATURE_DRIFT,
            self.verdict,
            self.statistic,
            self.limit,
            self.rows,
            self.reason,
            evidence,
        )


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """Population stability index between two histograms of counts, shares floored at 1e-4."""
    p = np.maximum(expected / max(expected.sum(), 1), FLOOR)
    q = np.maximum(actual / max(actual.sum(), 1), FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


def compare(
    reference: Reference, matrix: np.ndarray, scores: np.ndarray, minimum_rows: int
) -> DriftReport:
    """Compare a window with the reference.

    Args:
        reference: the profile kept with the model.
        matrix: the window's features, shape (n, features), in the reference's order.
        scores: the probabilities that were served for them, shape (n,).
        minimum_rows: with fewer rows the verdict is UNKNOWN.
    """
    limit = self_limit(reference)
    if len(matrix) < minimum_rows:
        reason = f"{len(matrix)} rows are too few to judge drift: {minimum_rows} are needed"
        return DriftReport(Verdict.UNKNOWN, None, limit, len(matrix), (), None, reason)
    values = {h.name: matrix[:, i] for i, h in enumerate(_features(reference))}
    values[SCORE] = scores
    drifts = {
        h.name: ColumnDrift(h.name, psi(_total(h), h.count(values[h.name])), max(_within(h)))
        for h in reference.histograms
    }
    score = drifts.pop(SCORE)
    columns = tuple(sorted(drifts.values(), key=lambda drift: -drift.psi))
    return _judge(columns, score, limit, len(matrix))


def self_limit(reference: Reference) -> float:
    """The largest PSI over all features that any reference period shows against the others."""
    return max(max(_within(h)) for h in _features(reference))


def _judge(
    columns: tuple[ColumnDrift, ...], score: ColumnDrift, limit: float, rows: int
) -> DriftReport:
    top, unusual = columns[0], [c.name for c in columns if c.unusual]
    if top.psi > limit:
        verdict = Verdict.ALARM
        reason = f"{top.name} has PSI {top.psi:.2f}, above {limit:.2f}, the most in the reference"
    elif unusual or score.unusual:
        verdict = Verdict.WARN
        names = ", ".join([*unusual, *([SCORE] if score.unusual else [])])
        reason = f"unusual for itself: {names}; no PSI above the reference's {limit:.2f}"
    else:
        verdict = Verdict.OK
        reason = f"largest PSI {top.psi:.2f} ({top.name}); the reference itself reaches {limit:.2f}"
    return DriftReport(verdict, top.psi, limit, rows, columns, score, reason)


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
