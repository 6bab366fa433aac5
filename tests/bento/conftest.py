"""A small synthetic problem, so that nothing here depends on the default one."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bento import score as job
from bento.package import Package, build
from bento.scorer import Scorer
from data import features
from data.digests import seal
from data.features import CalendarPart, Category, HistoricalRate, Numeric, Ratio
from data.fields import Field
from tests.serving_stack import CHECKOUT, Stack, running

FIELDS = (
    Field("ordered_at", "timestamp", "local time of the shop"),
    Field("shop", "text", "where it was bought"),
    Field("kind", "text", "what it is", values=("book", "toy")),
    Field("price", "number", "in euro", minimum=0, maximum=500),
    Field("weight", "number", "in kg; unknown for some", nullable=True, minimum=0, maximum=50),
    Field("pieces", "integer", "in the parcel", minimum=1, maximum=9),
)
SPECS = (
    CalendarPart("hour", "ordered_at", "hour"),
    CalendarPart("weekday", "ordered_at", "weekday"),
    Category("shop", "shop"),
    Category("kind", "kind"),
    HistoricalRate("shop_rate", "shop", strength=20.0),
    Numeric("price", "price"),
    Numeric("weight", "weight"),
    Ratio("piece_price", "price", "pieces"),
)


def make_columns(n: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    start = np.datetime64("2024-03-01T00:00:00", "us")
    weight = random.uniform(0, 50, n).round(2)
    weight[random.random(n) < 0.2] = np.nan
    return {
        "ordered_at": start + random.integers(0, 90 * 86400, n).astype("timedelta64[s]"),
        "shop": random.choice(["north", "south", "west"], n).astype(object),
        "kind": random.choice(["book", "toy"], n).astype(object),
        "price": random.uniform(0, 500, n).round(2),
        "weight": weight,
        "pieces": random.integers(1, 10, n).astype(np.float64),
    }


def make_rows(columns: dict[str, np.ndarray]) -> list[dict]:
    """Columns as JSON rows."""
    rows = []
    for i in range(len(columns["price"])):
        weight = columns["weight"][i]
        rows.append(
            {
                "ordered_at": columns["ordered_at"][i].astype(datetime).isoformat(),
                "shop": columns["shop"][i],
                "kind": columns["kind"][i],
                "price": float(columns["price"][i]),
                "weight": None if np.isnan(weight) else float(weight),
                "pieces": int(columns["pieces"][i]),
            }
        )
    return rows


def make_artefact(folder: Path, seed: int) -> Path:
    """A sealed artefact as models/artifact.py writes it."""
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    columns = make_columns(800, seed)
    chance = 0.1 + 0.5 * (columns["kind"] == "toy") + 0.3 * (columns["price"] > 250)
    label = (np.random.default_rng(seed + 1).random(800) < chance).astype(np.int8)
    fitted = features.fit(SPECS, columns, label)
    matrix = features.transform(fitted, columns)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, random_state=seed)
    model.fit(matrix, label)
    onnx = convert_xgboost(
        model, initial_types=[("features", FloatTensorType([None, matrix.shape[1]]))]
    )
    golden = {name: values[:20] for name, values in columns.items()}
    probabilities = model.predict_proba(features.transform(fitted, golden))[:, 1]
    contract = {
        "problem": "parcels",
        "target": "returned",
        "threshold": 0.4,
        "base_rate": float(label.mean()),
        "event_time": "ordered_at",
        "fields": [field.to_json() for field in FIELDS],
        "features": features.to_json(fitted),
    }
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(onnx.SerializeToString())
    (folder / "contract.json").write_text(json.dumps(contract))
    (folder / "golden.json").write_text(
        json.dumps({"rows": make_rows(golden), "probabilities": list(map(float, probabilities))})
    )
    seal(folder)
    return folder


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "first", seed=1)


@pytest.fixture(scope="session")
def second_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "second", seed=2)


@pytest.fixture
def row() -> dict:
    return {
        "ordered_at": (datetime(2024, 4, 1) + timedelta(hours=9)).isoformat(),
        "shop": "north",
        "kind": "toy",
        "price": 19.9,
        "weight": None,
        "pieces": 2,
    }


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def first(artefact: Path, store: Path) -> Package:
    return build(artefact, name="parcels", version="1", store=store, checkout=CHECKOUT)


@pytest.fixture(scope="module")
def second(second_artefact: Path, store: Path) -> Package:
    return build(second_artefact, name="parcels", version="2", store=store, checkout=CHECKOUT)


@pytest.fixture(scope="session")
def scorer(artefact) -> Scorer:
    return Scorer.load(artefact, "7")


@pytest.fixture
def table_rows() -> pd.DataFrame:
    """Some rows, with nulls and with shops that training did not see."""
    frame = pd.DataFrame(make_columns(3000, seed=9))
    frame["pieces"] = frame["pieces"].astype("int64")
    frame.loc[frame.index % 7 == 0, "shop"] = "a new one"
    frame.loc[::11, "ordered_at"] = pd.Timestamp("1969-12-31 23:59:59.999999")
    return frame.assign(key=[f"order {i}" for i in range(len(frame))])


@pytest.fixture
def source(table_rows, tmp_path, monkeypatch) -> Path:
    """Those rows in four row groups and seven parts."""
    monkeypatch.setattr(job, "PART_ROWS", 500)
    path = tmp_path / "in.parquet"
    table_rows.to_parquet(path, row_group_size=800)
    return path
