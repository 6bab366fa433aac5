"""Fitted models behind one interface, whatever library made them and whatever they predict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import onnx
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier, XGBRegressor

from data.task import Task
from models import graphs
from models.graphs import LinearForm, Shift
from models.quality import answers, margins


class Fitted(Protocol):
    """What every candidate can do once it is fitted; answers are as in `data.task`."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Answers for features (n, width), float64."""

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """The same on the scale of `quality.margins`, which does not saturate, float64."""

    def to_onnx(self, width: int, slope: float, shift: Shift) -> onnx.ModelProto:
        """As ONNX, to within float32 rounding, with margin * slope + shift."""

    def importance(self, width: int) -> np.ndarray:
        """Each feature's share of what the model goes by, shape (width,)."""

    def save(self, folder: Path) -> None:
        """Leave the library's own form of the model, if it has one of plain, stable bytes."""


class _OnnxAlone:
    def save(self, folder: Path) -> None:
        """The ONNX form says all; scikit-learn has no form of its own but pickle."""


@dataclass(frozen=True)
class Constant(_OnnxAlone):
    """The best answer without features, see `Task.constant`, for every row."""

    task: Task
    value: np.ndarray

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.repeat(self.value[None], len(matrix), axis=0).astype(np.float64)

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        return margins(self.predict(matrix), self.task)

    def to_onnx(self, width: int, slope: float, shift: Shift) -> onnx.ModelProto:
        margin = slope * margins(self.value[None], self.task) + shift
        return graphs.constant(answers(margin, self.task)[0], width, self.task)

    def importance(self, width: int) -> np.ndarray:
        return np.zeros(width)


@dataclass(frozen=True)
class Linear(_OnnxAlone):
    """A linear model: categories one-hot, numbers imputed (flagged) and standardised."""

    task: Task
    pipeline: Pipeline

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        if self.task.kind == "regression":
            return self.margin(matrix)
        return _of_classes(self.task, self.pipeline.predict_proba(matrix))

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        regression = self.task.kind == "regression"
        call = self.pipeline.predict if regression else self.pipeline.decision_function
        return np.asarray(call(matrix), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: Shift) -> onnx.ModelProto:
        return graphs.linear(self.form(width), width, slope, shift, task=self.task)

    def importance(self, width: int) -> np.ndarray:
        """Shares of the standardised effects, summed over classes."""
        form = self.form(width, standardised=True)
        total = (np.abs(form.weights) + np.abs(form.missing)).sum(axis=1)
        np.add.at(total, form.places, np.abs(form.effects).sum(axis=1))
        return np.asarray(total / max(total.sum(), 1e-12))

    def form(self, width: int, standardised: bool = False) -> LinearForm:
        """The pipeline's steps as one formula over the features."""
        transformer, regression = self.pipeline[0], self.pipeline[-1]
        (_, encoder, at_categories), (_, scaled, at_numbers) = transformer.transformers_[:2]
        coefficients = np.atleast_2d(regression.coef_).T
        intercept = np.atleast_1d(np.asarray(regression.intercept_, dtype=np.float64)).copy()
        fill = np.zeros(width)
        weights, missing = np.zeros((2, width, len(intercept)))
        first = sum(map(len, encoder.categories_)) if at_categories else 0
        effects, rest = np.split(coefficients, [first])
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
            slopes = rest if standardised else rest / scaler.scale_[:, None]
            fill[used], weights[used] = imputer.statistics_, slopes[: len(used)]
            missing[flagged] = slopes[len(used) :]
            intercept -= (scaler.mean_ / scaler.scale_) @ rest
        return LinearForm(fill, weights, missing, places, codes, effects, intercept)


@dataclass(frozen=True)
class HistTrees(_OnnxAlone):
    """scikit-learn's histogram gradient boosting."""

    task: Task
    model: HistGradientBoostingClassifier | HistGradientBoostingRegressor

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        if self.task.kind == "regression":
            return self.margin(matrix)
        with threadpool_limits(1, user_api="openmp"):
            return _of_classes(self.task, self.model.predict_proba(matrix))

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        regression = self.task.kind == "regression"
        call = self.model.predict if regression else self.model.decision_function
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(call(matrix), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: Shift) -> onnx.ModelProto:
        baseline = np.asarray(self.model._baseline_prediction, dtype=np.float64).ravel()
        return graphs.trees(self.model._predictors, baseline, width, slope, shift, task=self.task)

    def importance(self, width: int) -> np.ndarray:
        """Shares of the total gain."""
        nodes = np.concatenate([tree.nodes for each in self.model._predictors for tree in each])
        inner = nodes[nodes["is_leaf"] == 0]
        total = np.bincount(inner["feature_idx"], weights=inner["gain"], minlength=width)
        return np.asarray(total / max(total.sum(), 1e-12))


@dataclass(frozen=True)
class Boosted:
    """XGBoost, kept as its own JSON, too."""

    task: Task
    model: XGBClassifier | XGBRegressor
    FILE = "model.json"

    @classmethod
    def load(cls, folder: Path, task: Task) -> Self:
        model = (XGBRegressor if task.kind == "regression" else XGBClassifier)(n_jobs=1)
        model.load_model(folder / cls.FILE)
        return cls(task, model)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        if self.task.kind == "regression":
            return self.margin(matrix)
        return _of_classes(self.task, self.model.predict_proba(matrix))

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict(matrix, output_margin=True), dtype=np.float64)

    def to_onnx(self, width: int, slope: float, shift: Shift) -> onnx.ModelProto:
        inputs = [(graphs.FEATURES, FloatTensorType([None, width]))]
        graph: onnx.ModelProto = onnxmltools.convert_xgboost(
            self.model, name="model", initial_types=inputs
        )
        graphs.named(graph, self.task)
        if slope != 1.0 or np.any(np.asarray(shift) != 0.0):
            graphs.rescaled(graph, slope, shift)
        return graph

    def importance(self, width: int) -> np.ndarray:
        """Shares of the total gain."""
        return np.asarray(self.model.feature_importances_, dtype=np.float64)

    def save(self, folder: Path) -> None:
        self.model.save_model(folder / self.FILE)


def _of_classes(task: Task, probabilities: np.ndarray) -> np.ndarray:
    """What a library answers for all classes (n, classes), in the task's shape."""
    found = probabilities if task.kind == "multiclass" else probabilities[:, 1]
    return np.asarray(found, dtype=np.float64)
