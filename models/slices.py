"""How a challenger does on each slice of a problem: rows of one origin, one carrier, one hour."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from data.features import CalendarPart, Columns
from data.problem import Problem
from data.task import Task
from data.windows import Labelled
from models.bootstrap import Interval, block_bootstrap
from models.quality import at_level

ALL, MISSING = "all", "missing"
Place = tuple[str, str, str]  # slice, value, and which class its bias is about, else ""


@dataclass(frozen=True)
class SliceFinding:
    """How the challenger does on the rows of one value of one slice; None where there are too few.

    Attributes:
        rows, past_rows: of the holdout and of the training rows looked at.
        bias: log odds that its probabilities are too high by on training rows, beyond what they
            are there on the whole, of the worst of several classes; of a number in units of its
            scale. yardstick_bias: the yardstick's.
        fit: loss on training rows beyond the yardstick's, each at its level.
        regression: loss on the holdout beyond the compared model's, each at its level.
        outcome: the class that `bias` is about, of several.
        optimism: what of `fit` is surely not there on the slice's held-out rows: the yardstick fits
            it in training, and cannot hold it.
        times: how many times as much as in all rows the yardstick fits in training, and cannot hold
            on days that it did not see; at least 1.
    """

    slice: str
    value: str
    rows: int
    past_rows: int
    bias: Interval | None
    yardstick_bias: float | None
    fit: Interval | None
    regression: Interval | None
    outcome: str = ""
    optimism: float = 0.0
    times: float = 1.0

    @property
    def place(self) -> Place:
        return self.slice, self.value, self.outcome

    @property
    def excess(self) -> float:
        """How much further off than the yardstick it is; without sign, 0 where nobody knows."""
        return abs(self.bias.value) - abs(self.yardstick_bias or 0.0) if self.bias else 0.0


@dataclass(frozen=True)
class Scored:
    """Labelled rows with the challenger's answers and those of what it is compared with."""

    rows: Labelled
    own: np.ndarray
    other: np.ndarray

    def added_loss(self, task: Task) -> np.ndarray:
        """Each row's loss beyond the other's, each at the level of these rows, shape (n,)."""
        label = self.rows.label
        own, other = (task.losses(label, at_level(label, score, task))
                      for score in (self.own, self.other))  # fmt: skip
        return np.asarray(own - other)


def findings(
    problem: Problem,
    task: Task,
    past: Scored,
    held: Scored,
    unseen: Scored,
    apart: np.ndarray,
    needed: tuple[int, int],
    draws: Mapping[str, Any],
    chance: Mapping[Place, float],
) -> tuple[SliceFinding, ...]:
    """Every value of every slice of the problem, and the whole, with what could be found out.

    Args:
        past: compared with the yardstick; held: with the champion, else the yardstick; unseen: the
            held-out rows with the yardstick.
        apart: yardsticks' answers to the training rows of days that they did not see.
        needed: training and held-out rows; a slice with fewer is not judged.
        draws: samples, confidence and seed of the bootstraps. With many slices one is odd by
            chance, so that the share outside each interval is divided by their number (Bonferroni).
        chance: what a bias may come to by chance; the worst class is the worst beyond it.
    """
    label, day = past.rows.label, past.rows.day
    pairs = list(zip(*(residuals(label, score, task, needed[0])
                       for score in (past.own, past.other)), strict=True))  # fmt: skip
    fit, regression, still = (each.added_loss(task) for each in (past, held, unseen))
    parts, found = list(masks(problem, past.rows.columns, held.rows.columns)), []
    own = Scored(past.rows, apart, past.other).added_loss(task)
    judged = sum(bool(before.sum() >= needed[0]) for *_, before, _ in parts)
    strict = {**draws, "confidence": 1 - (1 - draws["confidence"]) / max(judged, 1)}
    for name, value, before, mine in parts:
        losses = (_interval(fit, day, before, needed[0], strict),
                  _interval(regression, held.rows.day, mine, needed[1], strict))  # fmt: skip
        here = SliceFinding(name, value, int(mine.sum()), int(before.sum()), None, None, *losses)
        if there := here.fit:
            here = _biased(here, pairs, chance, (day, before), strict)
            rest = _interval(still, held.rows.day, mine, needed[1], draws)
            optimism = max(0.0, there.value - rest.high) if rest else 0.0
            times = own[before].mean() / own.mean() if own.mean() > 0 else 1.0
            here = replace(here, optimism=optimism, times=max(1.0, float(times)))
        found.append(here)
    return tuple(found)


