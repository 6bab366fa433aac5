"""What is asked of Prometheus is what `/metrics` exports; the alarms ring where they should."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvicorn
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from bento import client
from bento.answerer import Answerer, Identity
from bento.endpoint import Endpoint
from bento.prediction_log import PredictionLog
from bento.predictor import Predictor
from flows import publish
from tests.bento.conftest import make_artefact, make_columns, make_rows
from tests.conftest import ROOT

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
ALERTING = yaml.safe_load((GRAFANA / "provisioning" / "alerting" / "evergreen.yml").read_text())
DASHBOARD = json.loads((GRAFANA / "dashboards" / "evergreen.json").read_text())
REPORT = {
    "period": "2024-W10",
    "version": "7",
    "served": 500,
    "findings": [
        {"monitor": "quality", "verdict": "UNKNOWN", "value": None, "threshold": None},
        {"monitor": "skew", "verdict": "OK", "value": 0.0, "threshold": 0.01},
    ],
    "decision": {"action": "wait", "reason": "calm"},
    "made_at": "2024-03-11T06:00:00+00:00",
}
WORDS = {"by", "without", "ignoring", "on", "group_left", "group_right", "or", "and", "offset"}
# .ci/run installs Prometheus and says so here: there, these tests never skip.
NEEDED = "prometheus" in os.environ.get("EVERGREEN_TESTS_NEED", "")
needs_prometheus = pytest.mark.skipif(
    not NEEDED and not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus and promtool on PATH (Debian: apt-get install prometheus)",
)


def asked() -> list[str]:
    """Every query of alarms and dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + panels


@pytest.fixture
def answerer(artefact, tmp_path) -> Answerer:
    log = PredictionLog(tmp_path / "log" / "l.jsonl")
    identity = Identity("7", "p:a-7-d", "blue")
    said = tmp_path / "monitor.prom"
    said.write_bytes(publish.exposition(REPORT))
    return Answerer(Predictor.load(artefact), log, identity, CollectorRegistry(), beside=said)


@pytest.fixture
def answerers(answerer, tmp_path) -> list[Answerer]:
    """One of each kind of task."""
    made = [answerer]
    for kind in ("multiclass", "regression"):
        predictor = Predictor.load(make_artefact(tmp_path / kind, 3, kind))
        log, identity = PredictionLog(tmp_path / "log" / kind), Identity("7", "p:a-7-d", "blue")
        made.append(Answerer(predictor, log, identity, CollectorRegistry()))
    return made


def exported(answerer: Answerer) -> dict[str, set[str]]:
    """Metric -> its labels, once a request was counted; `up` and the targets' labels are added."""
    rows = make_rows(make_columns(3, seed=1))
    body = json.dumps([{**row, "shop": "new"} for row in rows]).encode()
    answerer.answer([answerer.read(body)])
    answerer.metrics.answered(200)
    answerer.metrics.took(0.001)
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    added = {"job", "instance", *(name for of in job["static_configs"] for name in of["labels"])}
    found = {"up": set(added)}
    for family in text_string_to_metric_families(answerer.metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set(added)).update(sample.labels)
    return found


def test_every_query_asks_for_metrics_and_labels_that_are_exported(answerers):
    known: dict[str, set[str]] = {}
    for answerer in answerers:
        known |= exported(answerer)
    for query in asked():
        plain = re.sub(r'"[^"]*"', '""', query)
        plain = re.sub(r"\[[^]]*\]|offset \w+", "", plain)
        groups = re.findall(r"(?:by|ignoring|on|without|group_left) ?\(([^)]*)\)", plain)
        matched = re.findall(r"(\w+)\{([^}]*)\}", plain)
        bare = re.sub(r"\{[^}]*\}|(?:by|ignoring|on|without|group_left) ?\([^)]*\)", " ", plain)
        names = set(re.findall(r"[a-z_]\w*(?! *\()\b", bare)) - WORDS
        assert names and names <= set(known), (query, names - set(known))
        labels = {label.strip() for group in groups for label in group.split(",")} - {""}
        assert labels <= set.union(*(known[name] for name in names)), query
        for name, matchers in matched:
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name], query


