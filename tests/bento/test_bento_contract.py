"""What the endpoint takes and refuses, against an ASGI app in process."""

import asyncio
import io
import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from bento.access_log import AccessLog
from bento.answerer import Answerer, Identity
from bento.breaker import Breaker
from bento.contract import MAX_BODY, Contract, Decoder, RequestError
from bento.endpoint import Endpoint
from bento.prediction_log import PredictionLog, slot_file
from bento.predictions import read
from bento.predictor import FEW, Predictor
from data import features
from data.digests import verify
from data.errors import EvergreenError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Server:
    """The middleware with its own log; answers (status, value)."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.folder = folder
        log = PredictionLog(slot_file(folder, "blue"))
        identity = Identity("7", "parcels:abc-7-def", "blue")
        self.answerer = Answerer(predictor, log, identity, CollectorRegistry())
        self.app = Endpoint(self.other, load=lambda: self.answerer)

    async def other(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def ask(self, body, method="POST", path="/predict", headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = []
        parts = [data[:5], data[5:]]
        messages = [
            {"type": "http.request", "body": part, "more_body": i == 0}
            for i, part in enumerate(parts)
        ]

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        given_headers = {"content-type": "application/json"} if headers is None else headers
        pairs = [(k.encode(), v.encode()) for k, v in given_headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], sent[1]["body"]

    def predict(self, body, **kwargs):
        status, answer = self.ask(body, **kwargs)
        return status, json.loads(answer)


@pytest.fixture(scope="session")
def predictor(artefact) -> Predictor:
    return Predictor.load(artefact)


@pytest.fixture
def server(predictor, tmp_path) -> Server:
    return Server(predictor, tmp_path)


@pytest.fixture(scope="module")
def shared(predictor, tmp_path_factory) -> Server:
    return Server(predictor, tmp_path_factory.mktemp("log"))


def test_one_row_is_answered_by_one_object(server, row, artefact):
    status, answer = server.predict({**row, "key": "order 17"})
    assert status == 200
    assert len(answer.pop("request_id")) == 32
    assert 0 < answer["probability"] < 1
    assert answer == {
        "key": "order 17",
        "model_version": "7",
        "digest": verify(artefact),
        "probability": answer["probability"],
        "returned": answer["probability"] >= 0.4,
        "degraded": False,
    }


def test_golden_rows_have_the_probabilities_of_training(server, artefact):
    golden = json.loads((artefact / "golden.json").read_text())
    status, answers = server.predict(golden["rows"])
    assert status == 200
    found = [answer["probability"] for answer in answers]
    assert found == pytest.approx(golden["probabilities"], abs=1e-6)
    ids = [answer["request_id"].rpartition("-") for answer in answers]
    assert len({first for first, _, _ in ids}) == 1
    assert [last for _, _, last in ids] == [str(i) for i in range(20)]


CHANGES = [
    ({"price": "19.9"}, "$.price"),
    ({"price": True}, "$.price"),
    ({"price": None}, "$.price"),
    ({"price": 500.01}, "$.price"),
    ({"price": -1}, "$.price"),
    ({"pieces": 2.5}, "$.pieces"),
    ({"pieces": 10}, "$.pieces"),
    ({"kind": "secret"}, "$.kind"),
    ({"kind": None}, "$.kind"),
    ({"ordered_at": "2024-04-01T09:00:00Z"}, "$.ordered_at"),
    ({"ordered_at": "2024-04-01T09:00:00+02:00"}, "$.ordered_at"),
    ({"ordered_at": "secret"}, "$.ordered_at"),
    ({"ordered_at": 1711962000}, "$.ordered_at"),
    ({"key": "k" * 201}, "$.key"),
    ({"key": 5}, "$.key"),
    ({"unknown": 1}, "$"),
]


@pytest.mark.parametrize(("change", "path"), CHANGES)
def test_a_wrong_row_is_refused_with_its_path_and_without_its_value(server, row, change, path):
    status, answer = server.predict({**row, **change})
    assert (status, answer["path"]) == (422, path)
    assert "secret" not in answer["error"]
    status, answer = server.predict([row, {**row, **change}])
    assert (status, answer["path"]) == (422, path.replace("$", "$[1]"))
    assert list(read(server.folder)) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_no_json(server, row, number):
    body = json.dumps(row).replace("19.9", number).encode()
    assert server.predict(body)[0] == 400


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400])
def test_numbers_beyond_a_float_are_refused(server, row, number):
    body = json.dumps(row).replace("19.9", number).encode()
    status, answer = server.predict(body)
    assert (status, answer["path"]) == (422, "$.price")


def test_limits(server, row):
    assert server.predict([])[0] == 422
    assert server.predict([row] * 1000)[0] == 200
    status, answer = server.predict([row] * 1001)
    assert status == 413 and "1000" in answer["error"]
    assert server.predict(b" " * (MAX_BODY + 1))[0] == 413
    assert server.predict(b"", headers={"content-length": "99999999"} | JSON)[0] == 413


JSON = {"content-type": "application/json"}


def test_head(server, row):
    assert server.predict(row, method="GET")[0] == 405
    assert server.predict(row, headers={"content-type": "text/plain"})[0] == 415
    assert server.predict(row, headers={})[0] == 415
    assert (
        server.predict(row, headers={"content-type": "application/json; charset=utf-8"})[0] == 200
    )
    assert server.ask(b"", path="/elsewhere")[0] == 404


def test_version_and_metrics(server, row, artefact):
    status, answer = server.predict(b"", method="GET", path="/version")
    assert status == 200
    assert answer["digest"] == verify(artefact)
    assert (answer["model_version"], answer["slot"]) == ("7", "blue")
    server.predict([row, {**row, "shop": "never seen"}])
    server.predict({})
    _, text = server.ask(b"", method="GET", path="/metrics")
    lines = set(text.decode().splitlines())
    assert 'evergreen_requests_total{model_version="7",status="200"} 1.0' in lines
    assert 'evergreen_requests_total{model_version="7",status="422"} 1.0' in lines
    assert 'evergreen_rows_total{model_version="7"} 2.0' in lines
    assert 'evergreen_unseen_categories_total{field="shop",model_version="7"} 1.0' in lines


def fails(*_):
    raise RuntimeError("planted")


def gives_nan(*_):
    return np.full(1, np.nan, dtype=np.float32)


@pytest.mark.parametrize("run", [fails, gives_nan])
def test_a_failing_model_is_answered_with_the_base_rate(predictor, row, tmp_path, run):
    engine = SimpleNamespace(run=run)
    server = Server(Predictor(predictor.contract, predictor.digest, engine), tmp_path)
    status, answer = server.predict(row)
    assert status == 200 and answer["degraded"] is True
    assert answer["probability"] == predictor.contract.base_rate
    (record,) = read(tmp_path)
    assert record["degraded"] is True


def test_a_model_that_keeps_failing_is_left_alone(predictor, row, tmp_path):
    asked = []

    def run(matrix):
        asked.append(len(matrix))
        raise RuntimeError("planted")

    broken = Predictor(
        predictor.contract, predictor.digest, SimpleNamespace(run=run), breaker=Breaker(failures=2)
    )
    server = Server(broken, tmp_path)
    answers = [server.predict(row) for _ in range(5)]
    assert all(status == 200 and answer["degraded"] for status, answer in answers)
    assert len(asked) == 2
    _, text = server.ask(b"", method="GET", path="/metrics")
    assert b'evergreen_breaker_open{model_version="7"} 1.0' in text
    assert b'evergreen_degraded_rows_total{model_version="7"} 5.0' in text


def test_one_in_so_many_requests_is_logged_and_every_failure(server, row, monkeypatch):
    lines = io.StringIO()
    server.app = Endpoint(server.other, lambda: server.answerer, AccessLog(3, lines))
    for _ in range(7):
        server.predict({**row, "shop": "a secret"})
    monkeypatch.setattr(os, "write", no_space)
    assert server.predict(row)[0] == 503
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["nth"], line["status"]) for line in found] == [(3, 200), (6, 200), (8, 503)]
    assert "secret" not in lines.getvalue()


def test_requests_that_come_together_are_answered_as_if_alone(predictor, row, tmp_path):
    """One of them breaks the model: the others do not notice."""
    few = SimpleNamespace(run=lambda m: fails() if (m == 13).any() else predictor.run(m))
    server = Server(Predictor(predictor.contract, predictor.digest, few), tmp_path)
    bodies = [{**row, "price": price} for price in (1.0, 250.0, 13.0, 400.0)]
    bodies.append([{**row, "pieces": pieces} for pieces in range(1, 10)])
    requests = [server.answerer.read(json.dumps(body).encode()) for body in bodies]
    together = list(map(json.loads, server.answerer.answer(requests)))
    assert [a["degraded"] for a in together[:4]] == [False, False, True, False]
    server = Server(Predictor(predictor.contract, predictor.digest, few), tmp_path)
    alone = [server.predict(body)[1] for body in bodies]
    for one, other in zip(together[:4] + together[4], alone[:4] + alone[4], strict=True):
        assert one.pop("request_id") != other.pop("request_id")
        assert one == other


def test_without_a_log_there_is_no_answer(server, row, monkeypatch):
    monkeypatch.setattr(server.answerer._log, "append", no_space)
    assert server.predict(row)[0] == 503


def test_readiness_comes_back_with_the_log(server, row, monkeypatch):
    real = os.write
    assert server.ask(b"", method="GET", path="/readyz")[0] == 404, "the app behind answers"
    monkeypatch.setattr(os, "write", no_space)
    assert server.predict(row)[0] == 503
    assert server.ask(b"", method="GET", path="/readyz")[0] == 503
    monkeypatch.setattr(os, "write", real)
    assert server.ask(b"", method="GET", path="/readyz")[0] == 404
    assert server.predict(row)[0] == 200


def no_space(*_):
    raise OSError(28, "No space left on device")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(["key", "ordered_at", "shop", "kind", "price", "weight", "pieces", "x"])


@QUICK
@given(body=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_wild_bodies_are_refused_and_break_nothing(shared, body):
    assert shared.predict(body)[0] in (400, 413, 422)


@QUICK
@given(change=st.dictionaries(names, json_values, max_size=3), many=st.booleans())
def test_wild_values_break_nothing(shared, change, many):
    wild = {**shared_row(), **change}
    status, answer = shared.predict([wild] if many else wild)
    assert status in (200, 400, 422)
    if status == 200:
        assert not (answer[0] if many else answer)["degraded"]


def shared_row() -> dict:
    return {
        "ordered_at": "2024-04-01T09:00:00",
        "shop": "north",
        "kind": "toy",
        "price": 19.9,
        "weight": None,
        "pieces": 2,
    }


rows = st.fixed_dictionaries(
    {
        "ordered_at": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
        "shop": st.sampled_from(["north", "south", "west", "", "elsewhere"]) | st.text(max_size=5),
        "kind": st.sampled_from(["book", "toy"]),
        "price": st.floats(0, 500),
        "weight": st.none() | st.floats(0, 50),
        "pieces": st.integers(1, 9),
    }
)


@QUICK
@given(drawn=st.lists(rows, min_size=1, max_size=4))
def test_the_server_sees_the_features_of_training(shared, predictor, drawn):
    body = [{**row, "ordered_at": row["ordered_at"].isoformat()} for row in drawn]
    try:
        data = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    status, answers = shared.predict(data)
    assert status == 200
    matrix = features.transform(predictor.contract.features, to_columns(drawn))
    run = predictor.run if len(drawn) <= FEW else predictor.run_many
    assert [answer["probability"] for answer in answers] == run(matrix).tolist()


def to_columns(drawn: list[dict]) -> dict[str, np.ndarray]:
    columns = {name: np.array([row[name] for row in drawn], dtype=object) for name in drawn[0]}
    columns["ordered_at"] = columns["ordered_at"].astype("datetime64[us]")
    for name in ("price", "weight", "pieces"):
        columns[name] = columns[name].astype(np.float64)
    return columns


def test_the_schema_names_every_field(predictor):
    schema = Decoder(predictor.contract.fields).schema()
    assert set(schema["required"]) == {"ordered_at", "shop", "kind", "price", "pieces"}
    assert schema["properties"]["price"]["description"] == "in euro"
    assert schema["additionalProperties"] is False


def test_a_contract_that_cannot_be_served_is_refused(artefact, tmp_path):
    value = json.loads((artefact / "contract.json").read_text())
    (tmp_path / "contract.json").write_text(json.dumps({**value, "event_time": "price"}))
    with pytest.raises(EvergreenError, match="event time"):
        Contract.load(tmp_path)
    renamed = [{**field, "name": "key"} for field in value["fields"][:1]]
    (tmp_path / "contract.json").write_text(json.dumps({**value, "fields": renamed}))
    with pytest.raises(EvergreenError, match="rename the field"):
        Contract.load(tmp_path)
    (tmp_path / "contract.json").write_text("{")
    with pytest.raises(EvergreenError, match="not a contract"):
        Contract.load(tmp_path)


def test_an_unbounded_integer_stays_exact(predictor):
    pieces = next(field for field in predictor.contract.fields if field.name == "pieces")
    decoder = Decoder([replace(pieces, minimum=None, maximum=None)])
    assert decoder.decode(b'{"pieces":-9007199254740992}')[1] is False
    with pytest.raises(RequestError) as refused:
        decoder.decode(b'{"pieces":9007199254740993}')
    assert refused.value.status == 422
    assert isinstance(decoder.decode(b'[{"pieces":1}]')[0][0], msgspec.Struct)


def test_a_changed_artefact_is_not_loaded(artefact, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(artefact, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(EvergreenError, match="differs from its manifest"):
        Predictor.load(copy)
