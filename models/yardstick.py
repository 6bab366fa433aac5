"""The gates' own model of the verified training rows, and what chance alone does to a retrain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from data import features
from data.features import Columns, Feature
from data.gate_params import Gates
from data.problem import Problem
from data.windows import Labelled, Windows
from models.quality import at_level, level_shift, log_losses, log_odds
from models.slices import bias_of, masks, residuals


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

    @cached_property
    def values(self) -> np.ndarray:
        """Features of the rows, shape (n, features)."""
        return features.transform(self.features, self.rows.columns)


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
        values, label = seen.values, seen.rows.label
        if drawn is not None:
            values, label = values[drawn], label[drawn]
        return cls(seen.features, model.fit(values, label))

    def score(self, columns: Columns) -> np.ndarray:
        """Probabilities for raw columns, shape (n,)."""
        return self.predict(features.transform(self.features, columns))

    def predict(self, values: np.ndarray) -> np.ndarray:
        """The same for features (n, width)."""
        return self.model.predict_proba(values)[:, 1].astype(np.float64)


@dataclass(frozen=True)
class Noise:
    """How much a measure changes when the same model is trained on other days of the same past.

    Attributes:
        auc, loss: ROC-AUC and log loss on the holdout.
        level: log odds of the mean probability of the training rows.
        slice_loss: log loss of the slice that changes most.
        bias: slice and value -> bias of each slice, see `SliceFinding`.
    """

    auc: float = 0.0
    loss: float = 0.0
    level: float = 0.0
    slice_loss: float = 0.0
    bias: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def times(self, params: Gates) -> "Noise":
        """What is allowed: of many slices one is always odd, so that a slice may change more."""
        factor = params.noise_factor
        return Noise(
            self.auc * factor,
            self.loss * factor,
            self.level * factor,
            self.slice_loss * factor,
            {name: value * params.slice_noise_factor for name, value in self.bias.items()},
        )


def noise(
    yardstick: Yardstick, seen: Seen, held: Labelled, problem: Problem, params: Gates, seed: int
) -> Noise:
    """The root mean square change over some yardsticks of training days drawn again.

    Whole days are drawn with replacement, the block bootstrap of the rows of training.
    """
    if not 0 < held.label.sum() < len(held):
        return Noise()
    parts = list(masks(problem, seen.rows.columns, held.columns))
    past = {(name, value): before for name, value, before, _ in parts
            if before.sum() >= params.slice_past_rows}  # fmt: skip
    here = [mine for *_, mine in parts if mine.sum() >= params.slice_rows]
    names, place = np.unique(seen.rows.day, return_inverse=True)
    values = features.transform(seen.features, held.columns)
    usual, found = _Measured.of(yardstick, seen, held, values), []
    for number in range(params.noise_retrains):
        random = np.random.default_rng([seed, number])
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        drawn = np.repeat(np.arange(len(place)), times[place])
        other = Yardstick.fit(seen, params, seed + 1 + number, drawn)
        measured = _Measured.of(other, seen, held, values)
        found.append(measured.change(usual, list(past.values()), here))
    auc, loss, level, slice_loss, *bias = map(float, np.sqrt(np.mean(np.square(found), axis=0)))
    return Noise(auc, loss, level, slice_loss, dict(zip(past, bias, strict=True)))


@dataclass(frozen=True)
class _Measured:
    """One yardstick: figures, and values for each held-out (losses) or training row (the rest)."""

    auc: float
    level: float
    losses: np.ndarray
    residual: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(
        cls, yardstick: Yardstick, seen: Seen, held: Labelled, values: np.ndarray
    ) -> "_Measured":
        score, before, past = yardstick.predict(values), yardstick.predict(seen.values), seen.rows
        return cls(
            float(roc_auc_score(held.label, score)),
            float(level_shift(past.label, log_odds(before))),
            log_losses(held.label, at_level(held.label, score)),
            *residuals(past.label, before),
        )

    def change(
        self, usual: "_Measured", past: Sequence[np.ndarray], held: Sequence[np.ndarray]
    ) -> tuple[float, ...]:
        """What differs: ROC-AUC, log loss, level, the worst held-out slice, each past slice's bias.

        Args:
            past, held: which rows lie in each slice.
        """
        losses = self.losses - usual.losses
        bias = [bias_of(self.residual, self.variance, rows)
                - bias_of(usual.residual, usual.variance, rows) for rows in past]  # fmt: skip
        return (
            self.auc - usual.auc,
            float(losses.mean()),
            self.level - usual.level,
            max((abs(float(losses[rows].mean())) for rows in held), default=0.0),
            *bias,
        )
