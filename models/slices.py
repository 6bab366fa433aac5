"""How a challenger does on each slice of a problem: rows of one origin, one carrier, one hour."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.features import CalendarPart, Columns
from data.problem import Problem
from data.windows import Labelled
from models.bootstrap import Interval, block_bootstrap
from models.quality import at_level, log_losses

ALL, MISSING = "all", "missing"


@dataclass(frozen=True)
class SliceFinding:
    """How the challenger does on the rows of one value of one slice; None where there are too few.

    Attributes:
        rows, past_rows: of the holdout and of the training rows looked at.
        bias: log odds that its probabilities are too high by on training rows, beyond what they
            are there on the whole; yardstick_bias: the yardstick's.
        fit: log loss on training rows beyond the yardstick's, each at its level.
        regression: log loss on the holdout beyond the compared model's, each at its level.
    """

    slice: str
    value: str
    rows: int
    past_rows: int
    bias: Interval | None
    yardstick_bias: float | None
    fit: Interval | None
    regression: Interval | None


@dataclass(frozen=True)
class Scored:
    """Labelled rows with the challenger's probabilities and those of what it is compared with."""

    rows: Labelled
    own: np.ndarray
    other: np.ndarray

    def added_loss(self) -> np.ndarray:
        """Each row's log loss beyond the other's, each at the level of these rows, shape (n,)."""
        label = self.rows.label
        own, other = (log_losses(label, at_level(label, score)) for score in (self.own, self.other))
        return np.asarray(own - other)


def findings(
    problem: Problem,
    past: Scored,
    held: Scored,
    needed: tuple[int, int],
    draws: Mapping[str, Any],
) -> tuple[SliceFinding, ...]:
    """Every value of every slice of the problem, and the whole, with what could be found out.

    Args:
        past: compared with the yardstick; held: with the champion, else the yardstick.
        needed: training and held-out rows; a slice with fewer is not judged.
        draws: samples, confidence and seed of the bootstraps. With many slices one is odd by
            chance, so that the share outside each interval is divided by their number (Bonferroni).
    """
    residual, variance = residuals(past.rows.label, past.own)
    yardstick = residuals(past.rows.label, past.other)
    fit, regression = past.added_loss(), held.added_loss()
    parts, found = list(masks(problem, past.rows.columns, held.rows.columns)), []
    judged = sum(bool(before.sum() >= needed[0]) for *_, before, _ in parts)
    strict = {**draws, "confidence": 1 - (1 - draws["confidence"]) / max(judged, 1)}
    for name, value, before, mine in parts:
        rows = int(mine.sum()), int(before.sum())
        bias, usual = _interval(residual, past.rows.day, before, needed[0], strict), None
        if bias is not None:
            bias = bias.over(float(variance[before].mean()))
            usual = bias_of(*yardstick, before)
        losses = (_interval(fit, past.rows.day, before, needed[0], strict),
                  _interval(regression, held.rows.day, mine, needed[1], strict))  # fmt: skip
        found.append(SliceFinding(name, value, *rows, bias, usual, *losses))
    return tuple(found)


def residuals(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability at the labels' level minus label, and its variance, each of shape (n,).

    The mean of the one over that of the other is, nearly, a step of log odds.
    """
    level = at_level(label, probability)
    return level - label, level * (1 - level)


def bias_of(residual: np.ndarray, variance: np.ndarray, rows: np.ndarray) -> float:
    """Log odds that these rows' probabilities are too high by, nearly; see `residuals`."""
    return float(residual[rows].mean() / variance[rows].mean())


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
