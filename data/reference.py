"""The reference profile kept with a model: what its training data looked like, week by week.

Plain JSON, so that it travels in the artefact. Every period of the reference keeps its own
histogram: how much they differ among themselves is the yardstick for a new one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from data.field_history import FieldHistory
from data.relations import Relations
from data.task import Task

SCORE = "score"


@dataclass(frozen=True)
class Histogram:
    """Counts of one column for each period of the reference.

    Attributes:
        name: the feature; or `score`, of several classes `score.<class>`.
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
class SliceHistory:
    """How the out-of-fold scores did on one slice, in every period of the reference.

    Sums over its labelled rows of one number an answer; what that is for each kind of task says
    `models.tally`. Of two outcomes:

    Attributes:
        slice, value: such as carrier, AA; `all` is everything, `one class` one against the rest.
        rows: how many; positives: those of them with label 1.
        expected: the sum of their probabilities.
        variance: the sum of p (1 - p).
        loss: the sum of their losses.
        roc_auc: of everything; None for a slice, and where there is one outcome only.
        constant: of everything, the loss of the rows' own constant answer; empty where it follows
            from the positives.
    """

    slice: str
    value: str
    rows: tuple[int, ...]
    positives: tuple[float, ...]
    expected: tuple[float, ...]
    variance: tuple[float, ...]
    loss: tuple[float, ...]
    roc_auc: tuple[float | None, ...]
    constant: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "constant" or value}


@dataclass(frozen=True)
class Daily:
    """Squared error beyond what calibrated probabilities have, for each day; see models.concept.

    Attributes:
        days: ISO dates, ascending.
        residual: the mean over a day's `rows`; of two outcomes of (y - p)^2 - p (1 - p).
    """

    days: tuple[str, ...]
    rows: tuple[int, ...]
    residual: tuple[float, ...]


@dataclass(frozen=True)
class Reference:
    """What the training periods looked like.

    Attributes:
        periods: in order; every history has a value for each.
        histograms: of every feature, then of the out-of-fold scores.
        fields: the raw fields.
        slices: quality of the out-of-fold scores; the first is everything.
        daily: their squared error by day; None if it was not computed.
        relations: how the fields go together; None where the periods are too few to tell.
        outcome: the outcomes, of numbers alone.
        steps: out-of-fold scores, ascending, and what followed at each, linear in between: the rate
            of positives (an isotonic calibration), or of numbers the mean loss; empty for classes.
    """

    periods: tuple[str, ...]
    histograms: tuple[Histogram, ...]
    fields: tuple[FieldHistory, ...] = ()
    slices: tuple[SliceHistory, ...] = ()
    daily: Daily | None = None
    steps: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    relations: Relations | None = None
    outcome: FieldHistory | None = None

    def to_json(self) -> dict[str, Any]:
        own = asdict(replace(self, fields=(), slices=(), relations=None, outcome=None))
        return own | {
            "fields": [field.to_json() for field in self.fields],
            "slices": [part.to_json() for part in self.slices],
            "relations": self.relations.to_json() if self.relations else None,
            "outcome": self.outcome.to_json() if self.outcome else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Reference":
        """From a reference.json; an artefact of before has less, at least histograms."""
        histograms = tuple(
            Histogram(h["name"], tuple(h["edges"]), tuple(tuple(row) for row in h["counts"]))
            for h in value["histograms"]
        )
        daily, steps = value.get("daily"), value.get("steps", ((), ()))
        relations, outcome = value.get("relations"), value.get("outcome")
        return cls(
            tuple(value["periods"]),
            histograms,
            tuple(map(FieldHistory.from_json, value.get("fields", ()))),
            tuple(SliceHistory(**_tuples(each)) for each in value.get("slices", ())),
            Daily(**_tuples(daily)) if daily else None,
            (tuple(steps[0]), tuple(steps[1])),
            Relations.from_json(relations) if relations else None,
            FieldHistory.from_json(outcome) if outcome else None,
        )


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}


def build(
    names: Sequence[str],
    matrix: np.ndarray,
    scores: np.ndarray,
    period: np.ndarray,
    bins: int,
    task: Task,
) -> Reference:
    """Profile the training rows.

    Args:
        names: the features, in the order of the matrix's columns.
        matrix: training features, shape (n, len(names)), missing as NaN.
        scores: out-of-fold answers; in-sample ones would be too confident.
        period: the name of each row's period, shape (n,).
        bins: the most bins for a column; one with fewer distinct values has one bin for each.
    """
    columns = [*zip(names, matrix.T, strict=True), *task.put(SCORE, scores).items()]
    return of_columns(columns, _rows_of(period), bins)


def of_columns(
    columns: Iterable[tuple[str, np.ndarray]], rows_of: Mapping[str, slice | np.ndarray], bins: int
) -> Reference:
    """The same of columns that come one at a time, each of shape (n,).

    Args:
        rows_of: period -> which rows are its own, in order.
    """
    histograms = []
    for name, values in columns:
        empty = Histogram(name, bin_edges(values, bins), ())
        counts = [empty.count(values[chosen]) for chosen in rows_of.values()]
        rows = tuple(tuple(map(int, row)) for row in counts)
        histograms.append(Histogram(name, empty.edges, rows))
    return Reference(tuple(rows_of), tuple(histograms))


def _rows_of(period: np.ndarray) -> dict[str, np.ndarray]:
    periods, place = np.unique(period, return_inverse=True)
    rows_of = np.split(np.argsort(place, kind="stable"), np.bincount(place).cumsum()[:-1])
    return dict(zip(map(str, periods), rows_of, strict=True))


def bin_edges(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Inner edges of at most `bins` bins of equal weight, ascending; missing ones are ignored."""
    known = values[~np.isnan(values)].astype(np.float64)
    distinct = np.unique(known)
    if len(distinct) <= bins:
        return tuple(map(float, (distinct[1:] + distinct[:-1]) / 2))
    quantiles = np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return tuple(map(float, np.unique(quantiles)))
