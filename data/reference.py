"""The reference profile kept with a model: what its training data looked like, week by week.

Plain JSON, so that it travels in the artefact. Every period of the reference keeps its own
histogram: how much they differ among themselves is the yardstick for a new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SCORE = "score"


@dataclass(frozen=True)
class Histogram:
    """Counts of one column for each period of the reference.

    Attributes:
        name: the feature, or `score`.
        edges: inner bin edges, ascending, shape (bins - 1,); a value v lies in bin
            `searchsorted(edges, v, side="right")`.
        counts: one row per period, shape (periods, bins + 1); the last column counts missing.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]

    def count(self, values: np.ndarray) -> np.ndarray:
        """Counts of `values` (n,) in the same bins, shape (bins + 1,)."""
        missing = np.isnan(values)
        places = np.searchsorted(np.asarray(self.edges), values[~missing], side="right")
        counts = np.bincount(places, minlength=len(self.edges) + 1)
        return np.append(counts, missing.sum())


@dataclass(frozen=True)
class Reference:
    """Histograms of every feature and of the out-of-fold score over the training periods."""

    periods: tuple[str, ...]
    histograms: tuple[Histogram, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Reference":
        histograms = tuple(
            Histogram(h["name"], tuple(h["edges"]), tuple(tuple(row) for row in h["counts"]))
            for h in value["histograms"]
        )
        return cls(tuple(value["periods"]), histograms)


def build(
    names: Sequence[str], matrix: np.ndarray, scores: np.ndarray, period: np.ndarray, bins: int
) -> Reference:
    """Profile the training rows.

    Args:
        names: the features, in the order of the matrix's columns.
        matrix: training features, shape (n, len(names)), missing as NaN.
        scores: out-of-fold probabilities, shape (n,); in-sample ones would be too confident.
        period: the name of each row's period, shape (n,).
        bins: the most bins for a column; one with fewer distinct values has one bin for each.
    """
    periods, place = np.unique(period, return_inverse=True)
    rows_of = np.split(np.argsort(place, kind="stable"), np.bincount(place).cumsum()[:-1])
    columns = [*zip(names, matrix.T, strict=True), (SCORE, scores)]
    histograms = []
    for name, values in columns:
        empty = Histogram(name, bin_edges(values, bins), ())
        counts = [empty.count(values[chosen]) for chosen in rows_of]
        rows = tuple(tuple(map(int, row)) for row in counts)
        histograms.append(Histogram(name, empty.edges, rows))
    return Reference(tuple(map(str, periods)), tuple(histograms))


def bin_edges(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Inner edges of at most `bins` bins of equal weight, ascending; missing ones are ignored."""
    known = values[~np.isnan(values)].astype(np.float64)
    distinct = np.unique(known)
    if len(distinct) <= bins:
        return tuple(map(float, (distinct[1:] + distinct[:-1]) / 2))
    quantiles = np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return tuple(map(float, np.unique(quantiles)))
