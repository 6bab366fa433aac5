"""How answers did, by slice and by day: sums from which bias, loss and error follow.

What is summed up is one number an answer:

| task | outcome | expected | variance |
|---|---|---|---|
| binary | the label | its probability p | p (1 - p) |
| multiclass | 1 where the likeliest class is the true one | its probability p | p (1 - p) |
| regression | the label, in units of the task's scale | the answer, too | 1 |

Of several classes each one against the rest is a slice of its own, `(CLASS, name)`: their level is
seen there. What the sums of everything and of slices show is confidence (Guo et al. 2017).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.reference import Daily, SliceHistory
from data.task import BINARY, Task
from models.concept import observations
from models.slices import ALL

Slice = tuple[str, str]
EVERYTHING: Slice = (ALL, "rows")
CLASS = "one class"
CERTAIN = 25.0  # with less variance the level of a class is not known to a fifth of log odds


@dataclass(frozen=True)
class Tally:
    """Sums over the labelled rows of one slice, as in `data.reference.SliceHistory`.

    Attributes:
        constant: mean loss of the rows' own constant answer; None where it follows from positives.
    """

    rows: int
    positives: float
    expected: float
    variance: float
    loss: float
    constant: float | None = None

    @property
    def bias(self) -> float:
        """What the answers are too high by, in log odds, nearly, or in units of the scale.

        0 where nothing varies.
        """
        return (self.expected - self.positives) / self.variance if self.variance else 0.0

    @property
    def added_loss(self) -> float:
        """Of everything: mean loss beyond that of the rows' own constant answer; 0 without rows."""
        if not self.rows:
            return 0.0
        least = _of_rate(self.positives / self.rows) if self.constant is None else self.constant
        return self.loss / self.rows - least

    @property
    def certain(self) -> bool:
        """Whether the level of a class can be told."""
        return self.variance >= CERTAIN and self.positives > 0


def constant_loss(label: np.ndarray, task: Task) -> float:
    """Mean loss of the constant answer that suits these labels (n,) best; there must be one."""
    if task.kind == "regression":
        return float(np.var(label / task.scale) / 2)
    return entropy(task.constant(label)) if task.classes else _of_rate(float(label.mean()))


def _of_rate(rate: float) -> float:
    return entropy(np.array([rate, 1 - rate]))


def entropy(rates: np.ndarray) -> float:
    """Log loss of rates (classes,) that are exactly right, nats."""
    each = rates[rates > 0]
    return float(-(each * np.log(each)).sum())


def tally(
    label: np.ndarray, score: np.ndarray, slices: Mapping[str, np.ndarray], task: Task
) -> dict[Slice, Tally]:
    """The sums of everything, of every value of every slice, and of every class.

    Args:
        label, score: of n rows, see `data.task`.
        slices: name -> the value of each row, shape (n,).
    """
    columns = (np.ones(len(label)), *_parts(label, score, task), task.losses(label, score))
    whole = _of([float(column.sum()) for column in columns])
    if task.kind != "binary":
        whole = replace(whole, constant=constant_loss(label, task) if len(label) else 0.0)
    found = {EVERYTHING: whole}
    for name, values in slices.items():
        known, place = np.unique(values.astype(str), return_inverse=True)
        sums = [np.bincount(place, column, len(known)) for column in columns]
        for i, value in enumerate(known):
            found[name, str(value)] = _of([float(column[i]) for column in sums])
    for k, name in enumerate(task.classes):
        mine = (label == k).astype(np.int8)
        found[CLASS, name] = tally(mine, score[:, k], {}, BINARY)[EVERYTHING]
    return found


def _parts(label: np.ndarray, score: np.ndarray, task: Task) -> tuple[np.ndarray, ...]:
    """Outcome, expected and variance, each of shape (n,), as the module's table has them."""
    score = score.astype(np.float64)
    if not task.classes:
        return label / task.scale, score / task.scale, task.variances(score)
    top = score.max(axis=1)
    return score.argmax(axis=1) == label, top, top * (1 - top)


def _of(sums: Sequence[float]) -> Tally:
    rows, positives, *others = sums
    return Tally(int(rows), _counted(positives), *others)


def _counted(positives: float) -> float:
    """An integer where it is a count."""
    return int(positives) if positives.is_integer() else round(positives, 4)


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
        constants = [t.constant for t in each if t.constant is not None]
        found.append(
            SliceHistory(
                *name,
                tuple(t.rows for t in each),
                tuple(t.positives for t in each),
                tuple(round(t.expected, 4) for t in each),
                tuple(round(t.variance, 4) for t in each),
                tuple(round(t.loss, 4) for t in each),
                tuple(None if a is None else round(a, 6) for a in areas) if whole else (),
                tuple(round(value, 6) for value in constants),
            )
        )
    return tuple(found)


def tallies(past: SliceHistory) -> list[Tally]:
    """A slice's sums in every period of the reference."""
    columns = (past.rows, past.positives, past.expected, past.variance, past.loss)
    constants = past.constant or [None] * len(past.rows)
    return [Tally(*each) for each in zip(*columns, constants, strict=True)]


def residuals(label: np.ndarray, score: np.ndarray, day: np.ndarray, task: Task) -> Daily:
    """The observation of each day, see `models.concept`.

    Args:
        label, score, day: of labelled rows; `day` is datetime64[D], shape (n,).
    """
    days, place = np.unique(day.astype("datetime64[D]"), return_inverse=True)
    rows = np.bincount(place, minlength=len(days))
    sums = np.bincount(place, observations(label, score, task), len(days))
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
