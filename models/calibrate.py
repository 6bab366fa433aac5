"""Calibration: from a model's probability to one that means what it says, learned on other rows.

Every method is linear in the log odds, so that no ranking changes, nothing is lost where a float32
probability saturates, and the ONNX form needs no further node: leaves and weights are rescaled.

| method | log odds become |
|---|---|
| none | the same |
| shift | log odds + shift: the level alone |
| platt | slope * log odds + shift (Platt 1999) |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from data.params import CalibrationMethod
from models.candidates import Fitted
from models.quality import level_shift, log_losses

# Nearer to 0 or 1 than this a float32 cannot tell a probability from certainty.
CLIP = 1e-7


@dataclass(frozen=True)
class Calibration:
    """Fitted on `rows` rows of `periods`, none of which the model that scored them had seen.

    Attributes:
        reason: why it is taken, or why `method` is none.
    """

    method: CalibrationMethod
    slope: float = 1.0
    shift: float = 0.0
    periods: tuple[str, ...] = ()
    rows: int = 0
    reason: str = ""

    def predict(self, model: Fitted, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of a model for features (n, width), shape (n,)."""
        return model.predict(matrix) if self.method == "none" else self.apply(model.odds(matrix))

    def apply(self, odds: np.ndarray) -> np.ndarray:
        """Log odds (n,) to calibrated probabilities (n,)."""
        return np.asarray(expit(self.slope * odds + self.shift))

    def moved(self, shift: float) -> "Calibration":
        """The same, with `shift` added to the calibrated log odds."""
        if not shift:
            return self
        method: CalibrationMethod = "shift" if self.method == "none" else self.method
        return replace(self, method=method, shift=self.shift + shift)

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
    odds = logit(np.clip(probability.astype(np.float64), CLIP, 1 - CLIP))
    gains = {}
    for name in names:
        own = period == name
        learned = fit(method, odds[~own], label[~own])
        both = (probability[own], learned.apply(odds[own]))
        before, after = (log_losses(label[own], p).mean() for p in both)
        gains[name] = float(before - after)
    said = ", ".join(f"{name} {-gain:+.4f}" for name, gain in gains.items())
    if min(gains.values()) <= 0:
        return Calibration(
            "none", reason=f"{method} does not help in every period: log loss {said}"
        )
    reason = f"{method} helps in every period, learned from the others: log loss {said}"
    learned = fit(method, odds, label)
    return replace(learned, periods=tuple(names), rows=len(label), reason=reason)


def fit(method: CalibrationMethod, odds: np.ndarray, label: np.ndarray) -> Calibration:
    """Learn a calibration from log odds (n,) of rows that their model had not seen.

    Where a slope would turn the ranking round, the level alone is learned; where only one outcome
    is known, nothing is.
    """
    if method == "none" or not 0 < label.sum() < len(label):
        return Calibration("none")
    if method == "shift":
        return Calibration(method, shift=float(level_shift(label, odds)))
    regression = LogisticRegression(C=1e6, max_iter=1000).fit(odds[:, None], label)
    slope, shift = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    return Calibration(method, slope, shift) if slope > 0 else fit("shift", odds, label)
