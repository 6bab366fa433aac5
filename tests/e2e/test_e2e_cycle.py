"""The whole life of a model on the planted problem, with every real part.

The tests run in the order in which they stand: each goes on from the state that the last one left.
"""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest
import requests
from scipy.special import logit

from bento import predictions
from data.contracts import to_columns
from data.digests import sha256_file
from data.git import git
from data.partitions import Partitions
from data.periods import Period
from models import artifact
from tests import planted
from tests.e2e.conftest import TEAM
from tests.e2e.world import World, processes_of
from tests.pickles import pickles
from tests.serving_stack import Load

T = TypeVar("T")
CHANGED = Period.parse("2024-W16")


def said(report: dict, monitor: str) -> dict:
    """What one monitor says in a report."""
    return next(found for found in report["findings"] if found["monitor"] == monitor)


def _status(world: World) -> dict:
    done = world.run("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _serving(world: World) -> dict:
    """What serves; neither when it was asked for, nor which runs were tried."""
    kept = (
        "aliases",
        "active",
        "slots",
        "weights",
        "experiment",
        "endpoint",
        "problems",
        "monitor",
    )
    return {name: value for name, value in _status(world).items() if name in kept}


def _served(world: World, body: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{world.url('gateway')}/predict", json=body, timeout=30)


def _rows(world: World, period: Period) -> pd.DataFrame:
    return Partitions(world.checkout / "data" / "raw").rows(period)


def _governor(world: World) -> list[dict]:
    return [json.loads(line) for line in (world.home / "governor.jsonl").read_text().splitlines()]


def _alerts(world: World) -> list[dict]:
    path = world.home / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(ask: Callable[[], T], seconds: float = 300) -> T:
    """What is asked for, once there is any."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.5)
    return found


def _events(world: World, name: str) -> list[dict]:
    found = world.prefect("events/filter", filter={"event": {"name": [name]}})
    return found["events"]


def _mlflow(world: World, path: str, **query: str) -> dict:
    with requests.Session() as session:
        session.trust_env = False
        url = f"{world.url('mlflow')}/api/2.0/mlflow/{path}"
        return session.get(url, params=query, timeout=30).json()


def _artefact(world: World, number: str) -> artifact.Artifact:
    release = next(
        slot for slot in _status(world)["slots"].values() if slot and slot["version"] == number
    )
    kept = (world.home / "mlflow" / "artifacts").glob("*/artifacts/registered/artefact")
    for folder in [*kept, *(world.home / "cache" / "versions").glob("*/artefact")]:
        model = artifact.load(folder)
        if model.digest == release["digest"]:
            return model
    pytest.fail(f"no artefact of version {number}")


def test_dvc_repro_needs_no_server(world: World) -> None:
    done = world.python("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    again = world.python("dvc", "repro")
    assert "Data and pipelines are up to date" in again.stdout
    metrics = json.loads((world.home / "repro" / "evaluation" / "metrics.json").read_text())
    assert metrics["xgboost"]["roc_auc"] > 0.7 > metrics["logistic"]["roc_auc"]


def test_a_change_is_held_against_its_base(world: World) -> None:
    """As a pull request has it: what it changes, and the gates that refuse it."""
    path = world.checkout / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("  size_budget: 12.0", "  size_budget: 0.001"))
    assert path.read_text() != before
    done = world.python("flows.proposal", "--base", "main")
    path.write_text(before)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "**the same model**, to the bit" in done.stdout and "> size: " in done.stdout
    assert "+  size_budget: 0.001" in done.stdout
    written = {path.name for path in (world.home / "ci").iterdir()}
    assert {"report.md", "gates.html", "roc.png", "calibration.png"} <= written
    assert len(git(world.checkout, "worktree", "list").splitlines()) == 1


def test_a_taken_port_is_named_and_nothing_starts(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(world.environment["EVERGREEN_GATEWAY_PORT"])))
        taken.listen()
        done = world.run("up")
    assert done.returncode == 1
    assert world.environment["EVERGREEN_GATEWAY_PORT"] in done.stderr
    assert "EVERGREEN_GATEWAY_PORT" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert processes_of(world) == []


def test_the_demo_lives_a_whole_life(world: World) -> None:
    done = world.run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    status = _status(world)
    assert status["problems"] == []
    assert status["aliases"] == {"champion": "2", "challenger": None, "previous": "1"}
    assert status["endpoint"]["model_version"] == "2"
    assert (world.home / "demo" / "chart.png").stat().st_size > 10_000
    reports = [json.loads(p.read_text()) for p in sorted((world.home / "reports").glob("*.json"))]
    actions = {report["period"]: report["decision"]["action"] for report in reports}
    assert [period for period, action in actions.items() if action == "retrain"] == ["2024-W14"]
    quality = {r["period"]: said(r, "quality")["evidence"] for r in reports}
    served = {period: found["roc_auc"] for period, found in quality.items()}
    assert min(served["2024-W10"], served["2024-W15"]) > served["2024-W14"] + 0.05
    assert all(found["coverage"] == 1.0 for found in quality.values())


def test_the_board_shows_what_status_says(world: World) -> None:
    status = _status(world)
    with requests.Session() as session:
        session.trust_env = False

        def ask(path: str) -> requests.Response:
            reply = session.get(f"{world.url('board')}{path}", timeout=30)
            assert reply.status_code == 200, path
            return reply

        page, said = ask("/").text, ask("/overview.json").json()
        for name in status.keys() - {"at", "runs"}:
            assert said[name] == status[name], name
        assert status["unknown"] == [] and {run["deployment"] for run in status["runs"]} >= {
            "monitor", "retrain"
        }  # fmt: skip
        champion = status["aliases"]["champion"]
        for words in ("It serves", f"version {champion}", "ALARM of", "↻"):
            assert words in page, words
        kept = [link for link in status["links"].values() if link.startswith("/")]
        folder = f"/versions/{champion}"
        assert sorted(kept) == ["/chart.png", f"{folder}/card.html", f"{folder}/gates.html"]
        for link in [*kept, *(f"/reports/{week['page']}" for week in status["year"])]:
            ask(link)


def test_the_same_model_three_ways(world: World) -> None:
    """The flow's version 1 is what `dvc repro` made; a plain train finds it registered."""
    repro = json.loads((world.home / "repro" / "model" / "manifest.json").read_text())
    assert _status(world)["slots"]["blue"]["digest"] == repro["digest"]
    done = world.run("train", "--as-of", "2024-W09")
    assert done.returncode == 0, done.stderr
    assert "version 1" in done.stdout


def test_the_retrain_came_from_the_event(world: World) -> None:
    deployments = world.prefect("deployments/filter")
    assert {d["name"] for d in deployments} == {
        "ingest", "train", "release", "monitor", "retrain", "recalibrate", "alert", "rollback"
    }  # fmt: skip
    (retrain,) = (d for d in deployments if d["name"] == "retrain")
    runs = world.prefect("flow_runs/filter", flow_runs={"deployment_id": {"any_": [retrain["id"]]}})
    (run,) = (r for r in runs if not r["auto_scheduled"])
    assert run["state_type"] == "COMPLETED"
    assert run["created_by"]["type"] == "AUTOMATION"
    assert run["name"].startswith("retrain 2024-W14 · ") and run["name"].endswith("v1 → v2")
    assert run["parameters"]["as_of"] == "2024-W14"
    tags = _mlflow(world, "model-versions/get", name="parcels", version="2")["model_version"][
        "tags"
    ]
    assert {"key": "prefect_run", "value": run["id"]} in tags
    scheduled = [r for r in runs if r["auto_scheduled"] and r["state_type"] == "SCHEDULED"]
    assert scheduled, "the schedule materialises runs"


def test_a_storm_of_alarms_is_one_run_and_it_finds_the_work_done(world: World) -> None:
    (asked,) = (line for line in _governor(world) if line["kind"] == "asked")
    assert asked["action"] == "retrain"
    done = world.python("tests.e2e.storm", "300", asked["key"])
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 300
    ended: list[dict] = []
    while not ended and time.monotonic() < deadline:
        time.sleep(2)
        runs = world.prefect("flow_runs/filter", flows={"name": {"any_": ["retrain"]}})
        mine = [run for run in runs if run["parameters"].get("cause") == "a storm"]
        ended = [run for run in mine if run["state_type"] == "COMPLETED"]
    assert len(ended) == len(mine) == 1
    told = False
    while not told and time.monotonic() < deadline:  # the log arrives after the state
        time.sleep(1)
        logs = world.prefect("logs/filter", logs={"flow_run_id": {"any_": [ended[0]["id"]]}})
        told = any("already done at" in line["message"] for line in logs)
    assert told
    assert _status(world)["aliases"]["champion"] == "2"
    assert [line for line in _governor(world) if line["cause"] == "a storm"] == []


def test_served_equals_training_on_the_same_rows(world: World) -> None:
    """Against the model's own path (pandas, XGBoost), one row and many, with nulls and unseen."""
    rows = _rows(world, CHANGED).head(200)
    rows.loc[::7, "route"] = "never seen before"
    rows.loc[::5, "kilos"] = np.nan
    columns = to_columns(rows, planted.FIELDS)
    expected = _artefact(world, "2").score(columns)
    bodies = artifact.to_requests(columns, planted.FIELDS)
    answers = _served(world, bodies).json()
    assert [a["model_version"] for a in answers] == ["2"] * 200
    assert np.abs(np.array([a["probability"] for a in answers]) - expected).max() <= 1e-6
    (single,) = [_served(world, bodies[3]).json()]
    assert abs(single["probability"] - expected[3]) <= 1e-6
    assert single["late"] == (single["probability"] >= _artefact(world, "2").threshold)


def test_every_answer_is_logged(world: World) -> None:
    body = artifact.to_requests(to_columns(_rows(world, CHANGED).head(3), planted.FIELDS),
                                planted.FIELDS)  # fmt: skip
    answers = _served(world, body).json()
    logged = {r["request_id"]: r for r in predictions.read(world.home / "serving")}
    for row, answer in zip(body, answers, strict=True):
        record = logged[answer["request_id"]]
        assert record["model_version"] == "2"
        assert record["probability"] == answer["probability"]
        assert record["row"]["route"] == row["route"]


def test_an_answer_is_explained_alike_by_server_and_command(world: World) -> None:
    """The command goes by the logged row and the registry, the server by its own bento."""
    body = artifact.to_requests(to_columns(_rows(world, CHANGED).head(3), planted.FIELDS),
                                planted.FIELDS)  # fmt: skip
    for row in body:
        answer = _served(world, row).json()
        with requests.Session() as session:
            session.trust_env = False
            url = f"{world.url('gateway')}/explain"
            served = session.post(url, json=row, timeout=30).json()
        done = world.run("explain", answer["request_id"], "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"request_id": answer["request_id"], **served}
        total = served["base_log_odds"] + sum(p["log_odds"] for p in served["contributions"])
        assert total == pytest.approx(served["log_odds"], abs=1e-6)
        assert served["probability"] == answer["probability"]
    refused = world.run("explain", "no-such-request")
    assert refused.returncode == 1 and "no request id" in refused.stderr


@pytest.mark.parametrize(
    "store",
    ["cache/versions" if TEAM else "mlflow/artifacts", "bentos/packages", "serving/slots"],
)
def test_no_store_of_models_holds_a_pickle(world: World, store: str) -> None:
    assert list((world.home / store).rglob("*"))
    assert pickles(world.home / store) == []


def test_the_card_of_what_serves_is_shown(world: World) -> None:
    page = world.home / "card.html"
    done = world.run("card", "2", "--html", str(page))
    assert done.returncode == 0 and page.read_text().startswith("<!doctype html>")
    shown = world.run("card", "2").stdout
    assert _artefact(world, "2").digest in shown and "importance_shift" in shown


@pytest.mark.parametrize(
    ("change", "path"),
    [({"kilos": "heavy"}, "kilos"), ({"colour": 1}, "colour"), ({"stops": 99}, "stops")],
)
def test_a_bad_request_names_its_field(world: World, change: dict, path: str) -> None:
    (row,) = artifact.to_requests(to_columns(_rows(world, CHANGED).head(1), planted.FIELDS),
                                  planted.FIELDS)  # fmt: skip
    reply = _served(world, {**row, **change})
    assert reply.status_code == 422
    assert path in reply.text


def test_it_runs_again_without_harm(world: World) -> None:
    before = _serving(world)
    done = world.run("demo")
    assert done.returncode == 0, done.stderr
    assert _serving(world) == before


def test_a_second_up_is_refused(world: World) -> None:
    done = world.run("up")
    assert done.returncode == 1
    assert "up already" in done.stderr


BAD = {
    "retrain --as-of 2024-W99": "2024-W99",
    "retrain --as-of 2024-W20": "evergreen ingest 2024-W17",
    "ingest 2031-W01": "2024-W01 to 2024-W20",
    "release 77": "no version '77'",
    "lineage no-such": "'no-such' is no version",
    "reproduce 77": "no version '77'",
    "monitor 2024-W20": "evergreen ingest 2024-W20",
}


def test_bad_input_is_one_error(world: World) -> None:
    before = _serving(world)
    for arguments, said in BAD.items():
        done = world.run(*arguments.split())
        assert done.returncode == 1, arguments
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert _serving(world) == before


def test_no_labels_and_no_answers_are_unknown_never_ok(world: World) -> None:
    assert world.run("ingest", "2024-W17", "--what", "rows").returncode == 0
    done = world.run("monitor", "2024-W17")
    assert done.returncode == 0, done.stderr
    report = json.loads((world.home / "reports" / "2024-W17-v2.json").read_text())
    assert (
        said(report, "feature_drift")["verdict"] == said(report, "quality")["verdict"] == "UNKNOWN"
    )
    assert report["decision"]["action"] == "investigate"
    deadline = time.monotonic() + 60
    while not (told := _events(world, "evergreen.monitor.unknown")) and time.monotonic() < deadline:
        time.sleep(1)  # the server keeps events in batches
    assert told
    shown = _status(world)["monitor"]
    assert (shown["period"], shown["action"]) == ("2024-W17", "investigate")
    assert {"quality", "feature_drift"} <= set(shown["unknown"])
    assert "<h1>parcels: 2024-W17</h1>" in (world.home / "reports" / "2024-W17-v2.html").read_text()


def test_a_truncated_partition_is_refused_by_name_and_restored(world: World) -> None:
    path = world.checkout / "data" / "raw" / "2024-W05.parquet"
    digest = sha256_file(path)
    path.write_bytes(path.read_bytes()[:1000])
    done = world.run("train", "--as-of", "2024-W10")
    assert done.returncode == 1
    assert "2024-W05.parquet" in done.stderr
    assert "evergreen ingest 2024-W05" in done.stderr
    assert world.run("ingest", "2024-W05").returncode == 0
    assert sha256_file(path) == digest


def test_a_misspelt_parameter_is_refused(world: World) -> None:
    path = world.checkout / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("max_depth", "max_dept"))
    done = world.run("train")
    path.write_text(text)
    assert done.returncode == 1
    assert "max_dept" in done.stderr
    assert "'max_depth'" in done.stderr


def test_a_recalibration_is_released_and_taken_back_like_any_other(world: World) -> None:
    done = world.run("recalibrate", "--as-of", "2024-W16", "--cause", "a test")
    assert done.returncode == 0, done.stdout + done.stderr
    status = _status(world)
    assert status["aliases"] == {"champion": "3", "challenger": None, "previous": "2"}
    assert status["endpoint"]["model_version"] == "3" and status["problems"] == []
    row = artifact.to_requests(to_columns(_rows(world, CHANGED).head(1), planted.FIELDS),
                               planted.FIELDS)  # fmt: skip
    made, before = _artefact(world, "3"), _artefact(world, "2")
    assert made.training["recalibration"]["digest"] == before.digest
    shift = made.training["recalibration"]["shift"]
    served = _served(world, row).json()[0]
    assert served["model_version"] == "3"
    columns = to_columns(_rows(world, CHANGED).head(1), planted.FIELDS)
    assert logit(served["probability"]) == pytest.approx(
        logit(before.score(columns)[0]) + shift, abs=1e-4
    )
    assert world.run("verify").returncode == 0
    lines = [line for line in _governor(world)
             if line["action"] != "investigate" and line["kind"] in ("asked", "ended")]  # fmt: skip
    assert [(line["action"], line["kind"], line["period"]) for line in lines] == [
        ("retrain", "ended", "2024-W09"), ("retrain", "asked", "2024-W14"),
        ("retrain", "ended", "2024-W14"), ("recalibrate", "ended", "2024-W16"),
    ]  # fmt: skip
    assert world.run("rollback", "--reason", "a test").returncode == 0
    assert _status(world)["aliases"] == {"champion": "2", "challenger": None, "previous": "3"}


def test_a_run_killed_with_its_worker_is_found_told_and_followed(world: World) -> None:
    """No process of it is left to say so: its heartbeats stop, and the server calls it crashed."""
    assert world.python("tests.e2e.impatient", "10").returncode == 0
    serving, deployment = _serving(world), world.deployment("retrain")
    killed = deployment(as_of="2024-W13", cause="to be killed")
    began = wait_until(lambda: [x for x in _governor(world) if x["cause"] == "to be killed"])
    assert [line["kind"] for line in began] == ["began"]
    for process in (*world.processes("worker", "start"), *world.processes(run=killed)):
        os.kill(process.pid, signal.SIGKILL)
    state = wait_until(lambda: world.ended(killed))
    assert (state["type"], "no heartbeat" in state["message"]) == ("CRASHED", True)
    assert world.python("tests.e2e.impatient", "120").returncode == 0
    drift = [line for line in _governor(world) if line["action"] == "retrain"]
    (asked,) = (line for line in drift if line["kind"] == "asked")
    later = deployment(key=asked["key"], cause="the next")  # one at a time, and it has the lock
    told = wait_until(lambda: [x for x in _alerts(world) if x["alert"]["key"] == "run.retrain"])
    assert told[0]["alert"]["severity"] == "critical" and "crashed" in told[0]["alert"]["title"]
    state = wait_until(lambda: world.ended(later))
    assert state["type"] == "COMPLETED", state["message"]
    assert wait_until(lambda: _alerts(world)[-1]["what"] == "resolved")
    lines = [line for line in _governor(world) if line["cause"] == "to be killed"]
    assert lines == began and _serving(world) == serving


def test_rollback_and_back_again(world: World) -> None:
    done = world.run("rollback", "--reason", "a test")
    assert done.returncode == 0, done.stderr
    status = _status(world)
    assert status["endpoint"]["model_version"] == "1"
    assert status["aliases"]["champion"] == "1"
    assert status["aliases"]["previous"] == "2"
    assert status["problems"] == []


def test_from_an_answer_to_everything_that_it_comes_from(world: World) -> None:
    (body,) = artifact.to_requests(to_columns(_rows(world, CHANGED).head(1), planted.FIELDS),
                                   planted.FIELDS)  # fmt: skip
    answer = _served(world, body).json()
    done = world.run("lineage", answer["request_id"], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    model = found["model"]
    assert found["answer"]["probability"] == answer["probability"]
    assert (model["version"], model["aliases"]) == ("1", ["champion"])
    assert model["code"]["git_dirty"] is False and len(model["code"]["git_sha"]) == 40
    assert model["bento"] == _status(world)["slots"]["blue"]["tag"]
    assert [span["slot"] for span in model["served"]] == ["blue", "blue"]
    assert model["served"][0]["until"] and model["served"][1]["until"] is None
    retrained = json.loads(world.run("lineage", "2", "--json").stdout)
    assert retrained["prefect_run"] != "none" and retrained["rolled_back"] == "a test"


@pytest.mark.skipif(not TEAM, reason="files are tests/flows/test_reproduce.py's; here it is S3")
def test_what_ever_served_is_made_again_without_the_cache(world: World) -> None:
    shutil.rmtree(world.home / "dvc" / "cache")
    done = world.run("reproduce", "2", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["equal"] is True


def test_what_serves_survives_a_killed_supervisor(world: World) -> None:
    supervisord = int((world.home / "run" / "supervisord.pid").read_text())
    next(p for p in processes_of(world) if p.pid == supervisord).send_signal(signal.SIGKILL)
    time.sleep(0.5)
    row = artifact.to_requests(to_columns(_rows(world, CHANGED).head(1), planted.FIELDS),
                               planted.FIELDS)  # fmt: skip
    assert _served(world, row).status_code == 200
    with Load(f"{world.url('gateway')}/predict", row) as load:
        done = world.run("up")
    assert done.returncode == 0, done.stderr
    assert load.failures == [] and load.seen["1"] > 100
    status = _status(world)
    assert status["endpoint"]["model_version"] == "1"
    assert status["problems"] == []


def test_down_stops_everything_and_keeps_the_state(world: World) -> None:
    assert world.run("down").returncode == 0
    assert processes_of(world) == []
    assert _status(world)["aliases"]["champion"] == "1"
    done = world.run("down")
    assert done.returncode == 1
    assert "not up" in done.stderr
