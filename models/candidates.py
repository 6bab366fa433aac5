"""The models that compete for the challenger's place.

Each is deterministic: one thread (more spin on a busy machine, which cost up to 20 times), seeded,
and fitted on float32 features, which is what serving has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier, XGBRegressor

from data.errors import EvergreenError
from data.features import Category, Feature
from data.params import Params
from data.task import Kind, Task
from models.fitted import Boosted, Constant, Fitted, HistTrees, Linear

BASE_RATE, LOGISTIC, XGBOOST = "base_rate", "logistic", "xgboost"
HIST_GRADIENT_BOOSTING, RIDGE = "hist_gradient_boosting", "ridge"
CHALLENGER, CHAMPION = "challenger", "champion"  # whichever of them is taken, or serves
CLASSIFICATION: tuple[Kind, ...] = ("binary", "multiclass")
ALL: tuple[Kind, ...] = (*CLASSIFICATION, "regression")
# What stands in for a class that the training rows do not have: a model must know all of them.
ABSENT = 1e-3
Settings = Mapping[str, Any]
# For the whole process: fits run side by side, and BLAS has one number of threads for all of them.
# With more than one it adds in another order, so that other cores would make another linear model.
threadpool_limits(1, user_api="blas")


@dataclass(frozen=True)
class Rows:
    """What a candidate is fitted on.

    Attributes:
        features: fitted; matrix: of shape (n, features); label, weight: shape (n,).
        weight: None if every row counts the same.
    """

    task: Task
    features: Sequence[Feature]
    matrix: np.ndarray
    label: np.ndarray
    weight: np.ndarray | None = None


Fit = Callable[[Rows, Settings, int], Fitted]


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
        fit: (rows, settings, seed) -> model.
        space: what tuning may vary.
        tasks: what it can predict.
    """

    name: str
    fit: Fit
    space: Mapping[str, Range]
    tasks: tuple[Kind, ...] = ALL

    def settings(self, params: Params) -> dict[str, Any]:
        """The default settings."""
        section = getattr(params, self.name, None)
        return dict(section.model_dump()) if section is not None else {}

    def train(
        self,
        task: Task,
        fitted: Sequence[Feature],
        matrix: np.ndarray,
        label: np.ndarray,
        settings: Settings,
        seed: int,
    ) -> Fitted:
        """The model of these rows; where all outcomes are the same, the constant answer."""
        if not task.learnable(label):
            return Constant(task, task.constant(label))
        return self.fit(_complete(Rows(task, fitted, matrix, label)), settings, seed)


def check(names: Sequence[str], task: Task) -> None:
    """Refuse candidates that cannot predict this.

    Raises:
        EvergreenError: naming the first, and those that can.
    """
    for name in names:
        if task.kind not in CANDIDATES[name].tasks:
            able = [c.name for c in CANDIDATES.values() if task.kind in c.tasks]
            raise EvergreenError(
                f"params.yaml: candidates: {name} is none for a {task.kind} problem; it has "
                f"{', '.join(able)}"
            )


def linear_name(task: Task) -> str:
    """The linear candidate of a task."""
    return RIDGE if task.kind == "regression" else LOGISTIC


def absent(task: Task, label: np.ndarray) -> np.ndarray:
    """The classes that labels (n,) do not have."""
    return np.setdiff1d(np.arange(len(task.classes)), label).astype(np.int8)


def _complete(rows: Rows) -> Rows:
    """With one row of next to no weight for each class that is absent."""
    missing = absent(rows.task, rows.label)
    if not len(missing):
        return rows
    matrix = np.vstack([rows.matrix, np.repeat(rows.matrix[:1], len(missing), axis=0)])
    weight = np.append(np.ones(len(rows.label)), np.full(len(missing), ABSENT))
    return Rows(rows.task, rows.features, matrix, np.append(rows.label, missing), weight)


def _fit_linear(model: LogisticRegression | Ridge, rows: Rows) -> Linear:
    categories = [i for i, each in enumerate(rows.features) if isinstance(each, Category)]
    numbers = [i for i in range(len(rows.features)) if i not in categories]
    # A column without any value keeps its place, as 0, so that every feature has one.
    impute = SimpleImputer(add_indicator=True, keep_empty_features=True)
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories),
        (make_pipeline(impute, FunctionTransformer(_double), StandardScaler()), numbers),
    )
    pipeline = Pipeline([("encode", encode), ("model", model)])
    weight = {} if rows.weight is None else {"model__sample_weight": rows.weight}
    return Linear(rows.task, pipeline.fit(rows.matrix, rows.label, **weight))


def _double(matrix: np.ndarray) -> np.ndarray:
    """In the precision in which the model is served."""
    return matrix.astype(np.float64)


def _fit_hist(rows: Rows, settings: Settings, seed: int) -> HistTrees:
    regression = rows.task.kind == "regression"
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    model = kind(**settings, early_stopping=False, random_state=seed)
    with threadpool_limits(1, user_api="openmp"):
        return HistTrees(rows.task, model.fit(rows.matrix, rows.label, rows.weight))


def estimator(task: Task, settings: Settings, seed: int) -> XGBClassifier | XGBRegressor:
    """XGBoost with these settings, not fitted; one thread."""
    kind = XGBRegressor if task.kind == "regression" else XGBClassifier
    return kind(**settings, tree_method="hist", random_state=seed, n_jobs=1)


def _fit_xgboost(rows: Rows, settings: Settings, seed: int) -> Boosted:
    model = estimator(rows.task, settings, seed)
    return Boosted(rows.task, model.fit(rows.matrix, rows.label, sample_weight=rows.weight))


def _fit_constant(rows: Rows, settings: Settings, seed: int) -> Constant:
    return Constant(rows.task, np.average(rows.task.hot(rows.label), axis=0, weights=rows.weight))


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate(BASE_RATE, _fit_constant, {}),
        Candidate(
            LOGISTIC,
            lambda rows, settings, _: _fit_linear(LogisticRegression(**settings), rows),
            {"C": Range(1e-3, 10.0, log=True)},
            CLASSIFICATION,
        ),
        Candidate(
            RIDGE,
            lambda rows, settings, _: _fit_linear(Ridge(**settings), rows),
            {"alpha": Range(1e-2, 1e4, log=True)},
            ("regression",),
        ),
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
