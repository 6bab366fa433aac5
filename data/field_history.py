"""What each raw field looked like, period by period: part of the reference profile.

Measures of a column: how much of it is missing, how much of it is one value, and how much of it is
new to what came before. For words that is how many no earlier period has. For numbers it is how far
they lie outside the earlier range; how many lie within it, but are none of the values that were
there (measurements are rounded, so that another unit has other values); and how much more of one
value there is than ever before (what stands in for a missing one). What is new grows with the
seasons, so that its own past growth, and nothing fixed, says what is too much.

Two words of a row are a field more: which of them come together is new where codes were exchanged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from data.associations import thinned
from data.features import Columns
from data.fields import Field

MOST_WORDS = 2000  # of a field; with more of them new ones are no news
COMMON = 0.02  # of the rows: a value that was in fewer counts as never seen, if it comes often
BETWEEN = 2.0  # times the usual distance of neighbours
WITH = " with "  # two text fields as one
MOST_TEXTS = 6  # fields of which any two are looked at together
MEASURES = ("nulls", "top", "growth", "fresh", "between", "spike")


@dataclass(frozen=True)
class Known:
    """What was seen of a field so far.

    Attributes:
        words: None for numbers, and where they are too many.
        low, high: the range of numbers.
        values: of numbers, to float32; None for words, and where they are too many.
        common: numbers, ascending, each with the largest share of a period's rows that had it,
            where that is `COMMON`.
    """

    words: frozenset[str] | None
    low: float | None = None
    high: float | None = None
    values: frozenset[float] | None = None
    common: tuple[tuple[float, float], ...] = ()

    def and_also(self, values: np.ndarray, rows: int) -> "Known":
        """With a column's values (n,), missing ones left out, of a period of so many rows."""
        if values.dtype == object:
            words = None if self.words is None else self.words | set(values)
            return Known(None if words is None or len(words) > MOST_WORDS else words)
        if not len(values):
            return self
        numbers, shares = _shares(values, rows)
        often, common = shares >= COMMON, dict(self.common)
        for number, share in zip(numbers[often].tolist(), shares[often].tolist(), strict=True):
            common[number] = max(round(share, 6), common.get(number, 0.0))
        seen = self.values
        if seen is not None and len(numbers) <= MOST_WORDS:
            seen = seen | set(numbers.tolist())
        ends = [end for end in (self.low, self.high) if end is not None]
        return Known(
            None,
            float(min([values.min(), *ends])),
            float(max([values.max(), *ends])),
            None if seen is None or max(len(seen), len(numbers)) > MOST_WORDS else seen,
            tuple(sorted(common.items())),
        )

    def growth(self, values: np.ndarray) -> float:
        """How new the values (n,) are: share of new words, or mean distance outside the range.

        The distance is in widths of the range.
        """
        if not len(values):
            return 0.0
        if values.dtype == object:
            return (
                0.0 if self.words is None else float(np.mean([v not in self.words for v in values]))
            )
        if self.low is None or self.high is None:
            return 0.0
        outside = np.maximum(self.low - values, 0) + np.maximum(values - self.high, 0)
        width = (self.high - self.low) or max(abs(self.high), 1.0)
        return float(np.minimum(outside / width, 1e6).mean())

    def fresh(self, numbers: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
        """Share of rows with a number within the range that was never there; of these in a gap.

        The second counts those alone whose neighbours, that were there, are as close as is usual:
        others may be values that just have not come yet.
        """
        if self.values is None or len(self.values) < 2:
            return 0.0, 0.0
        seen = np.array(sorted(self.values), dtype=np.float32)
        gaps, place = np.diff(seen), np.searchsorted(seen, numbers).clip(1, len(seen) - 1)
        inside = (numbers > seen[place - 1]) & (numbers < seen[place])
        near = gaps[place - 1] <= BETWEEN * float(np.median(gaps))
        return float(shares[inside].sum()), float(shares[inside & near].sum())

    def spike(self, numbers: np.ndarray, shares: np.ndarray) -> float:
        """How much one number's share rose above what it ever was, beyond any other's rise.

        In a calm week several rise together.
        """
        often, before = shares > COMMON, dict(self.common)
        found = zip(numbers[often].tolist(), shares[often].tolist(), strict=True)
        rises = sorted((share - before.get(number, 0.0) for number, share in found), reverse=True)
        first, second = [*rises, 0.0, 0.0][:2]
        return float(max(first, 0.0) - max(second, 0.0))

    def to_json(self) -> dict[str, Any]:
        values = None if self.values is None else [_short(v) for v in sorted(self.values)]
        common = [[_short(v), share] for v, share in self.common]
        words = None if self.words is None else sorted(self.words)
        return {"words": words, "low": self.low, "high": self.high,
                "values": values, "common": common}  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Known":
        words, values = value["words"], value.get("values")
        common = tuple((_rounded(v), share) for v, share in value.get("common", ()))
        return cls(
            None if words is None else frozenset(words),
            value["low"],
            value["high"],
            None if values is None else frozenset(map(_rounded, values)),
            common,
        )


def _shares(values: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers, to float32, ascending, and the share of the rows that has each."""
    numbers, counts = np.unique(values.astype(np.float32), return_counts=True)
    return numbers, counts / max(rows, 1)


def _rounded(value: float) -> float:
    return float(np.float32(value))


def _short(value: float) -> float:
    """The shortest number that is the same as float32."""
    return float(str(np.float32(value)))


@dataclass(frozen=True)
class Measures:
    """Of one column in one period; shares of its rows, the rest as in `Known`."""

    nulls: float
    top: float
    growth: float
    fresh: float = 0.0
    between: float = 0.0
    spike: float = 0.0


@dataclass(frozen=True)
class FieldHistory:
    """A field in every period of the reference, in order, and all that was seen of it.

    An artefact of before has nothing in `fresh`, `between` and `spike`.
    """

    name: str
    nulls: tuple[float, ...]
    top: tuple[float, ...]
    growth: tuple[float, ...]
    known: Known
    fresh: tuple[float, ...] = ()
    between: tuple[float, ...] = ()
    spike: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        shares = {name: [round(value, 6) for value in getattr(self, name)] for name in MEASURES}
        return {"name": self.name, **shares, **self.known.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FieldHistory":
        measures = {name: tuple(value.get(name, ())) for name in MEASURES}
        return cls(name=value["name"], known=Known.from_json(value), **measures)


def measure(values: np.ndarray, known: Known) -> Measures:
    """The measures of a raw column (n,) against what was known before; without rows all are 0."""
    present, rows = _present(values), len(values)
    if not len(present):
        return Measures(float(rows > 0), 0.0, 0.0)
    missing = 1 - len(present) / rows
    if present.dtype == object:
        _, counts = np.unique(present.astype(str), return_counts=True)
        return Measures(missing, float(counts.max() / len(present)), known.growth(present))
    numbers, shares = _shares(present, rows)
    return Measures(
        missing,
        float(shares.max() * rows / len(present)),
        known.growth(present),
        *known.fresh(numbers, shares),
        known.spike(numbers, shares),
    )


def build(fields: Sequence[Field], periods: Iterable[Columns]) -> tuple[FieldHistory, ...]:
    """The history of every field but timestamps, and of any two text fields together.

    Args:
        periods: raw columns, oldest first.
    """
    texts = [field.name for field in fields if field.kind == "text"]
    words = [*texts, *map(WITH.join, combinations(texts[:MOST_TEXTS], 2))]
    numbers = [field.name for field in fields if field.kind not in ("text", "timestamp")]
    known = {name: Known(frozenset()) for name in words}
    known |= {name: Known(None, values=frozenset()) for name in numbers}
    found: dict[str, list[Measures]] = {name: [] for name in known}
    for place, columns in enumerate(periods):
        for name, before in known.items():
            values = column(name, columns)
            told = measure(values, before)
            first = Measures(told.nulls, told.top, 0.0)
            found[name].append(told if place else first)
            known[name] = before.and_also(_present(values), len(values))
    return tuple(_history(name, measures, known[name]) for name, measures in found.items())


def column(name: str, columns: Columns) -> np.ndarray:
    """The values of a field; of two text fields together, evenly spaced ones, missing as either."""
    if name in columns:
        return columns[name]
    a, b = (thinned(columns[part]) for part in name.split(WITH))
    both = [None if one is None or other is None else f"{one} {other}"
            for one, other in zip(a, b, strict=True)]  # fmt: skip
    return np.array(both, dtype=object)


def _history(name: str, measures: Sequence[Measures], known: Known) -> FieldHistory:
    table = [asdict(each) for each in measures]
    columns = {measure: tuple(row[measure] for row in table) for measure in MEASURES}
    return FieldHistory(name=name, known=known, **columns)


def _present(values: np.ndarray) -> np.ndarray:
    there = values != None if values.dtype == object else np.isfinite(values)  # noqa: E711
    return np.asarray(values[there])
