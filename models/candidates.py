"""The models that compete for the challenger's place, behind one interface.

Each is deterministic: one thread (more spin on a busy machine, which cost up to 20 times), seeded,
and fitted on float32 features, which is what serving has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import onnx
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType
from scipy.special import expit, logit
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

from data.features import Category, Feature
from data.params import Params
from models import graphs
from models.graphs import LinearForm

BASE_RATE, LOGISTIC, XGBOOST = "base_rate", "logistic", "xgboost"
HIST_GRADIENT_BOOSTING = "hist_gradient_boosting"
CHALLENGER = "challenger"  # whichever of them is taken
Settings = Mapping[str, Any]


class Fitted(Protocol):
    """What every candidate can do once it is fitted."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Probability of the positive class for features (n, width), shape (n,), float64."""

    def odds(self, matrix: np.ndarray) -> np.ndarray:
        """The same as log odds, which do not saturate, shape (n,), float64."""

    def to_onnx(self, width: int, slope: float, shift: float) -> onnx.ModelProto:
        """As ONNX, to within float32 rounding, with log odds * slope + shift."""

    def importance(self, width: int) -> np.ndarray:
        """Each feature's share of what the model goes by, shape (width,)."""

    def save(self, folder: Path) -> None:
        """Leave the library's own form of the model, if it has one of plain, stable bytes."""


@dataclass(frozen=True)
class Constant:
    """The base rate of the training rows for every row."""

    rate: float

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.full(len(matrix), self.rate)

    def odds(self, matrix: np.ndarray) -> np.ndarray:
        return np.full(len(matrix), logit(self.rate))

    def to_onnx(self, width: int, slope: float, shift: float) -> onnx.ModelProto:
        return graphs.constant(float(expit(slope * logit(self.rate) + shift)), width)

    def importance(self, width: int) -> np.ndarray:
        return np.zeros(width)

    def save(self, folder: Path) -> None:
        """Its ONNX form says all."""


@dataclass(frozen=True)
class Linear:
    """Logistic regression: categories one-hot, numbers imputed (flagged) and standardised."""

    pipeline: Pipeline

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.pipeline.predict_proba(matrix)[:, 1], dtype=np.float64)

    def odds(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.pipeline.decision_function(matrix), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: float) -> onnx.ModelProto:
        return graphs.linear(self.form(width), width, slope, shift)

    def importance(self, width: int) -> np.ndarray:
        """Shares of the standardised effects."""
        form, total = self.form(width, standardised=True), np.zeros(width)
        total += np.abs(form.weights) + np.abs(form.missing)
        np.add.at(total, form.places, np.abs(form.effects))
        return np.asarray(total / max(total.sum(), 1e-12))

    def form(self, width: int, standardised: bool = False) -> LinearForm:
        """The pipeline's steps as one formula over the features."""
        transformer, regression = self.pipeline[0], self.pipeline[-1]
        (_, encoder, at_categories), (_, scaled, at_numbers) = transformer.transformers_[:2]
        fill, weights, missing = np.zeros(width), np.zeros(width), np.zeros(width)
        effects, rest = np.split(regression.coef_[0], [_count(encoder, at_categories)])
        intercept = float(regression.intercept_[0])
        places, codes = np.zeros(0, dtype=int), np.zeros(0)
        if at_categories:
            places = np.repeat(at_categories, [len(found) for found in encoder.categories_])
            codes = np.concatenate(encoder.categories_)
            empty = np.isnan(codes)
            missing[places[empty]] = effects[empty]
            places, codes, effects = places[~empty], codes[~empty], effects[~empty]
        if at_numbers:
            imputer, scaler = scaled[0], scaled[-1]
            flagged = np.asarray(at_numbers)[imputer.indicator_.features_]
            used = np.asarray(at_numbers)
            slopes = rest if standardised else rest / scaler.scale_
            fill[used], weights[used] = imputer.statistics_, slopes[: len(used)]
            missing[flagged] = slopes[len(used) :]
            intercept -= float(rest @ (scaler.mean_ / scaler.scale_))
        return LinearForm(fill, weights, missing, places, codes, effects, intercept)

    def save(self, folder: Path) -> None:
        """Its ONNX form says all."""


def _count(encoder: Any, used: Sequence[int]) -> int:
    return sum(len(found) for found in encoder.categories_) if used else 0


@dataclass(frozen=True)
class HistTrees:
    """scikit-learn's histogram gradient boosting."""

    model: HistGradientBoostingClassifier

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(self.model.predict_proba(matrix)[:, 1], dtype=np.float64)

    def odds(self, matrix: np.ndarray) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(self.model.decision_function(matrix), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: float) -> onnx.ModelProto:
        baseline = float(self.model._baseline_prediction[0, 0])
        return graphs.trees(self._nodes(), baseline, width, slope, shift)

    def importance(self, width: int) -> np.ndarray:
        """Shares of the total gain."""
        nodes = np.concatenate(self._nodes())
        inner = nodes[nodes["is_leaf"] == 0]
        total = np.bincount(inner["feature_idx"], weights=inner["gain"], minlength=width)
        return np.asarray(total / max(total.sum(), 1e-12))

    def _nodes(self) -> list[np.ndarray]:
        return [tree.nodes for (tree,) in self.model._predictors]

    def save(self, folder: Path) -> None:
        """Its ONNX form says all; scikit-learn has no form of its own but pickle."""


