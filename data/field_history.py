"""What each raw field looked like, period by period: part of the reference profile.

Three measures of a column: how much of it is missing, how much of it is one value, and how much of
it is new to what came before (words that no earlier period has; for numbers, how far they lie
outside the earlier range). The last one grows with the seasons, so that its own past growth, and no
fixed range, says what is too much.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.features import Columns
from data.fields import Field

MOST_WORDS = 2000  # of a field; with more of them new ones are no news


@dataclass(frozen=True)
class Known:
    """What was seen of a field so far; `words` is None for numbers, and where they are too many."""

    words: frozenset[str] | None
    low: float | None = None
    high: float | None = None

    def and_also(self, values: np.ndarray) -> "Known":
        """With a column's values (n,), missing ones left out."""
        if values.dtype == object:
            words = None if self.words is None else self.words | set(values)
            return Known(None if words is None or len(words) > MOST_WORDS else words)
        if not len(values):
            return self
        ends = [end for end in (self.low, self.high) if end is not None]
        return Known(None, float(min([values.min(), *ends])), float(max([values.max(), *ends])))

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


@dataclass(frozen=True)
class Measures:
    """Of one column in one period; shares of its rows, `growth` as in `Known`."""

    nulls: float
    top: float
    growth: float


@dataclass(frozen=True)
class FieldHistory:
    """A field in every period of the reference, in order, and all that was seen of it."""

    name: str
    nulls: tuple[float, ...]
    top: tuple[float, ...]
    growth: tuple[float, ...]
    known: Known

    def to_json(self) -> dict[str, Any]:
        words = None if self.known.words is None else sorted(self.known.words)
        shares = {
            name: [round(value, 6) for value in getattr(self, name)]
            for name in ("nulls", "top", "growth")
        }
        return {"name": self.name, **shares, "words": words,
                "low": self.known.low, "high": self.known.high}  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FieldHistory":
        words = None if value["words"] is None else frozenset(value["words"])
        known = Known(words, value["low"], value["high"])
        nulls, top, growth = (tuple(value[name]) for name in ("nulls", "top", "growth"))
        return cls(value["name"], nulls, top, growth, known)


def measure(values: np.ndarray, known: Known) -> Measures:
    """The measures of a raw column (n,) against what was known before; without rows all are 0."""
    present = _present(values)
    if not len(present):
        return Measures(float(len(values) > 0), 0.0, 0.0)
    _, counts = np.unique(present.astype(str) if present.dtype == object else present,
                          return_counts=True)  # fmt: skip
    missing = 1 - len(present) / len(values)
    return Measures(missing, float(counts.max() / len(present)), known.growth(present))


def build(fields: Sequence[Field], periods: Iterable[Columns]) -> tuple[FieldHistory, ...]:
    """The history of every field but timestamps; `periods` are raw columns, oldest first."""
    watched = [field for field in fields if field.kind != "timestamp"]
    known = {f.name: Known(frozenset() if f.kind == "text" else None) for f in watched}
    found: dict[str, list[Measures]] = {field.name: [] for field in watched}
    for place, columns in enumerate(periods):
        for name, before in known.items():
            told = measure(columns[name], before)
            found[name].append(told if place else Measures(told.nulls, told.top, 0.0))
            known[name] = before.and_also(_present(columns[name]))
    return tuple(
        FieldHistory(
            name,
            tuple(each.nulls for each in measures),
            tuple(each.top for each in measures),
            tuple(each.growth for each in measures),
            known[name],
        )
        for name, measures in found.items()
    )


def _present(values: np.ndarray) -> np.ndarray:
    there = values != None if values.dtype == object else np.isfinite(values)  # noqa: E711
    return np.asarray(values[there])
