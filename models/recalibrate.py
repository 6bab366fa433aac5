"""Recalibration: the level of a served model, moved towards that of the newest matured labels.

A week's level swings by more than any model can know, so that only a part of the gap that one
window shows is taken over. The shift is added to the margins of the model as it was trained, before
any earlier recalibration: shifts replace each other and never add up.
"""

import numpy as np

from data.task import Task
from models.quality import answers, level_shift
from models.tally import CERTAIN


def learn(label: np.ndarray, margin: np.ndarray, shrink: float, task: Task) -> np.ndarray:
    """What to add to a trained model's margins from now on.

    Args:
        label: outcomes of the newest matured window, shape (n,).
        margin: the trained model's for the same rows, not recalibrated, see `models.quality`.
        shrink: the share of the gap that is taken over, 0 to 1.

    Returns:
        The shift, shape () or (classes,); 0 where the level says nothing: two outcomes of which
        only one is known, no rows, classes that are too rare.
    """
    if not len(label) or (task.kind == "binary" and not task.learnable(label)):
        return np.zeros(task.width) if task.classes else np.zeros(())
    shift = level_shift(label, margin, task)
    if task.classes:
        known = _certain(label, margin, task)
        shift = np.where(known, shift - shift[known].mean() if known.any() else 0.0, 0.0)
    return np.asarray(shrink * shift)


def _certain(label: np.ndarray, margin: np.ndarray, task: Task) -> np.ndarray:
    """Of each class whether its level can be told, as `models.tally.Tally.certain` has it."""
    variance = task.variances(answers(margin, task)).sum(axis=0)
    known = (variance >= CERTAIN) & (np.bincount(label, minlength=task.width) > 0)
    return np.asarray(known & (known.sum() > 1))


def size(shift: np.ndarray, task: Task) -> float:
    """How far a shift moves answers at most: log odds, or a number's standard deviations."""
    return float(np.abs(shift).max() / task.scale)


def say(shift: np.ndarray, task: Task) -> str:
    """A shift as people read it."""
    if task.classes:
        moved = (f"{name} {by:+.3f}" for name, by in zip(task.classes, shift, strict=True))
        return f"log odds of {', '.join(moved)}"
    return f"{task.unit} {float(shift) / task.scale:+.3f}"
