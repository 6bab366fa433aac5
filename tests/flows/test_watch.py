"""Everything that is said of a served period, from a real model, its answers and their log."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bento.answerer import Answerer, Identity
from bento.prediction_log import PredictionLog, slot_file
from bento.predictor import Predictor
from data.contracts import KEY, to_columns
from data.ingest import ingest
from data.periods import Period, parse_as_of
from data.verdicts import Finding, Verdict, find
from flows import watch
from flows.settings import PORTS, Settings
from models import artifact
from models.governor import Watched
from models.train import train
from tests import planted
from tests.conftest import fill

PROBLEM = planted.PROBLEM
NINTH, TENTH = Period.parse("2024-W09"), Period.parse("2024-W10")
VERSION = SimpleNamespace(number="1")
MONITORS = {
    "contract", "feature_drift", "score_drift", "estimated_quality", "quality", "calibration",
    "concept_drift", "skew", "endpoint", "label_arrival", "model_age",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory, params):
    folder = tmp_path_factory.mktemp("watched")
    partitions = fill(folder / "raw", "2024-W01", "2024-W08")
    trained = train(PROBLEM, partitions, params, parse_as_of("2024-W08", PROBLEM.label_delay))
    artifact.write(trained, PROBLEM, params, folder / "artefact")
    return artifact.load(folder / "artefact")


@pytest.fixture
def project(tmp_path, params):
    nowhere = {service: place + 1 for place, service in enumerate(PORTS)}
    settings = Settings(tmp_path, tmp_path / "var", nowhere)
    partitions = fill(tmp_path / "raw", "2024-W09", "2024-W10")
    return SimpleNamespace(settings=settings, params=params, problem=PROBLEM, partitions=partitions)


def answer(project, model, period, change=lambda body: body, version="1"):
    """The period's events are asked of the packed model, which logs them."""
    rows = project.partitions.rows(period)
    bodies = artifact.to_requests(to_columns(rows, PROBLEM.fields), PROBLEM.fields)
    log = PredictionLog(slot_file(project.settings.serving.folder, "blue"))
    identity = Identity(version, "parcels:x", "blue")
    answerer = Answerer(Predictor.load(model.folder), log, identity, CollectorRegistry())
    told = [change({**b, "key": k}) for b, k in zip(bodies, rows[KEY].astype(object), strict=True)]
    for start in range(0, len(told), 100):
        answerer.answer([answerer.read(json.dumps(told[start : start + 100]).encode())])
    log.close()


def say(project, model, period, history=()) -> dict[str, Finding]:
    seen = watch.watch(project, period, VERSION, model, history)
    assert {found.monitor for found in seen.findings} == MONITORS
    json.dumps([found.evidence for found in seen.findings], allow_nan=False)
    return {found.monitor: found for found in seen.findings}


def test_a_sound_week_is_ok_and_what_was_not_seen_is_unknown(project, model):
    answer(project, model, NINTH)
    said = say(project, model, NINTH)
    verdicts = {name: found.verdict for name, found in said.items()}
    assert verdicts.pop("endpoint") is Verdict.UNKNOWN, "no slot could be asked for its counters"
    assert set(verdicts.values()) <= {Verdict.OK, Verdict.WARN}
    assert verdicts["skew"] is verdicts["contract"] is verdicts["concept_drift"] is Verdict.OK
    assert said["quality"].evidence["roc_auc"] > 0.7
    assert said["concept_drift"].rows == said["quality"].rows
    assert said["model_age"].value == 1
    assert abs(said["estimated_quality"].value - said["quality"].evidence["roc_auc"]) < 0.1


def test_without_answers_and_labels_nothing_is_ok(project, model):
    week = Period.parse("2024-W11")
    ingest(PROBLEM, project.partitions, week, planted.read(week), labels=False)
    said = say(project, model, week)
    known = {"label_arrival", "model_age"}
    assert {f.verdict for n, f in said.items() if n not in known} == {Verdict.UNKNOWN}
    assert said["label_arrival"].verdict is Verdict.ALARM


