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
from data.task import BINARY, REGRESSION, Task, multiclass
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


CLASSES = ("kept", "returned", "swapped")


def make_artefact(folder: Path, seed: int, kind: str = "binary") -> Path:
    """A sealed artefact as models/artifact.py writes it, of each kind of task."""
    columns = make_columns(800, seed)
    chance = 0.1 + 0.5 * (columns["kind"] == "toy") + 0.3 * (columns["price"] > 250)
    random = np.random.default_rng(seed + 1)
    label = (random.random(800) < chance).astype(np.int8)
    task = BINARY
    if kind == "multiclass":
        label, task = label + (label & (columns["pieces"] > 4)), multiclass(CLASSES)
    elif kind == "regression":
        label = 40 * chance + random.normal(0, 3, 800)
        task = REGRESSION.scaled(label)
    fitted = features.fit(SPECS, columns, label if kind == "binary" else (label > 0).astype(int))
    matrix = features.transform(fitted, columns)
    onnx, scores = trees(matrix, label, task, seed)
    golden = {name: values[:20] for name, values in columns.items()}
    edges = tuple(np.quantile(scores, [0.2, 0.4, 0.6, 0.8]).tolist())
    contract = {
        "problem": "parcels",
        "target": "returned" if kind == "binary" else "outcome",
        "threshold": 0.4 if kind == "binary" else None,
        "base_rate": task.constant(label).tolist(),
        "event_time": "ordered_at",
        "fields": [field.to_json() for field in FIELDS],
        "features": features.to_json(fitted),
        **({} if kind == "binary" else {"task": task.to_json()}),
    }
    contents = {
        "contract": contract,
        "reference": {"histograms": [{"name": "score", "edges": edges, "counts": []}]},
        "golden": {"rows": make_rows(golden), "probabilities": scores[:20].tolist()},
    }
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(onnx)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    seal(folder)
    return folder


def trees(matrix: np.ndarray, label: np.ndarray, task: Task, seed: int) -> tuple[bytes, np.ndarray]:
    """A boosted model as ONNX, and its own answers."""
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    number = task.kind == "regression"
    maker = xgboost.XGBRegressor if number else xgboost.XGBClassifier
    model = maker(n_estimators=20, max_depth=3, n_jobs=1, random_state=seed).fit(matrix, label)
    shape = [("features", FloatTensorType([None, matrix.shape[1]]))]
    made = convert_xgboost(model, initial_types=shape)
    if number:
        made.graph.output[0].name = made.graph.node[-1].output[0] = "prediction"
        return made.SerializeToString(), model.predict(matrix).astype(float)
    scores = model.predict_proba(matrix).astype(float)
    return made.SerializeToString(), scores if task.classes else scores[:, 1]


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "first", seed=1)


@pytest.fixture(scope="session")
def second_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "second", seed=2)


@pytest.fixture(scope="session", params=["multiclass", "regression"])
def other(request, tmp_path_factory) -> Path:
    """An artefact of another kind of task."""
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "other", 3, request.param)


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
    return build(artefact, name="parcels", version="1", store=store, checkout=CHECKOUT, seconds=2.0)


@pytest.fixture(scope="module")
def second(second_artefact: Path, store: Path) -> Package:
    return build(
        second_artefact, name="parcels", version="2", store=store, checkout=CHECKOUT, seconds=2.0
    )


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
