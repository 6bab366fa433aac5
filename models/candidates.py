"""The models that compete for the challenger's place, each fitted on the feature matrix."""

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from data.features import Category, Feature
from data.params import Params

BASE_RATE, LOGISTIC, XGBOOST = "base_rate", "logistic", "xgboost"


def fit_xgboost(matrix: np.ndarray, label: np.ndarray, params: Params) -> XGBClassifier:
    """Gradient boosting on one thread: more spin on a busy machine, which cost up to 20 times."""
    settings = params.xgboost.model_dump()
    model = XGBClassifier(**settings, tree_method="hist", random_state=params.train.seed, n_jobs=1)
    return model.fit(matrix, label)


def fit_logistic(
    fitted: tuple[Feature, ...], matrix: np.ndarray, label: np.ndarray, params: Params
) -> Pipeline:
    """The linear candidate: categories one-hot, numbers imputed (flagged) and standardised."""
    categories = [i for i, feature in enumerate(fitted) if isinstance(feature, Category)]
    numbers = [i for i in range(len(fitted)) if i not in categories]
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories),
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
    )
    settings = params.logistic.model_dump()
    return make_pipeline(encode, LogisticRegression(**settings)).fit(matrix, label)