@dataclass(frozen=True)
class Boosted:
    """XGBoost, kept as its own JSON, too."""

    model: XGBClassifier
    FILE = "model.json"

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = XGBClassifier(n_jobs=1)
        model.load_model(folder / cls.FILE)
        return cls(model)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict_proba(matrix)[:, 1], dtype=np.float64)

    def odds(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict(matrix, output_margin=True), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: float) -> onnx.ModelProto:
        inputs = [(graphs.FEATURES, FloatTensorType([None, width]))]
        graph: onnx.ModelProto = onnxmltools.convert_xgboost(
            self.model, name="model", initial_types=inputs
        )
        if (slope, shift) != (1.0, 0.0):
            graphs.rescaled(graph, slope, shift)
        return graph

    def importance(self, width: int) -> np.ndarray:
        """Shares of the total gain."""
        return np.asarray(self.model.feature_importances_, dtype=np.float64)

    def save(self, folder: Path) -> None:
        self.model.save_model(folder / self.FILE)


Fit = Callable[[Sequence[Feature], np.ndarray, np.ndarray, Settings, int], Fitted]


@dataclass(frozen=True)
class Range:
    """What a trial may choose for one setting; whole numbers if both ends are."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Candidate:
    """One kind of model.

    Attributes:
        name: also the section of params.yaml with its settings.
        fit: (fitted features, matrix (n, width), label (n,), settings, seed) -> model.
        space: what tuning may vary.
    """

    name: str
    fit: Fit
    space: Mapping[str, Range]

    def settings(self, params: Params) -> dict[str, Any]:
        """The default settings."""
        section = getattr(params, self.name, None)
        return dict(section.model_dump()) if section is not None else {}

    def train(
        self,
        fitted: Sequence[Feature],
        matrix: np.ndarray,
        label: np.ndarray,
        settings: Settings,
        seed: int,
    ) -> Fitted:
        """The model of these rows; with one outcome only there is nothing to learn but its rate."""
        if not 0 < label.sum() < len(label):
            return Constant(float(label.mean()))
        return self.fit(fitted, matrix, label, settings, seed)


def _fit_base_rate(
    fitted: Sequence[Feature], matrix: np.ndarray, label: np.ndarray, settings: Settings, seed: int
) -> Constant:
    return Constant(float(label.mean()))


def _fit_logistic(
    fitted: Sequence[Feature], matrix: np.ndarray, label: np.ndarray, settings: Settings, seed: int
) -> Linear:
    categories = [i for i, feature in enumerate(fitted) if isinstance(feature, Category)]
    numbers = [i for i in range(len(fitted)) if i not in categories]
    # A column without any value keeps its place, as 0, so that every feature has one.
    impute = SimpleImputer(add_indicator=True, keep_empty_features=True)
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories),
        (make_pipeline(impute, StandardScaler()), numbers),
    )
    return Linear(make_pipeline(encode, LogisticRegression(**settings)).fit(matrix, label))


def _fit_hist(
    fitted: Sequence[Feature], matrix: np.ndarray, label: np.ndarray, settings: Settings, seed: int
) -> HistTrees:
    model = HistGradientBoostingClassifier(**settings, early_stopping=False, random_state=seed)
    with threadpool_limits(1, user_api="openmp"):
        return HistTrees(model.fit(matrix, label))


def _fit_xgboost(
    fitted: Sequence[Feature], matrix: np.ndarray, label: np.ndarray, settings: Settings, seed: int
) -> Boosted:
    model = XGBClassifier(**settings, tree_method="hist", random_state=seed, n_jobs=1)
    return Boosted(model.fit(matrix, label))


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate(BASE_RATE, _fit_base_rate, {}),
        Candidate(LOGISTIC, _fit_logistic, {"C": Range(1e-3, 10.0, log=True)}),
        Candidate(
            HIST_GRADIENT_BOOSTING,
            _fit_hist,
            {
                "max_iter": Range(50, 400, log=True),
                "learning_rate": Range(0.01, 0.2, log=True),
                "max_leaf_nodes": Range(7, 63, log=True),
                "min_samples_leaf": Range(10, 500, log=True),
                "l2_regularization": Range(0.1, 50.0, log=True),
                "max_features": Range(0.2, 1.0),
            },
        ),
        Candidate(
            XGBOOST,
            _fit_xgboost,
            {
                "n_estimators": Range(100, 800, log=True),
                "max_depth": Range(3, 8),
                "learning_rate": Range(0.01, 0.1, log=True),
                "min_child_weight": Range(1.0, 200.0, log=True),
                "subsample": Range(0.5, 1.0),
                "colsample_bytree": Range(0.3, 1.0),
                "reg_lambda": Range(0.5, 50.0, log=True),
            },
        ),
    )
}
