"""The same model as data scientists hand it over: a scikit-learn pipeline that takes a frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
from xgboost import XGBClassifier

from bento.contract import Contract
from data.features import CalendarPart, Category, HistoricalRate, Numeric

TRUSTED = [
    "tests.bench.serving.pipeline.calendar",
    "tests.bench.serving.pipeline.rates",
    "tests.bench.serving.pipeline.take",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]


def calendar(frame: pd.DataFrame, parts: list[tuple[str, str]]) -> np.ndarray:
    moments = {column: pd.to_datetime(frame[column]).dt for column in frame}
    return np.column_stack([getattr(moments[column], part) for column, part in parts])


def rates(frame: pd.DataFrame, tables: list[tuple[str, dict, float]]) -> np.ndarray:
    found = [
        frame[column].map(table).fillna(overall).where(frame[column].notna())
        for column, table, overall in tables
    ]
    return np.column_stack(found).astype(float)


def take(values: np.ndarray, places: list[int]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)[:, places]


def pipeline(folder: Path, sample: pd.DataFrame) -> Pipeline:
    """The artefact's features and trees as one pipeline.

    Args:
        folder: an artefact whose model is XGBoost's.
        sample: raw rows; the encoders take their state from the artefact, not from these.
    """
    features = Contract.load(folder).features
    kinds = (CalendarPart, Category, HistoricalRate, Numeric)
    times, categories, rated, numbers = ([f for f in features if isinstance(f, k)] for k in kinds)
    encoder = OrdinalEncoder(
        categories=[list(feature.vocabulary) for feature in categories],
        handle_unknown="use_encoded_value",
        unknown_value=-1,
    )
    parts = {"parts": [(feature.column, feature.part) for feature in times]}
    tables = {"tables": [(f.column, dict(f.rates), f.overall) for f in rated]}
    steps = [
        ("calendar", FunctionTransformer(calendar, kw_args=parts), times),
        ("category", encoder, categories),
        ("rate", FunctionTransformer(rates, kw_args=tables), rated),
        ("number", "passthrough", numbers),
    ]
    columns = [(n, step, list(dict.fromkeys(f.column for f in some))) for n, step, some in steps]
    order = [feature.name for *_, some in steps for feature in some]
    places = [order.index(feature.name) for feature in features]
    model = XGBClassifier(n_jobs=1)
    model.load_model(folder / "model.json")
    return Pipeline(
        [
            ("columns", ColumnTransformer(columns).fit(sample)),
            ("order", FunctionTransformer(take, kw_args={"places": places})),
            ("model", model),
        ]
    )


def frame(rows: Sequence[dict]) -> pd.DataFrame:
    """Requests as the frame that a pipeline takes."""
    return pd.DataFrame.from_records(list(rows))
