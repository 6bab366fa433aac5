"""What is said of a row, by the kind of outcome; endpoint, tables and exports say it alike.

| kind | a score | what is said |
|---|---|---|
| binary | probability | `probability`, and the target: true from the threshold on |
| multiclass | probabilities, by class | the target: the likeliest class, of equals the first; |
|  |  | and `probabilities` by the names of the classes |
| regression | number | the target: the number |
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.task import Task

PROBABILITY, PROBABILITIES, PREDICTION = "probability", "probabilities", "prediction"
MOVED = 1.0  # of a regression's scale: numbers further apart are two decisions

FEW = 8  # values: NumPy needs as long for them as for hundreds

Score = float | list[float]


def columns(task: Task) -> tuple[str, ...]:
    """The columns that hold a score in the log and in tables."""
    return task.columns(task.answer)


def output(task: Task) -> str:
    """The name of a model's output."""
    return PREDICTION if task.kind == "regression" else PROBABILITIES


def scores(task: Task, found: np.ndarray) -> np.ndarray:
    """The scores in a model's output (n, k): of two outcomes and of a number one column."""
    if task.classes:
        return found
    return found[:, 1] if task.kind == "binary" else found[:, 0]


def valid(task: Task, found: np.ndarray) -> np.ndarray:
    """These scores.

    Raises:
        ValueError: if one is no probability, or of a regression no number.
    """
    if task.kind == "regression":
        if not np.isfinite(found).all():
            raise ValueError("no finite number")
    elif not _are_probabilities(found):
        raise ValueError("no probability")
    return found


def _are_probabilities(found: np.ndarray) -> bool:
    """NaN is none."""
    if found.size <= FEW:
        return all(0 <= each <= 1 for each in found.ravel().tolist())
    return bool(found.min() >= 0 and found.max() <= 1)


def parts(task: Task, target: str) -> dict[str, Any]:
    """Name and type of what is said, in order."""
    if task.kind == "regression":
        return {target: float}
    if task.classes:
        return {target: str, PROBABILITIES: dict[str, float]}
    return {PROBABILITY: float, target: bool}


def said(task: Task, threshold: float | None, scores: list[Any]) -> list[list[Any]]:
    """The values of `parts` for scores, column by column."""
    decided = decisions(task, threshold, scores)
    if task.kind == "binary":
        return [scores, decided]
    if task.kind == "regression":
        return [decided]
    return [decided, [dict(zip(task.classes, score, strict=True)) for score in scores]]


def decisions(task: Task, threshold: float | None, scores: list[Any]) -> list[Any]:
    """The target's values: whether it is, which class, or the number."""
    if task.kind == "binary":
        return [score >= threshold for score in scores]
    if task.kind == "regression":
        return scores
    return [task.classes[likeliest(score)] for score in scores]


def likeliest(score: list[float]) -> int:
    """The place of the largest probability, of equals the first."""
    return score.index(max(score))


def heard(task: Task, target: str, value: Mapping[str, Any]) -> tuple[Score, Any] | None:
    """Score and decision of an answer that was said; None if it is none of this task."""
    decided: Any = value.get(target)
    if task.kind == "regression":
        return (decided, decided) if _is_number(decided) else None
    if task.classes:
        said = value.get(PROBABILITIES)
        if not isinstance(said, dict) or set(said) != set(task.classes):
            return None
        score: Any = [said[each] for each in task.classes]
        fine = all(map(_is_probability, score)) and decided in task.classes
    else:
        score = value.get(PROBABILITY)
        fine = _is_probability(score) and isinstance(decided, bool)
    return (score, decided) if fine else None


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def _is_probability(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def comparable(one: Task, other: Task) -> bool:
    """Whether answers are of the same kind and name the same classes."""
    return (one.kind, one.classes) == (other.kind, other.classes)


def distance(task: Task, one: Score, other: Score) -> float:
    """How far two scores are apart: the most of any class, a regression's in its scale."""
    return float(np.abs(np.subtract(one, other)).max() / task.scale)


def gap(task: Task, found: Score, expected: Score) -> float:
    """The difference of scores that should be the same, see `Task.gap`."""
    return task.gap(np.array([found]), np.array([expected]))


def moved(task: Task, one: tuple[Score, Any], other: tuple[Score, Any]) -> bool:
    """Whether two answers, each score and decision, are two decisions.

    Of a regression: whether they are more than `MOVED` scales apart.
    """
    if task.kind == "regression":
        return distance(task, one[0], other[0]) > MOVED
    return bool(one[1] != other[1])


def written(score: Any) -> str:
    """For people."""
    return ", ".join(f"{each:.6f}" for each in np.atleast_1d(score))
