"""A scored file answers as the endpoint does, row by row, or says why not."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from bento import trees
from bento.answerer import Answerer, Identity
from bento.contract import RequestError
from bento.prediction_log import PredictionLog
from bento.predictor import FEW, Predictor
from bento.score import score
from bento.scorer import Scorer
from data.errors import EvergreenError

ANSWER = ["key", "probability", "returned", "model_version", "digest"]


@pytest.fixture
def endpoint(artefact, tmp_path) -> Answerer:
    identity, log = Identity("7", "p:a-7-d", "blue"), PredictionLog(tmp_path / "log" / "l.jsonl")
    return Answerer(Predictor.load(artefact), log, identity, CollectorRegistry())


def body(frame: pd.DataFrame) -> bytes:
    return frame.to_json(
        orient="records", date_format="iso", date_unit="us", double_precision=15
    ).encode()


def answers(endpoint: Answerer, frame: pd.DataFrame) -> list[dict]:
    """What the endpoint says of these rows, in requests of a few."""
    parts = [frame.iloc[first : first + FEW] for first in range(0, len(frame), FEW)]
    requests = [endpoint.read(body(part)) for part in parts]
    return [row for answer in endpoint.answer(requests) for row in json.loads(answer)]


def test_a_file_is_answered_bit_for_bit_as_by_the_endpoint(
    endpoint, scorer, source, table_rows, tmp_path
):
    scored = score(scorer, source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    expected = answers(endpoint, table_rows)
    assert [{name: row[name] for name in ANSWER} for row in found] == [
        {name: row[name] for name in ANSWER} for row in expected
    ]
    assert len({row["probability"] for row in found}) > 100
    assert all(row["refused"] is None for row in found)
    assert scored.counts.unseen == {"shop": int((table_rows["shop"] == "a new one").sum())}
    assert (scored.counts.rows, scored.counts.refused, scored.resumed) == (3000, 0, 0)


def test_a_fast_form_that_differs_is_not_believed(artefact, scorer, source, tmp_path):
    score(scorer, source, tmp_path / "right.parquet")
    wrong = trees.load(artefact / "model.onnx")
    wrong.leaves[0] += np.float32(0.25)
    other = Scorer(Predictor.load(artefact), "7", wrong)
    without = Scorer(Predictor.load(artefact), "7", None)
    for one, name in ((other, "wrong"), (without, "without")):
        score(one, source, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "right.parquet").read_bytes()


BAD = {
    "shop: expected a value, got null": {"shop": None},
    "kind: the value is not among those that the contract lists": {"kind": "boat"},
    "price: expected at most 500": {"price": 500.1},
    "price: expected at least 0": {"price": -1.0},
    "weight: expected at most 50": {"weight": 51.0},
    "pieces: expected at least 1": {"pieces": 0},
    "ordered_at: expected a value, got null": {"ordered_at": None},
    "key: expected at most 200 characters": {"key": "k" * 201},
}


def test_a_row_that_breaks_the_contract_has_a_reason_and_no_probability(
    endpoint, scorer, source, table_rows, tmp_path
):
    good = answers(endpoint, table_rows)
    for place, change in enumerate(BAD.values()):
        for name, value in change.items():
            table_rows.loc[1000 + 90 * place, name] = value
        with pytest.raises(RequestError) as refused:
            endpoint.read(body(table_rows.iloc[[1000 + 90 * place]]))
        assert refused.value.path == f"$[0].{next(iter(change))}"
    table_rows.to_parquet(source, row_group_size=800)
    scored = score(scorer, source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for i, (row, expected) in enumerate(zip(found, good, strict=True)):
        place, rest = divmod(i - 1000, 90)
        if rest == 0 and 0 <= place < len(BAD):
            assert row["refused"] == list(BAD)[place]
            assert row["probability"] is None and row["returned"] is None
            assert row["key"] == table_rows["key"][i]
        else:
            assert row["refused"] is None
            assert row["probability"] == expected["probability"]
    assert scored.counts.refused == len(BAD)
    assert scored.counts.first == (1000, "shop: expected a value, got null")
    with pytest.raises(
        EvergreenError, match=r"in\.parquet, row 1000 \(from 0\), shop: expected a v"
    ):
        score(scorer, source, tmp_path / "out.parquet", strict=True)
    with pytest.raises(EvergreenError, match="row 1000"):
        score(scorer, source, tmp_path / "strict.parquet", strict=True)
    assert not (tmp_path / "strict.parquet").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weight": None}, "has no column 'weight'"),
        ({"price": pa.array(["1.5"] * 3000)}, "column 'price' is string, expected a number"),
        ({"pieces": pa.array([True] * 3000)}, "column 'pieces' is bool, expected an integer"),
        (
            {"ordered_at": pa.array([0] * 3000, pa.timestamp("us", "UTC"))},
            r"column 'ordered_at' is timestamp\[us, tz=UTC\], expected a timestamp without zone",
        ),
    ],
)
def test_a_file_of_other_columns_is_refused_by_name(scorer, source, tmp_path, change, fault):
    table = pq.read_table(source)
    for name, column in change.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place)
        if column is not None:
            table = table.append_column(name, column)
    pq.write_table(table, source)
    with pytest.raises(EvergreenError, match=fault):
        score(scorer, source, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == [source]


def test_other_ways_to_write_the_same_rows_give_the_same_answers(
    scorer, source, table_rows, tmp_path
):
    """Whole floats for integers, categories for text, nanoseconds, a column more."""
    score(scorer, source, tmp_path / "first.parquet")
    other = table_rows.assign(
        pieces=table_rows["pieces"].astype("float64"),
        shop=table_rows["shop"].astype("category"),
        ordered_at=table_rows["ordered_at"].astype("datetime64[ns]"),
        more=1,
    )
    other[sorted(other.columns)].to_parquet(source)
    score(scorer, source, tmp_path / "second.parquet")
    first, second = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("first", "second"))
    assert first.to_pylist() == second.to_pylist()


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("weight", [float("nan"), 1.0], "weight: expected a finite number"),
        ("weight", [float("inf"), 1.0], "weight: expected a finite number"),
        ("pieces", [1.5, 2.0], "pieces: expected an integer"),
        ("pieces", [None, 2], "pieces: expected a value, got null"),
    ],
)
def test_what_is_not_null_has_to_be_a_number(scorer, source, tmp_path, name, values, fault):
    table = pq.read_table(source).slice(0, 2)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, pa.array(values)), source)
    score(scorer, source, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["refused"].to_pylist() == [fault, None]


def test_a_file_without_rows_or_keys_is_answered(scorer, source, tmp_path):
    table = pq.read_table(source).drop_columns("key")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(table.slice(0, 5), tmp_path / "five.parquet")
    for name, rows in (("empty", 0), ("five", 5)):
        scored = score(
            scorer, tmp_path / f"{name}.parquet", tmp_path / "out.parquet", overwrite=True
        )
        assert scored.counts.rows == rows
        assert pq.read_table(tmp_path / "out.parquet")["key"].to_pylist() == [None] * rows