def test_what_is_unknown_for_want_of_keys_says_so(project, model):
    unknown = sorted(MONITORS - {"contract", "label_arrival", "model_age"})
    said = say(project, model, NINTH)
    assert all("version 1 was not asked in this period" in said[name].reason for name in unknown)
    answer(project, model, NINTH, lambda body: {k: v for k, v in body.items() if k != KEY})
    rows, said = len(project.partitions.rows(NINTH)), say(project, model, NINTH)
    for name in unknown:
        assert said[name].verdict is Verdict.UNKNOWN
        assert (
            f"{rows} answers name no event: send its `key` with each request" in said[name].reason
        )
    answer(project, model, NINTH, lambda body: {**body, KEY: f"x{body[KEY]}"})
    said = say(project, model, NINTH)
    assert all(f"{rows} answers name events that 2024-W09 does not have, such as 'x" in
               said[name].reason for name in unknown)  # fmt: skip


def test_answers_that_are_not_the_models_are_skew(project, model):
    answer(project, model, NINTH)
    path = slot_file(project.settings.serving.folder, "blue")
    lines = path.read_text().splitlines()
    entry = json.loads(lines[2])
    entry["probabilities"][7] += 0.001
    path.write_text("\n".join([*lines[:2], json.dumps(entry), *lines[3:]]) + "\n")
    found = say(project, model, NINTH)["skew"]
    assert found.verdict is Verdict.ALARM and entry["rows"][7]["key"] in found.reason
    assert found.evidence["answers"] == 1


def test_requests_with_other_fields_than_the_partition_are_skew(project, model):
    answer(project, model, NINTH, lambda body: {**body, "queue": body["queue"] * 0.5})
    found = say(project, model, NINTH)["skew"]
    assert found.verdict is Verdict.ALARM and "queue" in found.reason
    assert found.evidence["answers"] == 0, "the model itself answered as it should"


def test_a_monitor_that_fails_is_unknown_and_the_others_go_on(project, model, monkeypatch):
    answer(project, model, NINTH)
    monkeypatch.setitem(watch.MONITORS, "quality", lambda *_: 1 / 0)
    said = say(project, model, NINTH)
    assert said["quality"].verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError" in said["quality"].reason
    assert said["feature_drift"].verdict is not Verdict.UNKNOWN
    path = slot_file(project.settings.serving.folder, "blue")
    path.write_text('{"no": "log"}\n')
    said = say(project, model, NINTH)
    assert said["feature_drift"].verdict is said["skew"].verdict is Verdict.UNKNOWN
    assert said["contract"].verdict is Verdict.OK


def test_concept_drift_counts_every_week_of_the_champion_and_can_be_told_again(project, model):
    def flipped(rows):
        rng = np.random.default_rng(1)
        return rows.assign(delay_hours=np.where(rng.random(len(rows)) < 0.5, 5.0, 0.5))

    answer(project, model, NINTH)
    answer(project, model, TENTH)
    alone = say(project, model, NINTH)["concept_drift"]
    both = say(project, model, TENTH)["concept_drift"]
    assert both.evidence["log_evidence"][: len(alone.evidence["days"])] == pytest.approx(
        alone.evidence["log_evidence"]
    )
    assert both.verdict is Verdict.OK
    for name in ("2024-W11", "2024-W12"):
        week = Period.parse(name)
        ingest(PROBLEM, project.partitions, week, flipped(planted.read(week)))
        answer(project, model, week)
    found = say(project, model, week)["concept_drift"]
    assert found.verdict is Verdict.ALARM and found.evidence["since"] >= "2024-03-11"


def test_what_exceeds_alone_warns_and_alarms_the_second_time(project, model):
    answer(project, model, NINTH)
    answer(project, model, TENTH)
    for period in (NINTH, TENTH):
        labels = project.partitions.labels(period)
        told = labels.assign(label=1 - labels["label"])[[KEY, "label", "excluded", "labelled_at"]]
        told["labelled_at"] += np.timedelta64(1, "s")
        path = project.partitions
        ingest(PROBLEM, path, period, told[told["label"].notna()])
    first = watch.watch(project, NINTH, VERSION, model)
    assert find(first.findings, "quality").verdict is Verdict.WARN
    history = [Watched(NINTH, first.findings)]
    assert say(project, model, TENTH, history)["quality"].verdict is Verdict.ALARM
    assert say(project, model, TENTH)["quality"].verdict is Verdict.WARN
    gap = [Watched(NINTH.previous(), first.findings)]
    assert say(project, model, TENTH, gap)["quality"].verdict is Verdict.WARN
