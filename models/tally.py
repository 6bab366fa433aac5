"""How probabilities did, by slice and by day: sums from which bias, loss and error follow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.reference import Daily, SliceHistory
from models.quality import log_losses
from models.slices import ALL

Slice = tuple[str, str]
EVERYTHING: Slice = (ALL, "rows")


@dataclass(frozen=True)
class Tally:
    """Sums over the labelled rows of one slice, as in `data.reference.SliceHistory`."""

    rows: int
    positives: int
    expected: float
    variance: float
    loss: float

    @property
    def bias(self) -> float:
        """Log odds that the probabilities are too high by, nearly; 0 where nothing varies."""
        return (self.expected - self.positives) / self.variance if self.variance else 0.0

    @property
    def added_loss(self) -> float:
        """Mean log loss beyond that of the rows' own rate; 0 without rows."""
        return self.loss / self.rows - entropy(self.positives / self.rows) if self.rows else 0.0


def entropy(rate: float) -> float:
    """Log loss of a rate that is exactly right, nats."""
    each = np.array([rate, 1 - rate])
    each = each[each > 0]
    return float(-(each * np.log(each)).sum())


def tally(
    label: np.ndarray, probability: np.ndarray, slices: Mapping[str, np.ndarray]
) -> dict[Slice, Tally]:
    """The sums of everything, and of every value of every slice.

    Args:
        label, probability: shape (n,); slices: name -> the value of each row, shape (n,).
    """
    p = probability.astype(np.float64)
    columns = (np.ones(len(p)), label, p, p * (1 - p), log_losses(label, p))
    found = {EVERYTHING: _of([float(column.sum()) for column in columns])}
    for name, values in slices.items():
        known, place = np.unique(values.astype(str), return_inverse=True)
        sums = [np.bincount(place, column, len(known)) for column in columns]
        for i, value in enumerate(known):
            found[name, str(value)] = _of([float(column[i]) for column in sums])
    return found


def _of(sums: Sequence[float]) -> Tally:
    rows, positives, *others = sums
    return Tally(int(rows), int(positives), *others)


def history(
    periods: Sequence[Mapping[Slice, Tally]], areas: Sequence[float | None]
) -> tuple[SliceHistory, ...]:
    """The tallies of each period of a reference, slice by slice; `areas` are their ROC-AUC."""
    nothing = Tally(0, 0, 0.0, 0.0, 0.0)
    slices = [EVERYTHING, *sorted({name for each in periods for name in each} - {EVERYTHING})]
    found = []
    for name in slices:
        each = [tallies.get(name, nothing) for tallies in periods]
        whole = name == EVERYTHING
        found.append(
            SliceHistory(
                *name,
                tuple(t.rows for t in each),
                tuple(t.positives for t in each),
                tuple(round(t.expected, 4) for t in each),
                tuple(round(t.variance, 4) for t in each),
                tuple(round(t.loss, 4) for t in each),
                tuple(None if a is None else round(a, 6) for a in areas) if whole else (),
            )
        )
    return tuple(found)


def tallies(past: SliceHistory) -> list[Tally]:
    """A slice's sums in every period of the reference."""
    columns = (past.rows, past.positives, past.expected, past.variance, past.loss)
    return [Tally(*each) for each in zip(*columns, strict=True)]


def residuals(label: np.ndarray, probability: np.ndarray, day: np.ndarray) -> Daily:
    """The observation of each day.

    Args:
        label, probability, day: of labelled rows, shape (n,); `day` is datetime64[D].
    """
    days, place = np.unique(day.astype("datetime64[D]"), return_inverse=True)
    p = probability.astype(np.float64)
    rows = np.bincount(place, minlength=len(days))
    sums = np.bincount(place, (label - p) * (1 - 2 * p), len(days))
    means = sums / np.maximum(rows, 1)
    return Daily(
        tuple(map(str, days)), tuple(map(int, rows)), tuple(round(float(m), 7) for m in means)
    )


def joined(parts: Iterable[Daily]) -> Daily:
    """Several stretches of days as one; they must be in order."""
    found = list(parts)
    return Daily(
        tuple(day for part in found for day in part.days),
        tuple(rows for part in found for rows in part.rows),
        tuple(value for part in found for value in part.residual),
    )
