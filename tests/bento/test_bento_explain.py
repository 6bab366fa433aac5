"""Contributions: exact where all coalitions can be counted, and the same wherever they are made."""

import asyncio
import itertools
import json
import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bento import explain
from bento.answerer import Answerer, Identity
from bento.contract import Decoder, RequestError
from bento.endpoint import Endpoint
from bento.explain import Explainer, decode, log_odds, to_columns
from bento.prediction_log import PredictionLog, slot_file
from bento.predictions import read
from bento.predictor import Predictor
from data.errors import EvergreenError
from data.features import transform


@pytest.fixture(scope="module")
def predictor(artefact) -> Predictor:
    return Predictor.load(artefact)


@pytest.fixture(scope="module")
def explainer(artefact, predictor) -> Explainer:
    return Explainer.load(artefact, predictor)


@pytest.fixture(scope="module")
def golden(artefact, predictor) -> list[dict]:
    rows = json.loads((artefact / "golden.json").read_text())["rows"]
    return [decode(Decoder(predictor.contract.fields), row) for row in rows]


def shapley(predictor, typical, row) -> dict[str, float]:
    """By the definition: every coalition of fields, weighted as Shapley did."""
    fields, n = predictor.contract.fields, len(predictor.contract.fields)
    coalitions = [set(c) for k in range(n + 1) for c in itertools.combinations(range(n), k)]
    mixed = [
        {f.name: (row if i in chosen else one)[f.name] for i, f in enumerate(fields)}
        for chosen in coalitions
        for one in typical
    ]
    matrix = transform(predictor.contract.features, to_columns(mixed, fields))
    values = log_odds(predictor.run(matrix)).reshape(len(coalitions), len(typical)).mean(axis=1)
    worth = {frozenset(c): v for c, v in zip(coalitions, values, strict=True)}
    found = dict.fromkeys((field.name for field in fields), 0.0)
    for chosen in coalitions:
        for i in set(range(n)) - chosen:
            weight = math.factorial(len(chosen)) * math.factorial(n - len(chosen) - 1)
            gain = worth[frozenset(chosen | {i})] - worth[frozenset(chosen)]
            found[fields[i].name] += weight / math.factorial(n) * gain
    return found


def test_contributions_are_near_the_exact_shapley_values(predictor, explainer, golden):
    for row in golden[:4]:
        exact = shapley(predictor, golden, row)
        found = {part.field: part.effect for part in explainer.explain(row).contributions}
        gaps = [abs(found[name] - exact[name]) for name in exact]
        assert max(gaps) < 0.25 * max(map(abs, exact.values()))
        assert np.mean(gaps) < 0.1 * max(map(abs, exact.values()))


def test_parts_add_up_to_the_log_odds_of_the_answer(explainer, predictor, golden):
    for row in golden:
        found = explainer.explain(row)
        total = found.base + sum(part.effect for part in found.contributions)
        assert total == pytest.approx(found.value, abs=1e-6)
        assert [found.probability] == predictor.scores([row])
        assert found.value == pytest.approx(math.log(found.probability / (1 - found.probability)))
        sizes = [abs(part.effect) for part in found.contributions]
        assert sizes == sorted(sizes, reverse=True)
        assert {part.field for part in found.contributions} == set(row)


def test_a_field_as_in_every_typical_event_adds_nothing(predictor, golden):
    same = [{**row, "price": 10.0, "pieces": 2} for row in golden]
    found = Explainer(predictor, same).explain({**golden[0], "price": 10.0, "pieces": 2})
    parts = {part.field: part.effect for part in found.contributions}
    assert parts["price"] == parts["pieces"] == 0
    assert any(parts.values())


def test_the_same_row_gets_the_same_numbers_from_another_load(artefact, explainer, row):
    row = decode(Decoder(explainer._fields), row)
    again = Explainer.load(artefact, Predictor.load(artefact)).explain(row)
    assert again == explainer.explain(row)


@pytest.mark.parametrize("content", ["{}", '{"rows": []}', '{"rows": [{"price": 1}]}', "["])
def test_an_artefact_without_typical_events_is_refused(predictor, tmp_path, content):
    (tmp_path / explain.GOLDEN).write_text(content)
    with pytest.raises(EvergreenError, match="has no rows to compare with"):
        Explainer.load(tmp_path, predictor)


@pytest.fixture
def answerer(predictor, explainer, tmp_path) -> Answerer:
    log, identity = PredictionLog(slot_file(tmp_path, "blue")), Identity("7", "p:a-7-d", "blue")
    return Answerer(predictor, log, identity, CollectorRegistry(), explainer)


def test_an_explanation_is_that_of_the_logged_row_and_is_itself_not_logged(
    answerer, explainer, row, tmp_path
):
    body = json.dumps({**row, "key": "order 17"}).encode()
    found = json.loads(answerer.explain(body))
    assert list(read(tmp_path)) == []
    answer = json.loads(*answerer.answer([answerer.read(body)]))
    (record,) = read(tmp_path)
    logged = explainer.explain(decode(Decoder(explainer._fields), record["row"]))
    assert found == {
        **{name: answer[name] for name in ("key", "model_version", "digest", "returned")},
        **logged.to_json(),
    }
    assert answer["probability"] == found["probability"]


def test_only_one_row_is_explained_and_only_where_it_is_wanted(answerer, predictor, row, tmp_path):
    body = json.dumps(row).encode()
    with pytest.raises(RequestError, match="expected one row as an object") as refused:
        answerer.explain(b"[%s]" % body)
    assert refused.value.status == 422
    with pytest.raises(RequestError, match="unknown field"):
        answerer.explain(json.dumps({**row, "more": 1}).encode())
    log, identity = PredictionLog(slot_file(tmp_path, "green")), Identity("7", "p:a-7-d", "green")
    silent = Answerer(predictor, log, identity, CollectorRegistry())
    with pytest.raises(RequestError, match="EVERGREEN_EXPLAIN=on") as refused:
        silent.explain(body)
    assert refused.value.status == 404


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("GET", 405)])
def test_the_route_answers_over_asgi(answerer, row, method, status):
    sent, body = [], json.dumps(row).encode()

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": "/explain", "headers": headers}
    asyncio.run(Endpoint(None, lambda: answerer)(scope, receive, send))
    assert sent[0]["status"] == status
    if status == 200:
        assert sent[1]["body"] == answerer.explain(body)
