"""Deploy, switch, failover and rollback with real processes: supervisord, HAProxy and two slots."""

import json
import signal
import socket
import statistics
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from bento import client, gateway, history, rollout, supervisor, target
from bento.contract import MAX_BODY
from bento.predictions import read
from data.digests import sha256_file
from data.errors import EvergreenError
from tests.rollouts import Place, a_refusal_and_a_way_back, two_releases
from tests.serving_stack import (
    SMOKE,
    Load,
    answers,
    gateway_runs,
    golden,
    slot_process,
    supervisord,
    wait_for,
)


def test_a_server_that_cannot_start_is_refused_with_its_log(stack, first, artefact, tmp_path):
    serving = stack.serving
    before = gateway.load(serving)
    with tarfile.open(first.path) as archive:
        archive.extractall(tmp_path / "bento")
    (tmp_path / "bento/src/bento/predictor.py").write_text("raise ImportError('planted')")
    broken = tmp_path / "broken.bento"
    with tarfile.open(broken, "w") as archive:
        archive.add(tmp_path / "bento", ".")
    package = replace(first, path=broken, sha256=sha256_file(broken))
    with pytest.raises(EvergreenError, match="planted"):
        rollout.deploy(serving, package, *golden(artefact), **SMOKE)
    assert rollout.status(serving).problem is None
    assert gateway.load(serving) == before


def test_a_whole_rollout(stack, artefact, second_artefact, first, second, row):
    serving = stack.serving
    predict = f"{serving.url}/predict"
    place = Place(serving, first, second, golden(artefact), golden(second_artefact), row)

    two_releases(place)

    with Load(predict, row) as load:  # green is active and dies; blue stands in, green comes back
        killed = slot_process(stack, "green")
        killed.send_signal(signal.SIGKILL)
        time.sleep(0.5)
    assert load.failures == [] and load.seen["1"] > 0
    print("failover", load.seen)
    wait_for(lambda: rollout.status(serving).problem is None)

    a_refusal_and_a_way_back(place)
    moves = [(switch.version, switch.slot) for switch in history.read(serving.folder)]
    assert moves == [("1", "blue"), ("2", "green"), ("1", "blue")]
    active = target.load(serving).slots["blue"]
    assert active is not None and active.since == history.read(serving.folder)[-1].at

    records = list(read(serving.folder))
    assert {record["model_version"] for record in records} == {"1", "2"}
    assert all(record["row"]["shop"] == "north" for record in records), "no smoke test among them"
    assert len(list(read(serving.folder, probes=True))) == len(records) + 60


def test_the_endpoint_beside_predict(stack, row):
    url = stack.serving.url
    for path in ("/healthz", "/livez", "/readyz"):
        assert requests.get(url + path, timeout=5).status_code == 200
    assert "evergreen_rows_total" in requests.get(f"{url}/metrics", timeout=5).text
    document = client.get(f"{url}/docs.json").value
    schema = json.dumps(document["paths"]["/predict"])
    assert all(name in schema for name in row)
    headers = {"content-type": "application/vnd.bentoml+pickle"}
    assert requests.post(f"{url}/predict", b"x", headers=headers, timeout=5).status_code == 415
    large = requests.post(f"{url}/predict", b" " * (MAX_BODY + 1), timeout=5)
    assert large.status_code == 413


def test_the_server_process_is_light(stack):
    process = slot_process(stack, "blue")
    loaded = {part for line in process.memory_maps() for part in Path(line.path).parts}
    assert "onnxruntime" in loaded
    assert not loaded & {"pandas", "sklearn", "xgboost", "scipy", "pyarrow"}
    assert process.cwd() == str(stack.serving.home("blue") / "bento" / "src")


def test_answers_are_not_held_back(stack, row):
    """Without TCP_NODELAY on the accepted sockets, each answer on a kept connection waits 40 ms."""
    with requests.Session() as session:
        session.trust_env = False
        url = f"{stack.serving.slot_url('blue')}/predict"
        seconds = [
            session.post(url, json=row, timeout=5).elapsed.total_seconds() for _ in range(30)
        ]
    assert statistics.median(seconds) < 0.03


def test_an_answer_comes_as_a_whole(stack, row):
    """A server killed between head and body leaves an answer that nobody can complete."""
    body = json.dumps(row).encode()
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((stack.serving.host, stack.serving.blue_port)) as connection:
        for _ in range(200):
            connection.sendall(request)
            head, _, answer = connection.recv(65536).partition(b"\r\n\r\n")
            assert f"content-length: {len(answer)}".encode() in head and answer.endswith(b"}")


def test_restarts_come_up_with_the_same_state(stack, row):
    serving = stack.serving
    predict = f"{serving.url}/predict"
    gateway_pid = int(gateway.command(serving, "show info").partition("Pid: ")[2].split()[0])
    psutil.Process(gateway_pid).kill()
    wait_for(lambda: answers(serving) and rollout.status(serving).problem is None)
    assert requests.post(predict, json=row, timeout=5).json()["model_version"] == "1"

    # A killed supervisord leaves slots and gateway behind; its successor takes them over.
    orphans = psutil.Process(stack.process.pid).children()
    assert len(orphans) == 3
    with Load(predict, row) as load:
        stack.process.kill()
        stack.process.wait()
        stack.process = supervisord(serving.folder)
        wait_for(lambda: gateway_runs(serving))
        rollout.resume(serving)
    assert load.failures == []
    wait_for(lambda: not any(map(alive, orphans)), 40)
    assert supervisor.state(serving.supervisor_socket, "blue")[1] == slot_process(stack, "blue").pid
    assert requests.post(predict, json=row, timeout=5).json()["model_version"] == "1"


def test_a_gateway_is_replaced_without_a_lost_request(stack, row):
    serving = stack.serving
    with Load(f"{serving.url}/predict", row) as load:
        before = gateway.command(serving, "show info").partition("Pid: ")[2].split()[0]
        gateway.reload(serving)
        wait_for(lambda: f"Pid: {before}\n" not in gateway.command(serving, "show info"))
        asked = sum(load.seen.values())
        wait_for(lambda: sum(load.seen.values()) > asked + 20)
    assert load.failures == []
    assert rollout.status(serving).problem is None


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_damaged_package_touches_nothing(stack, first, artefact, tmp_path):
    serving = stack.serving
    before, pid = gateway.load(serving), slot_process(stack, "green").pid
    torn = tmp_path / "torn.bento"
    torn.write_bytes(first.path.read_bytes()[:-100])
    package = replace(first, path=torn)
    with pytest.raises(EvergreenError, match="differs from what was built"):
        rollout.deploy(serving, package, *golden(artefact), **SMOKE)
    assert gateway.load(serving) == before
    assert slot_process(stack, "green").pid == pid
