"""Several classes, and numbers: endpoint, log, tables, exports and rollouts say the same."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from bento import answers, edge, observe, records, schemas, shadow
from bento.answerer import Answerer, Identity
from bento.contract import Contract, Decoder
from bento.edge_run import Model, check_golden
from bento.engines import OnnxEngine
from bento.explain import Explainer, decode
from bento.observe import Counters
from bento.prediction_log import Entry, PredictionLog, slot_file
from bento.predictions import archive, find, read, table
from bento.predictor import FEW, Predictor
from bento.scorer import Scorer
from bento.shadow import Answer, Pair
from bento.smoke import smoke_test
from bento.target import Release
from data.errors import EvergreenError
from data.release_params import Shadow
from data.task import BINARY, multiclass
from tests.bento.conftest import make_columns, make_rows

IDENTITY = Identity("7", "parcels:a-7-d", "blue")
DAY = datetime(2024, 1, 1), datetime(2025, 1, 1)


@pytest.fixture(scope="module")
def predictor(other) -> Predictor:
    return Predictor.load(other)


@pytest.fixture
def answerer(other, predictor, tmp_path) -> Answerer:
    log, explainer = PredictionLog(slot_file(tmp_path, "blue")), Explainer.load(other, predictor)
    return Answerer(predictor, log, IDENTITY, CollectorRegistry(), explainer)


def rows_of(n: int) -> list[dict]:
    return [{**row, "key": f"order {i}"} for i, row in enumerate(make_rows(make_columns(n, 5)))]


def ask(answerer: Answerer, value) -> list[dict]:
    found = json.loads(*answerer.answer([answerer.read(json.dumps(value).encode())]))
    return found if isinstance(found, list) else [found]


def said(contract: Contract, score) -> dict:
    """What has to be said of a score, by the definition of the contract."""
    if contract.task.kind == "regression":
        return {"outcome": score}
    best = contract.task.classes[int(np.argmax(score))]
    by_class = dict(zip(contract.task.classes, score, strict=True))
    return {"outcome": best, "probabilities": by_class}


def without(answer: dict, *names: str) -> dict:
    return {name: value for name, value in answer.items() if name not in names}


def test_rows_are_answered_in_the_words_of_the_task_alone_and_together(answerer, predictor):
    rows = rows_of(40)
    decoder = Decoder(predictor.contract.fields)
    scores = predictor.scores([decode(decoder, row) for row in rows])
    together, alone = ask(answerer, rows), [ask(answerer, row)[0] for row in rows]
    for row, score, one, many in zip(rows, scores, alone, together, strict=True):
        assert without(one, "request_id") == {
            "key": row["key"], "model_version": "7", "digest": predictor.digest,
            **said(predictor.contract, score), "degraded": False,
        }  # fmt: skip
        told = [
            answers.heard(predictor.contract.task, "outcome", answer)[0] for answer in (one, many)
        ]
        assert answers.gap(predictor.contract.task, *told) < 1e-6


def test_the_log_holds_what_was_said_as_lines_and_archived(answerer, predictor, tmp_path):
    """Beside answers of two outcomes in the same file, as when a problem changed its question."""
    task = predictor.contract.task
    told = ask(answerer, rows_of(FEW + 5))
    before = Entry(
        logged_at=datetime(2024, 4, 2, tzinfo=UTC), request_id="r1", model_version="1",
        digest="d", event_time="at", threshold=0.4, degraded=False, probe=False, many=True,
        probabilities=[0.3, 0.5], rows=[{"key": None, "at": "2024-04-01T10:00:00"}] * 2,
    )  # fmt: skip
    old = (
        b'{"logged_at":"2024-04-02T00:00:00Z","request_id":"r1","model_version":"1","digest":"d",'
        b'"event_time":"at","threshold":0.4,"degraded":false,"probe":false,"many":true,'
        b'"probabilities":[0.3,0.5],"rows":[{"key":null,"at":"2024-04-01T10:00:00"},'
        b'{"key":null,"at":"2024-04-01T10:00:00"}]}'
    )
    assert msgspec.json.encode(before) == old
    answerer._log.append([before])
    log = answerer._log._path
    lines = list(read(tmp_path))
    assert [(r.get("probability"), r["decision"]) for r in lines[-2:]] == [
        (0.3, False),
        (0.5, True),
    ]
    mine = lines[:-2]
    assert [r["decision"] for r in mine] == [answer["outcome"] for answer in told]
    heard = [answers.heard(task, "outcome", answer)[0] for answer in told]
    assert records.scores(task, mine).tolist() == heard
    log.rename(log.with_name("predictions-00000001.jsonl"))
    (made,) = archive(tmp_path)
    assert list(read(tmp_path)) == lines
    assert find(tmp_path, told[3]["request_id"]) == lines[3]
    assert {*answers.columns(task), "probability"} < set(pq.read_schema(made).names)
    found = table(tmp_path, ["key", *answers.columns(task)], *DAY, ["7"])
    assert found["key"].tolist() == [row["key"] for row in rows_of(FEW + 5)]
    assert records.scores(task, found).tolist() == heard
    assert table(tmp_path, ["key", *answers.columns(task)], *DAY, ["none"]).empty


def test_a_model_that_fails_or_says_no_answer_is_answered_with_the_base_rates(
    predictor, answerer, row
):
    wrong = np.full((1, 3) if predictor.contract.task.classes else 1, np.inf, np.float32)
    broken = SimpleNamespace(run=lambda matrix: wrong)
    answerer._predictor = Predictor(predictor.contract, predictor.digest, broken)
    (answer,) = ask(answerer, row)
    assert answer["degraded"]
    base = predictor.contract.base_rate
    assert without(answer, "request_id", "model_version", "digest", "degraded") == said(
        predictor.contract, base
    )


def test_metrics_count_answers_where_the_contract_says(answerer, predictor):
    contract, told = predictor.contract, ask(answerer, rows_of(40))
    lines = answerer.metrics.text().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    if contract.task.kind == "regression":
        assert len(contract.cuts) == 4, "the reference profile's"
        below = sum(answer["outcome"] <= contract.cuts[1] for answer in told)
        name = f'evergreen_prediction_bucket{{le="{contract.cuts[1]}",model_version="7"}}'
        scale = values['evergreen_prediction_scale{model_version="7"}']
        assert float(scale) == pytest.approx(contract.task.scale)
    else:
        below = sum(max(answer["probabilities"].values()) <= 0.6 for answer in told)
        name = 'evergreen_probability_bucket{le="0.6",model_version="7"}'
        for each in contract.task.classes:
            count = values[f'evergreen_classes_total{{class="{each}",model_version="7"}}']
            assert float(count) == sum(answer["outcome"] == each for answer in told)
    assert float(values[name]) == below


def test_an_explanation_adds_up_to_what_was_answered(answerer, predictor):
    for row in rows_of(5):
        found, (answer,) = (
            json.loads(answerer.explain(json.dumps(row).encode())),
            ask(answerer, row),
        )
        assert found["outcome"] == answer["outcome"]
        if predictor.contract.task.kind == "regression":
            parts = [part["effect"] for part in found["contributions"]]
            assert found["base"] + sum(parts) == pytest.approx(answer["outcome"], rel=1e-5)
            continue
        p = answer["probabilities"][answer["outcome"]]
        assert found["probability"] == p
        assert found["log_odds"] == pytest.approx(np.log(p / (1 - p)), rel=1e-6)
        parts = [part["log_odds"] for part in found["contributions"]]
        assert found["base_log_odds"] + sum(parts) == pytest.approx(found["log_odds"], abs=1e-6)


def test_the_schemas_name_all_that_is_said(answerer, predictor, row):
    (answer,), why = ask(answerer, {**row, "key": "k"}), answerer.explain(json.dumps(row).encode())
    for schema, found in (
        (schemas.answer(predictor.contract), answer),
        (schemas.explanation(predictor.contract), {"key": "k", **json.loads(why)}),
    ):
        assert list(schema["properties"]) == list(found)
        assert set(schema["required"]) == set(found) - {"key"}
        for name, kind in schema["properties"].items():
            types = {"string": str, "number": float, "boolean": bool, "object": dict, "array": list}
            assert isinstance(found[name], types[kind["type"]]), name
            if kind["type"] == "object":
                assert list(kind["properties"]) == list(found[name])


def test_a_table_is_answered_as_the_endpoint_answers(other, predictor, answerer):
    contract = predictor.contract
    frame = pd.DataFrame(make_columns(300, seed=5)).assign(key=[f"order {i}" for i in range(300)])
    frame.loc[7, "price"] = 501.0
    scorer = Scorer.load(other, "7")
    assert (scorer._fast is None) == bool(contract.task.classes)
    batch = pa.RecordBatch.from_pandas(frame.astype({"pieces": "int64"}))
    found, counts = scorer.answer(batch, 0)
    assert counts.refused == 1
    rows = found.to_pylist()
    assert rows[7]["outcome"] is None and "price" in rows[7]["refused"]
    names = [] if contract.task.kind == "regression" else list(contract.task.columns("probability"))
    assert found.schema.names == [
        "key", *names, "outcome", "model_version", "digest", "refused",
    ]  # fmt: skip
    for row, sent in zip(rows[:60], rows_of(300)[:60], strict=True):
        if row["refused"] is None:
            (answer,) = ask(answerer, sent)
            assert row["outcome"] == answer["outcome"]
            assert [row[name] for name in names] == list(answer.get("probabilities", {}).values())


def test_an_export_answers_as_the_endpoint_does_without_evergreen(
    other, predictor, answerer, tmp_path
):
    place, rows = tmp_path / "out", rows_of(30)
    edge.export(other, "7", 1e-6, place)
    told = [without(ask(answerer, row)[0], "request_id", "degraded") for row in rows]
    lines = "\n".join(map(json.dumps, rows))
    site = f"import sys; sys.path.append({str(Path(np.__file__).parents[1])!r}); "
    script = site + f"import runpy; runpy.run_path({str(place / 'run.py')!r}, run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=place)
    assert [json.loads(line) for line in done.stdout.splitlines()] == told, done.stderr
    model = Model(place)
    assert "20 golden rows right" in check_golden(model)
    golden = model.about["golden"]["probabilities"]
    golden[3] = (np.array(golden[3]) + 0.01).tolist()
    with pytest.raises(EvergreenError, match="golden row 3 gets"):
        check_golden(model)


def test_the_smoke_test_names_the_row_that_is_answered_otherwise(other, predictor, answerer):
    golden = json.loads((other / "golden.json").read_text())

    def call(method, path, rows, headers):
        return SimpleNamespace(status=200, value=ask(answerer, rows))

    serving = SimpleNamespace(pinned=lambda slot: SimpleNamespace(call=call))
    release = Release("7", predictor.digest, "parcels:a")
    given = (serving, "green", release, predictor.contract, golden["rows"])
    smoke_test(*given, golden["probabilities"], 1e-6)
    golden["probabilities"][5] = (np.array(golden["probabilities"][5]) + 0.01).tolist()
    with pytest.raises(EvergreenError, match=r"golden row 5 has the .* training gave"):
        smoke_test(*given, golden["probabilities"], 1e-6)
    with pytest.raises(EvergreenError, match="without a probability"):
        smoke_test(*given[:3], replace(given[3], task=BINARY), given[4], [0.5] * 20, 1e-6)


def pairs(scores: np.ndarray, change: np.ndarray, contract: Contract) -> list[Pair]:
    def answer(score) -> Answer:
        (decided,) = answers.decisions(contract.task, None, [score.tolist()])
        return Answer(score.tolist(), decided, False, 0.003)

    return [
        Pair(f"id-{i}", score, True, answer(score), answer(score + change))
        for i, score in enumerate(scores)
    ]


def test_a_shadow_and_a_canary_see_answers_that_moved(predictor, answerer, tmp_path):
    """By a hundredth of such a step nothing happens, by all of it there are other decisions."""
    contract, rows = predictor.contract, rows_of(200)
    task, limits = contract.task, Shadow(rows=200, minimum_rows=50, flip_limit=0.1)
    heard = [answers.heard(task, "outcome", answer)[0] for answer in ask(answerer, rows)]
    scores = np.array(heard)
    step = np.array([-1.0, 1.0, 0.0]) if task.classes else np.array(1.5 * task.scale)
    little = shadow.compare(pairs(scores, 0.01 * step, contract), limits, task)
    assert little.blocks is None and little.changed_since == 0
    assert little.mean_difference == pytest.approx(0.01 if task.classes else 0.015)
    much = shadow.compare(pairs(scores, step, contract), limits, task)
    assert "decisions: " in (much.blocks or "")
    logged = list(read(tmp_path))
    counters = Counters(1.0, {}, 0, {0.001: 0}, 0)
    place = 0 if task.classes else float(scores.mean())
    labels = {record["key"]: place for record in logged}
    one = observe.arm(counters, counters, logged, labels, contract)
    assert one.scores.shape == (1, len(contract.cuts) + len(task.classes))
    assert 0 <= one.scores.min() <= one.scores.max() <= 1
    top = scores.max(axis=1) if task.classes else scores
    shares = [(top > cut).mean() for cut in contract.cuts]
    if task.classes:
        shares += scores.mean(axis=0).tolist()
        errors = ((np.eye(3)[0] - scores) ** 2).sum(axis=1) / 2
    else:
        errors = np.minimum(((scores - place) / task.scale) ** 2, 1)
    assert one.scores[0] == pytest.approx(shares)
    assert one.losses == pytest.approx([errors.mean()])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 0.5}, "threshold 0.5 of a"),
        ({"base_rate": [0.5, 0.5]}, "2 base rates of a"),
        ({"task": {"kind": "several", "classes": [], "scale": 1.0}}, "no several task"),
    ],
)
def test_a_contract_of_another_task_is_refused(other, tmp_path, change, said):
    value = json.loads((other / "contract.json").read_text())
    for name in ("contract", "reference"):
        content = json.loads((other / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert Contract.load(tmp_path).task.kind == value["task"]["kind"]
    (tmp_path / "contract.json").write_text(json.dumps(value | change))
    with pytest.raises(EvergreenError, match=f"is not a contract .*{said}"):
        Contract.load(tmp_path)


def test_a_model_of_another_task_is_refused(other, artefact, tmp_path):
    task = Contract.load(other).task
    with pytest.raises(EvergreenError, match=r"no output|columns there"):
        OnnxEngine.load(artefact / "model.onnx", task)
    if task.classes:
        with pytest.raises(EvergreenError, match="4 columns there"):
            OnnxEngine.load(other / "model.onnx", multiclass([*task.classes, "lost"]))