@dataclass(frozen=True)
class Residual:
    """How much answers at the labels' level are too high, and the variance of it, each (n,).

    The mean of the one over that of the other is, nearly, a step of log odds; of a number, one in
    units of its scale.
    """

    outcome: str
    value: np.ndarray
    variance: np.ndarray

    def bias(self, rows: np.ndarray) -> float:
        return float(self.value[rows].mean() / self.variance[rows].mean())


def residuals(label: np.ndarray, score: np.ndarray, task: Task, needed: int) -> list[Residual]:
    """Those of the answer; of several classes those of each common one, see `common`."""
    level = at_level(label, score, task)
    value, variance = -task.residuals(label, level), task.variances(level)
    if not task.classes:
        return [Residual("", value, variance)]
    return [Residual(task.classes[k], value[:, k].copy(), variance[:, k].copy())
            for k in common(label, task, needed)]  # fmt: skip


def common(label: np.ndarray, task: Task, needed: int) -> list[int]:
    """The places of the classes that `needed` of these rows have, else of the commonest alone.

    Of a rare one nobody can say whether its level is right.
    """
    counts = np.bincount(label, minlength=task.width)
    return [k for k, count in enumerate(counts) if count >= min(needed, counts.max())]


def _biased(
    here: SliceFinding,
    pairs: Sequence[tuple[Residual, Residual]],
    chance: Mapping[Place, float],
    of: tuple[np.ndarray, np.ndarray],
    draws: Mapping[str, Any],
) -> SliceFinding:
    """With the bias of the class, of several, that is furthest off beyond chance.

    Args:
        pairs: the challenger's and the yardstick's residuals.
        of: day and whether it lies in the slice, of each training row.
    """
    day, rows = of

    def beyond(pair: tuple[Residual, Residual]) -> float:
        own, usual = (abs(each.bias(rows)) for each in pair)
        return own - usual - chance.get((here.slice, here.value, pair[0].outcome), 0.0)

    own, usual = max(pairs, key=beyond)
    bias = block_bootstrap(own.value[rows], day[rows], **draws)
    bias = bias.over(float(own.variance[rows].mean()))
    return replace(here, bias=bias, yardstick_bias=usual.bias(rows), outcome=own.outcome)


def masks(
    problem: Problem, past: Columns, held: Columns
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Slice, value, and which training and held-out rows lie in it.

    First all rows, then the problem's slices, then the rows that lack each field.
    """
    yield ALL, "rows", _everywhere(past), _everywhere(held)
    for name in problem.slices:
        there, here = values(problem, name, past), values(problem, name, held)
        for value in sorted(set(here) | set(there)):
            yield name, value, there == value, here == value
    for field in problem.fields:
        if field.nullable and field.name not in problem.slices:
            there, here = (_missing(columns[field.name]) for columns in (past, held))
            if there.any() or here.any():
                yield field.name, MISSING, there, here


def _everywhere(columns: Columns) -> np.ndarray:
    return np.ones(len(next(iter(columns.values()))), dtype=bool)


def _missing(values: np.ndarray) -> np.ndarray:
    return np.asarray(pd.isna(values))


def _interval(
    values: np.ndarray, day: np.ndarray, mask: np.ndarray, needed: int, draws: Mapping[str, Any]
) -> Interval | None:
    if mask.sum() < needed or len(np.unique(day[mask])) < 2:
        return None
    return block_bootstrap(values[mask], day[mask], **draws)


def values(problem: Problem, name: str, columns: Columns) -> np.ndarray:
    """The slice that each row lies in, as text, shape (n,): a text field, or a calendar part."""
    parts = [f for f in problem.features if f.name == name and isinstance(f, CalendarPart)]
    if parts:
        found = parts[0].transform(columns)
        return np.array([MISSING if np.isnan(v) else f"{v:02.0f}" for v in found], dtype=object)
    return np.array([MISSING if v is None else str(v) for v in columns[name]], dtype=object)
