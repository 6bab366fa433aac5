"""The gates' own model of the verified training rows, and what chance alone does to a retrain."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from data import features
from data.features import Columns, Feature
from data.params import Gates
from data.problem import Problem
from data.windows import Labelled, Windows
from models.quality import at_level, level_shift, log_losses, log_odds
from models.slices import masks, residuals


@dataclass(frozen=True)
class Seen:
    """The training rows of a moment, as the verified partitions have them.

    Attributes:
        rows: every k-th of them, so that there are at most `past_rows`.
        total: how many there are.
        features: the problem's features, fitted on all of them.
        fingerprint: sha256 by file of the windows' partitions.
    """

    windows: Windows
    rows: Labelled
    total: int
    features: tuple[Feature, ...]
    fingerprint: Mapping[str, str]


@dataclass(frozen=True)
class Yardstick:
    """A plain boosted model; it never serves."""

    features: tuple[Feature, ...]
    model: XGBClassifier

    @classmethod
    def fit(
        cls, seen: Seen, params: Gates, seed: int, drawn: np.ndarray | None = None
    ) -> "Yardstick":
        """Trained on all rows, or on those drawn (places, shape (n,))."""
        model = XGBClassifier(
            n_estimators=params.yardstick_trees, max_depth=params.yardstick_depth,
            learning_rate=0.1, min_child_weight=20.0, reg_lambda=5.0, colsample_bytree=0.7,
            subsample=0.8, tree_method="hist", random_state=seed, n_jobs=1,
        )  # fmt: skip
        values, label = features.transform(seen.features, seen.rows.columns), seen.rows.label
        if drawn is not None:
            values, label = values[drawn], label[drawn]
        return cls(seen.features, model.fit(values, label))

    def score(self, columns: Columns) -> np.ndarray:
        """Probabilities for raw columns, shape (n,)."""
        values = features.transform(self.features, columns)
        return self.model.predict_proba(values)[:, 1].astype(np.float64)


@dataclass(frozen=True)
class Noise:
    """How much a measure changes when the same model is trained on other days of the same past.

    Attributes:
        auc, loss: ROC-AUC and log loss on the holdout.
        level: log odds of the mean probability of the training rows.
        slice_loss, slice_bias: log loss and bias of the slice that changes most.
    """

    auc: float = 0.0
    loss: float = 0.0
    level: float = 0.0
    slice_loss: float = 0.0
    slice_bias: float = 0.0

    def times(self, factor: float) -> "Noise":
        return Noise(*(factor * part for part in astuple(self)))


def noise(
    yardstick: Yardstick, seen: Seen, held: Labelled, problem: Problem, params: Gates, seed: int
) -> Noise:
    """The root mean square change over some yardsticks of training days drawn again.

    Whole days are drawn with replacement, the block bootstrap of the rows of training.
    """
    if not 0 < held.label.sum() < len(held):
        return Noise()
    parts = [(before, mine) for *_, before, mine in masks(problem, seen.rows.columns, held.columns)]
    names, place = np.unique(seen.rows.day, return_inverse=True)
    usual, found = _Measured.of(yardstick, seen.rows, held), []
    for number in range(params.noise_retrains):
        random = np.random.default_rng([seed, number])
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        drawn = np.repeat(np.arange(len(place)), times[place])
        other = Yardstick.fit(seen, params, seed + 1 + number, drawn)
        measured = _Measured.of(other, seen.rows, held)
        found.append(measured.change(usual, parts, (params.slice_past_rows, params.slice_rows)))
    return Noise(*map(float, np.sqrt(np.mean(np.square(found), axis=0))))


@dataclass(frozen=True)
class _Measured:
    """One yardstick: figures, and values for each held-out (losses) or training row (the rest)."""

    auc: float
    level: float
    losses: np.ndarray
    residual: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, yardstick: Yardstick, past: Labelled, held: Labelled) -> "_Measured":
        score, before = yardstick.score(held.columns), yardstick.score(past.columns)
        return cls(
            float(roc_auc_score(held.label, score)),
            level_shift(past.label, log_odds(before)),
            log_losses(held.label, at_level(held.label, score)),
            *residuals(past.label, before),
        )

    def change(
        self,
        usual: "_Measured",
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        needed: tuple[int, int],
    ) -> tuple[float, ...]:
        """What differs, in the order of `Noise`; of the slices the largest difference."""
        losses = self.losses - usual.losses
        past = [before for before, _ in parts if before.sum() >= needed[0]]
        held = [mine for _, mine in parts if mine.sum() >= needed[1]]
        bias = [abs(self._bias(before) - usual._bias(before)) for before in past]
        return (
            self.auc - usual.auc,
            float(losses.mean()),
            self.level - usual.level,
            max((abs(float(losses[mine].mean())) for mine in held), default=0.0),
            max(bias, default=0.0),
        )

    def _bias(self, rows: np.ndarray) -> float:
        return float(self.residual[rows].mean() / self.variance[rows].mean())
