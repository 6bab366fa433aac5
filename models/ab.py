"""Two versions on traffic that was split between them: what each did, and who is better; pure.

Days are drawn again, both versions' together, for rows of one day hang together; with too few days
hours are, else single requests. The intervals are for one look at the end, not for stopping early.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.task import Task
from models.bootstrap import Interval, interval_of, mean_draws
from models.quality import ranking

UNITS = {"day": "datetime64[D]", "hour": "datetime64[h]"}
NAMES = {"decision": "decisions"}
FEWEST_BLOCKS = 7
SEED = 20130101


@dataclass(frozen=True)
class Side:
    """What one version did.

    Attributes:
        figures: mean answer, share of positive decisions (of two outcomes) and of degraded answers
            and, with labels, loss and squared error as the task has them, each with an interval.
        roc_auc: mean over `Task.contrasts` of the labelled rows; None where it is not defined.
    """

    version: str
    requests: int
    rows: int
    labelled: int
    figures: Mapping[str, Interval]
    roc_auc: float | None


@dataclass(frozen=True)
class Comparison:
    """Both, and B minus A.

    Attributes:
        unit: what was drawn again: day, hour or request.
        winner: a version, or None if no difference is shown.
        ranking: what people call `roc_auc`.
    """

    a: Side
    b: Side
    differences: Mapping[str, Interval]
    unit: str
    confidence: float
    winner: str | None
    reason: str
    ranking: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: tuple[str, pd.DataFrame],
    b: tuple[str, pd.DataFrame],
    *,
    minimum_labels: int,
    confidence: float,
    samples: int,
    task: Task,
) -> Comparison:
    """Judge two versions by the rows they answered.

    Args:
        a, b: version and rows: request, event_time, `columns(task)`, degraded, and label (NaN where
            there is none yet).
        minimum_labels: of each; with fewer nobody wins.
        confidence: of every interval.
        samples: bootstrap draws.
        task: at the scale of A's training.
    """
    unit = _unit(a[1], b[1])
    drawn = [_drawn(task, rows, unit, samples) for _, rows in (a, b)]
    sides = [
        _side(task, version, rows, {n: interval_of(v, d, confidence) for n, (v, d) in mine.items()})
        for (version, rows), mine in zip((a, b), drawn, strict=True)
    ]
    differences = {
        name: interval_of(value - drawn[0][name][0], draws - drawn[0][name][1], confidence)
        for name, (value, draws) in drawn[1].items()
        if name in drawn[0]
    }
    winner, reason = _judge(task.loss, sides[0], sides[1], differences, minimum_labels)
    a_side, b_side = sides
    return Comparison(a_side, b_side, differences, unit, confidence, winner, reason, task.ranking)


def columns(task: Task) -> list[str]:
    """The columns of the log that say what was answered."""
    told = list(task.columns(task.answer))
    return [*told, "decision"] if task.kind == "binary" else told


def _drawn(
    task: Task, rows: pd.DataFrame, unit: str, samples: int
) -> dict[str, tuple[float, np.ndarray]]:
    """By name, each figure and its bootstrap draws (samples,)."""
    return {
        name: (float(values.mean()), mean_draws(values, _blocks(part, unit), samples, SEED))
        for name, part, values in _figures(task, rows)
    }


def _figures(task: Task, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, np.ndarray]]:
    """Name, rows it is about, and its value on each of them."""
    if rows.empty:
        return []
    found = [
        (NAMES.get(name, name), rows, rows[name].to_numpy(dtype=float))
        for name in (*columns(task), "degraded")
    ]
    known = rows[rows["label"].notna()]
    if known.empty:
        return found
    label, score = _told(task, known)
    return [
        *found,
        (task.loss, known, task.losses(label, score)),
        ("squared error", known, task.squared_errors(label, score)),
    ]


def _told(task: Task, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and answers, see `data.task`."""
    label = known["label"].to_numpy().astype(task.dtype)
    return label, task.take(known, task.answer).astype(np.float64)


def _side(task: Task, version: str, rows: pd.DataFrame, figures: Mapping[str, Interval]) -> Side:
    known = rows[rows["label"].notna()]
    auc = ranking(*_told(task, known), task) if len(known) else None
    return Side(version, int(rows["request"].nunique()), len(rows), len(known), figures, auc)


def _judge(
    loss: str, a: Side, b: Side, differences: Mapping[str, Interval], minimum: int
) -> tuple[str | None, str]:
    fewest = min(a.labelled, b.labelled)
    if fewest < minimum:
        said = f"{a.labelled} and {b.labelled} answers have a label, at least {minimum} each are"
        return None, f"unknown: {said} needed"
    gap = differences[loss]
    said = f"{loss} {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], B minus A"
    if gap.high < 0:
        return b.version, f"version {b.version} (B) is better: {said}"
    if gap.low > 0:
        return a.version, f"version {a.version} (A) is better: {said}"
    return None, f"no difference shown: {said}"


def _unit(a: pd.DataFrame, b: pd.DataFrame) -> str:
    for unit in UNITS:
        if all(len(np.unique(_blocks(rows, unit))) >= FEWEST_BLOCKS for rows in (a, b)):
            return unit
    return "request"


def _blocks(rows: pd.DataFrame, unit: str) -> np.ndarray:
    if unit == "request":
        return rows["request"].to_numpy(dtype=str)
    return rows["event_time"].to_numpy(dtype="datetime64[us]").astype(UNITS[unit])
