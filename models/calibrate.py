"""Calibration: from a model's answer to one that means what it says, learned on other rows.

Every method is linear in the margin (`quality.margins`: log odds, of two outcomes), so that nothing
is lost where a float32 probability saturates, and the ONNX form needs no further node: leaves and
weights are rescaled.

| method | the margin becomes |
|---|---|
| none | the same |
| shift | margin + shift: the level alone |
| platt | slope * margin + shift (Platt 1999); of several classes each has its shift, and all the |
|  | slope: temperature scaling with a bias (Guo et al. 2017); of numbers least squares |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LinearRegression, LogisticRegression

from data.params import CalibrationMethod
from data.task import Task
from models.fitted import Fitted
from models.graphs import Shift
from models.quality import answers, level_shift, margins

Kept = float | tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Fitted on `rows` rows of `periods`, none of which the model that scored them had seen.

    Attributes:
        shift: a number; of several classes one for each.
        reason: why it is taken, or why `method` is none.
    """

    method: CalibrationMethod
    slope: float = 1.0
    shift: Kept = 0.0
    periods: tuple[str, ...] = ()
    rows: int = 0
    reason: str = ""

    def predict(self, model: Fitted, matrix: np.ndarray, task: Task) -> np.ndarray:
        """Calibrated answers of a model for features (n, width)."""
        if self.method == "none":
            return model.predict(matrix)
        return self.apply(model.margin(matrix), task)

    def apply(self, margin: np.ndarray, task: Task) -> np.ndarray:
        """Margins to calibrated answers, both in the task's shape."""
        return answers(self.slope * margin + np.asarray(self.shift), task)

    def moved(self, shift: Shift) -> "Calibration":
        """The same, with `shift` added to the calibrated margins."""
        if not np.any(shift):
            return self
        method: CalibrationMethod = "shift" if self.method == "none" else self.method
        return replace(self, method=method, shift=_kept(np.asarray(self.shift) + shift))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        shift = value.get("shift", 0.0)
        kept = tuple(shift) if isinstance(shift, list) else shift
        return cls(**{**value, "shift": kept, "periods": tuple(value["periods"])})


def _kept(shift: Shift) -> Kept:
    """A shift of margins in the form that is written down."""
    found: float | list[float] = np.asarray(shift, dtype=np.float64).tolist()
    return tuple(found) if isinstance(found, list) else found


def decide(
    method: CalibrationMethod,
    score: np.ndarray,
    label: np.ndarray,
    period: np.ndarray,
    task: Task,
) -> Calibration:
    """The calibration learned on all rows if it would have helped on each period, else none.

    Each period is calibrated by what the other periods teach, so that a level that merely swings
    from one to the next is not taken for a fault of the model.

    Args:
        score, label: of rows that their model had not seen; period: of each, shape (n,).
    """
    names = sorted(set(period))
    if method == "none":
        return Calibration("none", reason="not asked for")
    margin = margins(score, task)
    gains = {}
    for name in names:
        own = period == name
        learned = fit(method, margin[~own], label[~own], task)
        both = (score[own], learned.apply(margin[own], task))
        before, after = (task.losses(label[own], each).mean() for each in both)
        gains[name] = float(before - after)
    said = ", ".join(f"{name} {-gain:+.4f}" for name, gain in gains.items())
    if min(gains.values()) <= 0:
        return Calibration(
            "none", reason=f"{method} does not help in every period: {task.loss} {said}"
        )
    reason = f"{method} helps in every period, learned from the others: {task.loss} {said}"
    learned = fit(method, margin, label, task)
    return replace(learned, periods=tuple(names), rows=len(label), reason=reason)


def fit(
    method: CalibrationMethod, margin: np.ndarray, label: np.ndarray, task: Task
) -> Calibration:
    """Learn a calibration from margins of rows (n, ...) that their model had not seen.

    Where a slope would turn the ranking round, the level alone is learned; where all outcomes are
    the same, nothing is.
    """
    if method == "none" or not task.learnable(label):
        return Calibration("none")
    if method == "shift":
        return Calibration(method, shift=_kept(level_shift(label, margin, task)))
    slope, shift = line(label, margin, task)
    if slope <= 0:
        return fit("shift", margin, label, task)
    return Calibration(method, slope, _kept(shift))


def line(label: np.ndarray, margin: np.ndarray, task: Task) -> tuple[float, Shift]:
    """Slope and shift of margins (n, ...) with the least loss of the answers."""
    if task.kind == "regression":
        found = LinearRegression().fit(margin[:, None], label)
        return float(found.coef_[0]), float(found.intercept_)
    if task.kind == "binary":
        found = LogisticRegression(C=1e6, max_iter=1000).fit(margin[:, None], label)
        return float(found.coef_[0, 0]), float(found.intercept_[0])
    observed = task.hot(label)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        told = softmax(x[0] * margin + x[1:], axis=1)
        differ = (told - observed) / len(label)
        return float(task.losses(label, told).mean()), np.append((differ * margin).sum(),
                                                                 differ.sum(axis=0))  # fmt: skip

    x = minimize(loss, np.append(1.0, np.zeros(task.width)), jac=True, method="L-BFGS-B").x
    return float(x[0]), x[1:] - x[1:].mean()
