"""The gates' own model of the verified training rows, and what chance alone does to a retrain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from xgboost import XGBClassifier, XGBRegressor

from data import features
from data.features import Columns, Feature
from data.gate_params import Gates
from data.problem import Problem
from data.task import Task
from data.windows import Labelled, Windows
from models.quality import at_level, level_shift, margins, ranking
from models.slices import Place, Residual, common, masks, residuals

FOLDS = 4  # of the training days, for answers to rows that were not seen


@dataclass(frozen=True)
class Seen:
    """The training rows of a moment, as the verified partitions have them.

    Attributes:
        rows: every k-th of them, so that there are at most `past_rows`.
        total: how many there are.
        task: the problem's, at the scale of all of them.
        features: the problem's features, fitted on all of them.
        fingerprint: sha256 by file of the windows' partitions.
    """

    windows: Windows
    rows: Labelled
    total: int
    task: Task
    features: tuple[Feature, ...]
    fingerprint: Mapping[str, str]

    @cached_property
    def values(self) -> np.ndarray:
        """Features of the rows, shape (n, features)."""
        return features.transform(self.features, self.rows.columns)


@dataclass(frozen=True)
class Yardstick:
    """A plain boosted model; it never serves.

    Attributes:
        known: the places of the classes that it was trained on, of several.
    """

    task: Task
    features: tuple[Feature, ...]
    model: XGBClassifier | XGBRegressor
    known: np.ndarray

    @classmethod
    def fit(
        cls, seen: Seen, params: Gates, seed: int, drawn: np.ndarray | None = None
    ) -> "Yardstick":
        """Trained on all rows, or on those drawn (places, shape (n,))."""
        kind = XGBRegressor if seen.task.kind == "regression" else XGBClassifier
        model = kind(
            n_estimators=params.yardstick_trees, max_depth=params.yardstick_depth,
            learning_rate=0.1, min_child_weight=20.0, reg_lambda=5.0, colsample_bytree=0.7,
            subsample=0.8, tree_method="hist", random_state=seed, n_jobs=1,
        )  # fmt: skip
        values, label = seen.values, seen.rows.label
        if drawn is not None:
            values, label = values[drawn], label[drawn]
        known, places = np.unique(label, return_inverse=True)
        wanted = places if seen.task.classes else label  # XGBoost wants classes without gaps
        return cls(seen.task, seen.features, model.fit(values, wanted), known)

    def score(self, columns: Columns) -> np.ndarray:
        """Answers for raw columns, see `data.task`."""
        return self.predict(features.transform(self.features, columns))

    def predict(self, values: np.ndarray) -> np.ndarray:
        """The same for features (n, width)."""
        if isinstance(self.model, XGBRegressor):
            return np.asarray(self.model.predict(values), dtype=np.float64)
        found = self.model.predict_proba(values).astype(np.float64)
        if not self.task.classes:
            return np.asarray(found[:, 1])
        score = np.zeros((len(values), self.task.width))
        score[:, self.known] = found
        return score


def apart(seen: Seen, params: Gates, seed: int) -> np.ndarray:
    """Answers to the training rows, each day's from a yardstick trained on the other folds' days.

    Folds take turns by day, so that each is of the whole past (Stone 1974). A single day has none.
    """
    names, place = np.unique(seen.rows.day, return_inverse=True)
    folds = min(FOLDS, len(names))
    if folds < 2:
        return Yardstick.fit(seen, params, seed).predict(seen.values)
    score = np.zeros(seen.task.hot(seen.rows.label).shape)
    for fold in range(folds):
        mine = place % folds == fold
        other = Yardstick.fit(seen, params, seed, np.flatnonzero(~mine))
        score[mine] = other.predict(seen.values[mine])
    return score


@dataclass(frozen=True)
class Noise:
    """How much a measure changes when the same model is trained on other days of the same past.

    Attributes:
        auc, loss: ranking (see `Task.contrasts`) and loss on the holdout.
        level: log odds of the mean probability of the training rows, the largest of several
            classes; of a number in units of its scale.
        slice_loss: loss of the slice that changes most.
        bias: bias of each slice, see `SliceFinding`.
    """

    auc: float = 0.0
    loss: float = 0.0
    level: float = 0.0
    slice_loss: float = 0.0
    bias: Mapping[Place, float] = field(default_factory=dict)

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
    if not seen.task.learnable(held.label):
        return Noise()
    parts = list(masks(problem, seen.rows.columns, held.columns))
    past = {(name, value): before for name, value, before, _ in parts
            if before.sum() >= params.slice_past_rows}  # fmt: skip
    here = [mine for *_, mine in parts if mine.sum() >= params.slice_rows]
    names, place = np.unique(seen.rows.day, return_inverse=True)
    values = features.transform(seen.features, held.columns)
    needed = params.slice_past_rows
    usual, found = _Measured.of(yardstick, seen, held, values, needed), []
    for number in range(params.noise_retrains):
        random = np.random.default_rng([seed, number])
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        drawn = np.repeat(np.arange(len(place)), times[place])
        other = Yardstick.fit(seen, params, seed + 1 + number, drawn)
        measured = _Measured.of(other, seen, held, values, needed)
        found.append(measured.change(usual, list(past.values()), here))
    auc, loss, level, slice_loss, *bias = map(float, np.sqrt(np.mean(np.square(found), axis=0)))
    places = [(*where, one.outcome) for where in past for one in usual.residuals]
    return Noise(auc, loss, level, slice_loss, dict(zip(places, bias, strict=True)))


@dataclass(frozen=True)
class _Measured:
    """One yardstick: figures, and values for each held-out (losses) or training row (residuals)."""

    auc: float
    level: Mapping[str, float]
    losses: np.ndarray
    residuals: Sequence[Residual]

    @classmethod
    def of(
        cls, yardstick: Yardstick, seen: Seen, held: Labelled, values: np.ndarray, needed: int
    ) -> "_Measured":
        score, before, past = yardstick.predict(values), yardstick.predict(seen.values), seen.rows
        task, auc = seen.task, ranking(held.label, score, seen.task)
        return cls(
            0.5 if auc is None else auc,
            levels(past.label, margins(before, task), task, needed),
            task.losses(held.label, at_level(held.label, score, task)),
            residuals(past.label, before, task, needed),
        )

    def change(
        self, usual: "_Measured", past: Sequence[np.ndarray], held: Sequence[np.ndarray]
    ) -> tuple[float, ...]:
        """What differs: ranking, loss, level, the worst held-out slice, each past slice's bias.

        Args:
            past, held: which rows lie in each slice.
        """
        losses = self.losses - usual.losses
        bias = [mine.bias(rows) - its.bias(rows) for rows in past
                for mine, its in zip(self.residuals, usual.residuals, strict=True)]  # fmt: skip
        return (
            self.auc - usual.auc,
            float(losses.mean()),
            max(abs(shift - usual.level[name]) for name, shift in self.level.items()),
            max((abs(float(losses[rows].mean())) for rows in held), default=0.0),
            *bias,
        )


def levels(label: np.ndarray, margin: np.ndarray, task: Task, needed: int) -> dict[str, float]:
    """`quality.level_shift` in units of the task's scale: by class, of several common ones.

    Those of classes are beyond their mean over the rows, to which a rare one adds next to nothing.
    """
    shift = level_shift(label, margin, task) / task.scale
    if not task.classes:
        return {"": float(shift)}
    shift = shift - task.constant(label) @ shift
    return {task.classes[k]: float(shift[k]) for k in common(label, task, needed)}
