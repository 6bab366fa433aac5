"""Recalibration: the level of a served model, moved towards that of the newest matured labels.

A week's level swings by more than any model can know, so that only a part of the gap that one
window shows is taken over. The shift is added to the log odds of the model as it was trained,
before any earlier recalibration: shifts replace each other and never add up.
"""

import numpy as np

from models.quality import level_shift


def learn(label: np.ndarray, odds: np.ndarray, shrink: float) -> float:
    """What to add to a trained model's log odds from now on.

    Args:
        label: 0/1 outcomes of the newest matured window, shape (n,).
        odds: the trained model's log odds for the same rows, not recalibrated, shape (n,).
        shrink: the share of the gap that is taken over, 0 to 1.

    Returns:
        The shift; 0 where only one outcome is known, whose level says nothing.
    """
    if not 0 < label.sum() < len(label):
        return 0.0
    return shrink * float(level_shift(label, odds))
