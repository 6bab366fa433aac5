"""Calibration: from a model's probability to one that means what it says, learned on other rows.

Every method is monotone, so that no ranking changes, and has the same form, which the ONNX graph
ends with: log odds = slope_positive * log p - slope_negative * log(1 - p) + shift.

| method | fitted |
|---|---|
| none | nothing |
| shift | shift: the level alone |
| platt | both slopes as one, shift (Platt 1999, on log odds) |
| beta | all three (Kull et al. 2017) |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from data.params import CalibrationMethod
from models.graphs import CLIP
from models.quality import log_losses


@dataclass(frozen=True)
class Calibration:
    """Fitted on `rows` rows of `periods`, none of which the model that scored them had seen.

    Attributes:
        reason: why it is taken, or why `method` is none.
    """

    method: CalibrationMethod
    slope_positive: float = 1.0
    slope_negative: float = 1.0
    shift: float = 0.0
    periods: tuple[str, ...] = ()
    rows: int = 0
    reason: str = ""

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (n,)."""
        if self.method == "none":
            return probability
        p = np.clip(probability.astype(np.float64), CLIP, 1 - CLIP)
        odds = self.slope_positive * np.log(p) - self.slope_negative * np.log1p(-p) + self.shift
        return np.asarray(expit(odds))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        return cls(**{**value, "periods": tuple(value["periods"])})


def decide(
    method: CalibrationMethod, probability: np.ndarray, label: np.ndarray, period: np.ndarray
) -> Calibration:
    """The calibration learned on all rows if it would have helped on each period, else none.

    Each period is calibrated by what the other periods teach, so that a level that merely swings
    from one to the next is not taken for a fault of the model.

    Args:
        probability, label, period: of rows that their model had not seen, shape (n,).
    """
    names = sorted(set(period))
    if method == "none":
        return Calibration("none", reason="not asked for")
    gains = {}
    for name in names:
        own = period == name
        learned = fit(method, probability[~own], label[~own])
        before, after = (log_losses(label[own], p).mean()
                         for p in (probability[own], learned.apply(probability[own])))  # fmt: skip
        gains[name] = float(before - after)
    said = ", ".join(f"{name} {-gain:+.4f}" for name, gain in gains.items())
    if min(gains.values()) <= 0:
        return Calibration(
            "none", reason=f"{method} does not help in every period: log loss {said}"
        )
    reason = f"{method} helps in every period, learned from the others: log loss {said}"
    learned = fit(method, probability, label)
    return replace(learned, periods=tuple(names), rows=len(label), reason=reason)


def fit(method: CalibrationMethod, probability: np.ndarray, label: np.ndarray) -> Calibration:
    """Learn a calibration from probabilities (n,) of rows that their model had not seen.

    Where a slope would turn the ranking round, the simpler method is taken; where only one outcome
    is known, none is.
    """
    p = np.clip(probability.astype(np.float64), CLIP, 1 - CLIP)
    if method == "none" or not 0 < label.sum() < len(label):
        return Calibration("none")
    if method == "shift":
        return Calibration(method, shift=_shift(p, label))
    logs = np.column_stack([np.log(p), -np.log1p(-p)])
    inputs = logs.sum(axis=1, keepdims=True) if method == "platt" else logs
    regression = LogisticRegression(C=1e6, max_iter=1000).fit(inputs, label)
    slopes, shift = regression.coef_[0], float(regression.intercept_[0])
    if min(slopes) <= 0:
        return fit("platt" if method == "beta" else "shift", probability, label)
    return Calibration(method, float(slopes[0]), float(slopes[-1]), shift)


def _shift(p: np.ndarray, label: np.ndarray) -> float:
    """The change of log odds that gives the observed rate."""
    odds, rate = logit(p), float(label.mean())
    return float(brentq(lambda shift: expit(odds + shift).mean() - rate, -40.0, 40.0))
