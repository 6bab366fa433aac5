"""What a period's rows look like, in few numbers: the reference that a new batch is held against.

Two views of a column: where it lies (the mean difference of five quantiles for numbers, the share
of rows that differ for text), and which values it takes. Measurements are rounded, so that a
season moves where a column lies but not the values that it can take; another unit or another
column has other values. How far a column may be from the reference follows from how far the
reference's own periods are from each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from data.contracts import KEY
from data.errors import EvergreenError
from data.partitions import ROWS, Partitions
from data.periods import Period
from data.problem import Problem
from data.units import Conversion

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MINIMUM_VALUES = 30
FLOOR = 0.02  # of a column's whole range: less than that is never unusual
COMMON = 0.05  # of the rows
COUNTED = 50  # values
SHIFTED = 0.05  # of the rows: so many with other values are never unusual
NEAR = 0.1  # of the usual gap between two values: nearer is the same value, rounded


@dataclass(frozen=True)
class ColumnProfile:
    """One column of one period.

    Attributes:
        nulls: rows without a value.
        values: the different values, ascending; numbers as float64, text as str.
        counts: in how many rows each is, same shape.
        quantiles: of a number, shape (5,); None for text and where too few values are known.
    """

    nulls: int
    values: np.ndarray
    counts: np.ndarray
    quantiles: np.ndarray | None

    @property
    def is_text(self) -> bool:
        return self.values.dtype == object

    @property
    def known(self) -> int:
        return int(self.counts.sum())

    @property
    def top(self) -> float:
        """Share of the known values that are the most frequent one; 1 if constant."""
        return float(self.counts.max() / self.known) if self.known else 0.0

    @property
    def shares(self) -> dict[Any, float]:
        return dict(zip(self.values, self.counts / max(self.known, 1), strict=True))

    def convert(self, conversion: Conversion) -> "ColumnProfile":
        """The profile of the values before that conversion."""
        values = conversion.undo(self.values)
        order = np.argsort(values)
        quantiles = None if self.quantiles is None else np.sort(conversion.undo(self.quantiles))
        return ColumnProfile(self.nulls, values[order], self.counts[order], quantiles)

    def only(self, chosen: np.ndarray) -> "ColumnProfile":
        """The profile of a part of the different values."""
        return ColumnProfile(self.nulls, self.values[chosen], self.counts[chosen], None)


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
    days = moments.dt.normalize().nunique()
    contents = pd.util.hash_pandas_object(rows[[f.name for f in fields]], index=False)
    keys = pd.util.hash_pandas_object(rows[KEY], index=False)
    return Profile(name, len(rows), days, columns, np.unique(keys), np.unique(contents))


def _column(column: pd.Series, text: bool) -> ColumnProfile:
    nulls = int(column.isna().sum())
    if text:
        known = column.value_counts().sort_index()
        return ColumnProfile(nulls, known.index.to_numpy(dtype=object), known.to_numpy(), None)
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    values, counts = np.unique(numbers, return_counts=True)
    quantiles = np.quantile(numbers, QUANTILES) if len(numbers) >= MINIMUM_VALUES else None
    return ColumnProfile(nulls, values, counts, quantiles)


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
    """A column in the reference: where it lies, which values it takes, and how much both vary.

    Attributes:
        own: the largest distance of one of its periods from the others.
        seen: every value, ascending.
        tolerance: how near a number is to one of them that is the same, rounded.
        shares: of each of its periods' rows, how many have a value that another period has, too.
        common: which of `seen` every period has in at least that share of its rows: `COMMON`.
        least: the smallest share of rows that have one of these in a period.
    """

    columns: tuple[ColumnProfile, ...]
    own: float
    seen: np.ndarray
    tolerance: float
    shares: tuple[float, ...]
    common: np.ndarray
    least: float

    @classmethod
    def of(cls, columns: Sequence[ColumnProfile]) -> "Usual | None":
        """None if the reference knows too little of the column."""
        found = tuple(c for c in columns if c.quantiles is not None or (c.is_text and c.known))
        if len(found) < 2:
            return None
        whole = np.concatenate([c.values for c in found])
        seen, place, periods = np.unique(whole, return_inverse=True, return_counts=True)
        parts = np.concatenate([c.counts / c.known for c in found])
        smallest = np.full(len(seen), np.inf)
        np.minimum.at(smallest, place, parts)
        common = seen[(periods == len(found)) & (smallest >= COMMON)]
        least = min(float(c.counts[np.isin(c.values, common)].sum() / c.known) for c in found)
        twice = seen[periods > 1]
        shares = tuple(float(c.counts[np.isin(c.values, twice)].sum() / c.known) for c in found)
        within = [_distance(c, [o for o in found if o is not c]) for c in found]
        floor, tolerance = 0.0, 0.0
        if not found[0].is_text and len(seen) > 1:
            floor, tolerance = FLOOR * (seen[-1] - seen[0]), NEAR * float(np.median(np.diff(seen)))
        own = max(*within, floor)
        return cls(found, own, seen, tolerance, shares, common, least)

    def away(self, column: ColumnProfile) -> float:
        """How far a column is, in units of the reference's own largest distance; inf if unlike."""
        if column.is_text != self.columns[0].is_text or (
            column.quantiles is None and not column.is_text
        ):
            return np.inf
        return _distance(column, self.columns) / self.own if self.own else 0.0

    @property
    def counted(self) -> bool:
        """Whether it is a number with so few values that each has a share of the rows."""
        return not self.columns[0].is_text and len(self.seen) <= COUNTED

    def shifted(self, column: ColumnProfile) -> float:
        """How far the shares of its values are, in units of the reference's own largest."""
        shares = [other.shares for other in self.columns]
        within = [_variation(own, [o for o in shares if o is not own]) for own in shares]
        return _variation(column.shares, shares) / max(*within, SHIFTED)

    def knows(self, column: ColumnProfile) -> np.ndarray:
        """Which of a column's different values the reference has, up to rounding; shape (n,)."""
        return self.places(column) >= 0

    def commonly(self, column: ColumnProfile) -> float:
        """Share of a column's rows with a value that every period has often."""
        places = self.places(column)
        there = column.only((places >= 0) & np.isin(self.seen[places], self.common))
        return there.known / max(column.known, 1)

    def places(self, column: ColumnProfile) -> np.ndarray:
        """Where in `seen` each different value is, -1 if it is not; shape (n,)."""
        values, seen = column.values, self.seen
        if column.is_text or self.columns[0].is_text:
            places = {value: place for place, value in enumerate(seen)}
            return np.array([places.get(value, -1) for value in values], dtype=int)
        right = np.searchsorted(seen, values).clip(0, len(seen) - 1)
        left = (right - 1).clip(0)
        nearest = np.where(np.abs(seen[left] - values) < np.abs(seen[right] - values), left, right)
        tolerance = np.maximum(self.tolerance, 1e-9 * np.abs(values))
        return np.where(np.abs(seen[nearest] - values) <= tolerance, nearest, -1)


def _distance(column: ColumnProfile, others: Sequence[ColumnProfile]) -> float:
    """From the median of the others."""
    if column.quantiles is not None:
        middle = np.median([o.quantiles for o in others if o.quantiles is not None], axis=0)
        return float(np.abs(column.quantiles - middle).mean())
    return _variation(column.shares, [other.shares for other in others])


def _variation(shares: Mapping[Any, float], others: Sequence[Mapping[Any, float]]) -> float:
    values = sorted({*shares, *(value for other in others for value in other)})
    table = np.array([[other.get(value, 0.0) for value in values] for other in others])
    mine = np.array([shares.get(value, 0.0) for value in values])
    return float(np.abs(mine - np.median(table, axis=0)).sum() / 2)
