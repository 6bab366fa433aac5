"""A logged answer is explained by the very model that gave it, or not at all."""

import io
import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from bento.answerer import Answerer, Identity
from bento.explain import Contribution, Explainer, Explanation
from bento.prediction_log import PredictionLog, slot_file
from bento.predictor import Predictor
from data import digests
from data.errors import EvergreenError
from data.task import REGRESSION, multiclass
from flows.explain import Explained, render, run_explain


@pytest.fixture
def log(project):
    path = slot_file(project.settings.serving.folder, "green")
    yield PredictionLog(path)
    path.unlink()


@pytest.fixture
def asked(project, first, log):
    """An answer that the version gave, and what its server says to `/explain`."""
    folder = project.registry.folder(first)
    predictor = Predictor.load(folder)
    answerer = Answerer(
        predictor,
        log,
        Identity(first.number, "parcels:x", "green"),
        CollectorRegistry(),
        Explainer.load(folder, predictor),
    )
    row = json.loads((folder / "golden.json").read_text())["rows"][11]
    body = json.dumps({**row, "key": "parcel 7"}).encode()
    return json.loads(*answerer.answer([answerer.read(body)])), json.loads(answerer.explain(body))


def change(project, **values) -> None:
    """Other values in the one record of the log."""
    path = slot_file(project.settings.serving.folder, "green")
    path.write_text(json.dumps(json.loads(path.read_text()) | values) + "\n")


def test_the_command_says_what_the_server_said(project, asked):
    answer, served = asked
    found = run_explain(project, answer["request_id"])
    assert found.to_json() == {"request_id": answer["request_id"], **served}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(found))
    shown = console.export_text()
    assert f"probability {answer['probability']:.4f}" in shown
    assert all(part["field"] in shown for part in served["contributions"])


@pytest.mark.parametrize(
    ("task", "decision", "probability", "head"),
    [
        (REGRESSION, 41.5, None, "r1: hours 41.5000; version 3"),
        (
            multiclass(["early", "on_time", "late"]),
            "late",
            0.75,
            "r1: hours late, probability 0.7500",
        ),
    ],
)
def test_numbers_and_classes_are_said_in_their_words(task, decision, probability, head):
    record = {"request_id": "r1", "model_version": "3", "decision": decision, "row": {"kilos": 7}}
    found = Explanation(decision, probability, 41.5, 40.25, (Contribution("kilos", 1.25),))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(Explained(record, "hours", task, found)))
    shown = console.export_text()
    unit = "hours" if probability is None else "log-odds"
    assert head in shown and "+1.250" in shown
    assert f"typical events +40.250, with all contributions +41.500 {unit}" in shown


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"degraded": True}, "nothing to explain"),
        ({"model_version": "77"}, "no version '77'"),
        ({"digest": "0" * 64}, "was answered by 0000000000000000, but version"),
        ({"probabilities": [0.5]}, "was answered with 0.5, but its model gives"),
    ],
)
def test_what_the_model_did_not_answer_is_not_explained(project, asked, values, said):
    change(project, **values)
    with pytest.raises(EvergreenError, match=said):
        run_explain(project, asked[0]["request_id"])


def test_a_changed_artefact_explains_nothing(project, first, asked):
    path = Path(first.source.removeprefix("file://")) / "artefact" / "model.onnx"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        digests.seal(path.parent)
        with pytest.raises(EvergreenError, match="is not as it was signed"):
            run_explain(project, asked[0]["request_id"])
    finally:
        path.write_bytes(whole)
        digests.seal(path.parent)
    assert run_explain(project, asked[0]["request_id"])
    with pytest.raises(EvergreenError, match="no request id in the prediction log"):
        run_explain(project, "another")
