"""What a period's rows look like, in few numbers: the reference that a new batch is held against.

The distance of two columns is the mean difference of five quantiles for numbers, the
share of rows that differ (total variation) for text. How far a column may be from the
reference follows from how far the reference's own periods are from each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from data.contracts import KEY
from data.errors import EvergreenError
from data.partitions import ROWS, Partitions
from data.periods import Period
from data.problem import Problem

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MINIMUM_VALUES = 30
FLOOR = 0.02  # of a column's whole range: less than that is never unusual


@dataclass(frozen=True)
class ColumnProfile:
    """One column of one period.

    Attributes:
        nulls: rows without a value.
        others: share of the known values that are not the most frequent one; 0 if constant.
        range: smallest and largest value of a number, (0, 1) for text.
        quantiles: of a number, shape (5,); None for text and where too few values are known.
        shares: value -> share of the rows, for text.
    """

    nulls: int
    others: float
    range: tuple[float, float]
    quantiles: np.ndarray | None
    shares: Mapping[str, float] | None

    def convert(self, factor: float, offset: float) -> "ColumnProfile":
        """The profile of `factor` * values + `offset`."""
        assert self.quantiles is not None
        ends = tuple(factor * end + offset for end in self.range)
        return ColumnProfile(
            self.nulls, self.others, (ends[0], ends[1]), factor * self.quantiles + offset, None
        )


@dataclass(frozen=True)
class Profile:
    """One period: how many rows on how many days, each column, and hashes of keys and contents."""

    name: str
    rows: int
    days: int
    columns: Mapping[str, ColumnProfile]
    keys: np.ndarray
    contents: np.ndarray


def profile(problem: Problem, name: str, rows: pd.DataFrame) -> Profile:
    """The profile of rows in the contract's types."""
    fields = [field for field in problem.fields if field.kind != "timestamp"]
    columns = {f.name: _column(rows[f.name], f.kind == "text") for f in fields}
    moments = rows[problem.event_time].dropna()
    days = (moments.max() - moments.min()).days + 1 if len(moments) else 0
    contents = pd.util.hash_pandas_object(rows[[f.name for f in fields]], index=False)
    keys = pd.util.hash_pandas_object(rows[KEY], index=False)
    return Profile(name, len(rows), days, columns, np.unique(keys), np.unique(contents))


def _column(column: pd.Series, text: bool) -> ColumnProfile:
    known = column.dropna()
    counts = known.value_counts(normalize=True)
    others = 1 - float(counts.iloc[0]) if len(counts) else 0.0
    if text:
        shares = {str(value): float(share) for value, share in counts.items()}
        return ColumnProfile(len(column) - len(known), others, (0, 1), None, shares)
    values = known.to_numpy(dtype=np.float64)
    values = values[np.isfinite(values)]
    enough = len(values) >= MINIMUM_VALUES
    ends = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    quantiles = np.quantile(values, QUANTILES) if enough else None
    return ColumnProfile(len(column) - len(known), others, ends, quantiles, None)


def references(
    problem: Problem, partitions: Partitions, period: Period, limit: int
) -> list[Profile]:
    """Profiles of the `limit` other partitions that are nearest in time, the nearest first.

    One that is damaged, or older than one of the fields, is left out. However long the history,
    no more of it is read.
    """
    manifest = partitions.manifest()
    found: list[Profile] = []
    others = [other for other in partitions.periods() if other != period]
    for other in sorted(others, key=lambda o: (abs(o.start - period.start), o.start)):
        if len(found) == limit:
            break
        try:
            sha256 = manifest[f"{other}{ROWS}"]["sha256"]
            found.append(_of_partition(problem, partitions, other, sha256))
        except EvergreenError:
            continue
    return found


@lru_cache(maxsize=32)
def _of_partition(problem: Problem, partitions: Partitions, period: Period, sha256: str) -> Profile:
    """Kept by the partition's sha256: a restated partition has a profile of its own."""
    rows = partitions.rows(period)
    if missing := [field.name for field in problem.fields if field.name not in rows]:
        raise EvergreenError(
            f"partition {period} has no {', '.join(missing)}: it is older than the problem's fields"
        )
    return profile(problem, period.name, rows)


@dataclass(frozen=True)
class Usual:
    """A column in the reference: where it lies, and how far its own periods are from that."""

    columns: tuple[ColumnProfile, ...]
    own: float

    @classmethod
    def of(cls, columns: Sequence[ColumnProfile]) -> "Usual | None":
        """None if the reference knows too little of the column."""
        known = [c for c in columns if c.quantiles is not None or c.shares is not None]
        if len(known) < 2:
            return None
        within = [_distance(c, [o for o in known if o is not c]) for c in known]
        low, high = min(c.range[0] for c in known), max(c.range[1] for c in known)
        return cls(tuple(known), max(*within, FLOOR * (high - low)))

    def away(self, column: ColumnProfile) -> float:
        """How far a column is, in units of the reference's own largest distance; inf if unlike."""
        if (column.shares is None) != (self.columns[0].shares is None):
            return np.inf
        if column.quantiles is None and column.shares is None:
            return np.inf
        return _distance(column, self.columns) / self.own if self.own else 0.0


def _distance(column: ColumnProfile, others: Sequence[ColumnProfile]) -> float:
    """From the median of the others."""
    if column.quantiles is not None:
        middle = np.median([o.quantiles for o in others if o.quantiles is not None], axis=0)
        return float(np.abs(column.quantiles - middle).mean())
    return _variation(column.shares or {}, [o.shares or {} for o in others])


def _variation(shares: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> float:
    values = sorted({*shares, *(value for other in others for value in other)})
    table = np.array([[other.get(value, 0.0) for value in values] for other in others])
    mine = np.array([shares.get(value, 0.0) for value in values])
    return float(np.abs(mine - np.median(table, axis=0)).sum() / 2)