def test_grafana_rings_for_what_prometheus_rings_for():
    (group,) = ALERTING["groups"]
    assert len(group["rules"]) == len(RULES)
    for ours, theirs in zip(group["rules"], RULES, strict=True):
        asked, judged = (part["model"] for part in ours["data"])
        assert (ours["title"], asked["expr"]) == (theirs["alert"], theirs["expr"])
        told = {name: text.replace("$$", "$") for name, text in ours["annotations"].items()}
        assert (told, ours["labels"], ours["for"]) == (
            theirs["annotations"],
            theirs["labels"],
            theirs["for"],
        )
        assert (ours["condition"], ours["noDataState"]) == (judged["refId"], "OK")
        # Grafana would take $A for an environment variable.
        assert "$$A" in judged["expression"]
    (source,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    of_panels = {
        target["datasource"]["uid"] for p in DASHBOARD["panels"] for target in p["targets"]
    }
    of_alarms = {rule["data"][0]["datasourceUid"] for rule in group["rules"]}
    assert of_panels == of_alarms == {source["uid"]}


@needs_prometheus
def test_promtool_takes_the_rules_and_every_alarm_rings(tmp_path):
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    for command in (
        "check config prometheus.yml",
        "check rules rules.yml",
        "test rules rules.test.yml",
    ):
        done = promtool(tmp_path / "prometheus", command)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = tmp_path / "prometheus" / "rules.yml"
    never = [rule | {"expr": f"({rule['expr']}) and vector(0) == 1"} for rule in RULES]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "evergreen", "rules": never}]}))
    done = promtool(tmp_path / "prometheus", "test rules rules.test.yml")
    assert done.returncode != 0
    for rule in RULES:
        assert f"alertname: {rule['alert']}," in done.stderr


def promtool(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *command.split()], cwd=folder, capture_output=True, text=True
    )


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture
def served(answerer) -> Iterator[int]:
    """A port on which the answerer serves over HTTP."""
    port = free_port()
    config = uvicorn.Config(
        Endpoint(None, lambda: answerer), port=port, lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture
def prometheus(served, tmp_path) -> Iterator[str]:
    """The address of a Prometheus with our own configuration, but for ports and pace."""
    shutil.copytree(PROMETHEUS, tmp_path / "config")
    config = (PROMETHEUS / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:3001", f"127.0.0.1:{served}")
    config = config.replace("127.0.0.1:3002", f"127.0.0.1:{free_port()}").replace("15s", "1s")
    (tmp_path / "config" / "prometheus.yml").write_text(config)
    port = free_port()
    command = ["prometheus", "--config.file", str(tmp_path / "config" / "prometheus.yml")]
    command += ["--storage.tsdb.path", str(tmp_path / "tsdb"), "--log.level", "error"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"])
    yield f"http://127.0.0.1:{port}/api/v1"
    process.terminate()
    process.wait(timeout=20)


def wait_for(there: Callable[[], Any], seconds: float = 60) -> Any:
    """What `there` returns, once that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := there():
                return found
        except client.EvergreenError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"nothing after {seconds} s")


@needs_prometheus
def test_a_real_prometheus_reads_a_real_slot(prometheus, served):
    def ask(query: str) -> list[dict[str, Any]]:
        query = query.replace("$__rate_interval", "20s")
        url = f"{prometheus}/query?{urlencode({'query': query})}"
        return client.get(url).value["data"]["result"]

    def send() -> None:
        rows = [{**row, "shop": "new"} for row in make_rows(make_columns(20, seed=2))]
        door = client.Door(f"http://127.0.0.1:{served}")
        assert door.call("POST", "/predict", rows).status == 200
        assert door.call("POST", "/predict", [{}]).status == 422

    def rates() -> list[dict[str, Any]]:
        send()
        return ask("sum by (slot, model_version) (rate(evergreen_rows_total[20s])) > 0")

    (rows,) = wait_for(rates)
    assert rows["metric"] == {"slot": "blue", "model_version": "7"}
    assert {found["metric"]["slot"]: found["value"][1] for found in ask("up")} == {
        "blue": "1",
        "green": "0",
    }
    (unknown,) = ask('max by (monitor) (evergreen_monitor_verdict{verdict="UNKNOWN"}) == 1')
    assert unknown["metric"] == {"monitor": "quality"}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            other_kind = re.search("evergreen_(classes|prediction)_", target["expr"])
            assert bool(ask(target["expr"])) != bool(other_kind), target["expr"]
    (group,) = client.get(f"{prometheus}/rules").value["data"]["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
