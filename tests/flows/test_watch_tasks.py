"""Models of classes and numbers are watched from their real answers and the log of them."""

import json
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from bento.answerer import Answerer, Identity
from bento.prediction_log import PredictionLog, slot_file
from bento.predictor import Predictor
from data.contracts import KEY, to_columns
from data.digests import canonical_json
from data.ingest import ingest
from data.params import Params
from data.periods import Period, parse_as_of, span
from data.verdicts import Finding, Verdict
from flows import watch
from flows.settings import PORTS, Settings
from models import artifact, monitor_page
from models.governor import Watched
from models.train import train
from tests.conftest import fill
from tests.planted_tasks import CHANGE, CLASS, NUMBER

NINTH, LAST = Period.parse("2024-W09"), Period.parse("2024-W14")
LINEAR = {"hours": "ridge", "speed": "logistic"}
VERSION = SimpleNamespace(number="1")


@pytest.fixture(scope="module", params=[NUMBER, CLASS], ids=["number", "class"])
def problem(request):
    return request.param


@pytest.fixture(scope="module")
def project(tmp_path_factory, params, problem):
    """A home in which a model has answered every week from the ninth to the last."""
    home = tmp_path_factory.mktemp("watched")
    content = params.model_dump()
    content["candidates"] = ["base_rate", LINEAR[problem.name], "xgboost"]
    chosen = Params.model_validate(content)
    partitions = fill(home / "raw", "2024-W01", LAST.name, problem)
    trained = train(problem, partitions, chosen, parse_as_of("2024-W08", problem.label_delay))
    artifact.write(trained, problem, chosen, home / "artefact")
    nowhere = {service: place + 1 for place, service in enumerate(PORTS)}
    settings = Settings(home, home / "var", nowhere)
    made = SimpleNamespace(
        settings=settings,
        params=chosen,
        problem=problem,
        partitions=partitions,
        model=artifact.load(home / "artefact"),
    )
    answer(made, span(NINTH, LAST))
    return made


def answer(project, periods) -> None:
    """The periods' events are asked of the packed model, which logs them."""
    fields = project.problem.fields
    log = PredictionLog(slot_file(project.settings.serving.folder, "blue"))
    identity = Identity("1", f"{project.problem.name}:x", "blue")
    model = Predictor.load(project.model.folder)
    answerer = Answerer(model, log, identity, CollectorRegistry())
    for period in periods:
        rows = project.partitions.rows(period)
        bodies = artifact.to_requests(to_columns(rows, fields), fields)
        told = [{**b, "key": k} for b, k in zip(bodies, rows[KEY].astype(object), strict=True)]
        for start in range(0, len(told), 100):
            answerer.answer([answerer.read(json.dumps(told[start : start + 100]).encode())])
    log.close()


@pytest.fixture(scope="module")
def year(project) -> dict[Period, dict[str, Finding]]:
    """What every monitor said, week after week."""
    found: dict[Period, dict[str, Finding]] = {}
    history: list[Watched] = []
    for period in span(NINTH, LAST):
        seen = watch.watch(project, period, VERSION, project.model, history)
        history.append(Watched(period, seen.findings))
        found[period] = {finding.monitor: finding for finding in seen.findings}
        json.dumps([finding.evidence for finding in seen.findings], allow_nan=False)
    return found


def test_sound_weeks_raise_no_alarm(year, project):
    for period in (p for p in year if p < CHANGE):
        said = {name: f.verdict for name, f in year[period].items()}
        assert said.pop("endpoint") is Verdict.UNKNOWN, "no slot could be asked for its counters"
        del said["score_drift"]  # so few rows: scores out of fold spread wider than the model's own
        assert set(said.values()) <= {Verdict.OK, Verdict.WARN}, period
        assert said["skew"] is said["contract"] is said["concept_drift"] is Verdict.OK
    quality, guess = (year[NINTH][name].evidence for name in ("quality", "estimated_quality"))
    assert guess["log_loss"] == pytest.approx(quality["log_loss"], abs=0.1)
    task = project.model.task
    assert task.loss in year[NINTH]["quality"].reason
    assert task.ranking in year[NINTH]["quality"].reason


def test_the_planted_change_is_found(year, project):
    assert year[CHANGE]["feature_drift"].verdict is Verdict.ALARM
    assert year[CHANGE]["quality"].verdict in (Verdict.WARN, Verdict.ALARM)
    assert year[LAST]["quality"].verdict is Verdict.ALARM
    if project.model.task.kind == "regression":
        proof = year[LAST]["concept_drift"]
        assert proof.verdict is Verdict.ALARM
        assert proof.evidence["since"] >= CHANGE.start.date().isoformat()


def test_withheld_labels_are_unknown(project):
    week = LAST.next()
    ingest(project.problem, project.partitions, week, project.problem.read(week), labels=False)
    silent = watch.watch(project, week, VERSION, project.model).findings
    known = {finding.monitor for finding in silent if finding.verdict is not Verdict.UNKNOWN}
    assert known == {"label_arrival", "model_age", "concept_drift"}
    assert not [finding.reason for finding in silent if "the monitor failed" in finding.reason]
    answer(project, [week])
    seen = watch.watch(project, week, VERSION, project.model)
    said = {finding.monitor: finding.verdict for finding in seen.findings}
    assert said["quality"] is said["calibration"] is Verdict.UNKNOWN
    assert said["label_arrival"] is Verdict.ALARM
    assert said["skew"] is Verdict.OK and seen.served == 500


def test_the_page_speaks_of_this_task(year, project):
    task = project.model.task
    reports = [json.loads(canonical_json(each)) for each in map(report, [task] * 6, year.items())]
    text = monitor_page.to_html(project.problem.name, reports[-1], reports)
    assert all(f"<strong>{name}</strong>" in text for name in task.classes)
    for word in (task.loss, task.ranking, f"Are the {task.answers} too high", f"{task.unit} off"):
        assert word in text
    if task.kind == "regression":
        assert "log odds" not in text and "log loss" not in text and "RMSE" in text
        assert "ROC-AUC" not in text and "robabilit" not in text


def report(task, item) -> dict:
    period, said = item
    findings = [{**vars(finding)} for finding in said.values()]
    decision = {"action": "wait", "reason": "so it is"}
    return {"period": period.name, "version": "1", "served": 500, "findings": findings,
            "decision": decision, "task": task.to_json()}  # fmt: skip
