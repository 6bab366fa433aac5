"""Deploy, switch, failover and rollback with real processes: supervisord, HAProxy and two slots."""

import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import requests

from bento import client, experiment, gateway, history, rollout, supervisor
from bento.package import Package, build
from bento.prediction_log import read
from bento.slots import Serving, programs
from data.digests import sha256_file
from data.errors import EvergreenError

CHECKOUT = Path(__file__).resolve().parents[2]
SMOKE = {"smoke_rows": 20, "tolerance": 1e-6}


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def supervisord(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(folder / "s.conf")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        client.get(f"{url}/version")
    except EvergreenError:
        return False
    return True


@dataclass
class Stack:
    serving: Serving
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="eg", dir="/tmp"))  # short: unix sockets live in it
    serving = Serving(folder, *free_ports(3), supervisor_socket=folder / "s.sock")
    (folder / "s.conf").write_text(
        f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n\n"
        f"[unix_http_server]\nfile={serving.supervisor_socket}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
        + programs(serving, CHECKOUT)
    )
    running = Stack(serving, supervisord(folder))
    try:
        wait_for(lambda: answers(serving.url))
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def first(artefact: Path, store: Path) -> Package:
    return build(artefact, name="parcels", version="1", store=store, checkout=CHECKOUT)


@pytest.fixture(scope="module")
def second(second_artefact: Path, store: Path) -> Package:
    return build(second_artefact, name="parcels", version="2", store=store, checkout=CHECKOUT)


def golden(folder: Path) -> tuple[list[dict], list[float]]:
    value = json.loads((folder / "golden.json").read_text())
    return value["rows"], value["probabilities"]


@dataclass
class Load:
    """Two clients that ask without a pause, one on a kept connection and one on fresh ones."""

    url: str
    row: dict
    seen: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self.ask, args=(kept,)) for kept in (True, False)]
        for thread in self.threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def ask(self, kept: bool) -> None:
        headers = {} if kept else {"connection": "close"}
        with requests.Session() as session:
            session.trust_env = False
            while not self.stopped.is_set():
                try:
                    reply = session.post(self.url, json=self.row, headers=headers, timeout=10)
                    reply.raise_for_status()
                    self.seen[reply.json()["model_version"]] += 1
                except requests.RequestException as error:
                    self.failures.append(repr(error))
                time.sleep(0.01)


def slot_process(stack: Stack, slot: str) -> psutil.Process:
    return psutil.Process(int((stack.serving.home(slot) / "pid").read_text()))


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

    nothing = requests.post(predict, json=row, timeout=5)
    assert nothing.status_code == 503 and nothing.headers["retry-after"] == "1"
    assert rollout.status(serving).problem is None

    start = time.monotonic()
    slot = rollout.deploy(serving, first, *golden(artefact), **SMOKE)
    print(f"deploy {time.monotonic() - start:.1f} s")
    assert slot == "blue"
    assert requests.post(predict, json=row, timeout=5).status_code == 503, "deployed is not live"
    rollout.switch(serving, slot)
    assert rollout.status(serving).endpoint["model_version"] == "1"

    with Load(predict, row) as load:
        slot = rollout.deploy(serving, second, *golden(second_artefact), **SMOKE)
        assert slot == "green" and set(load.seen) == {"1"}
        old = load.seen["1"]
        experiment.begin(serving, "canary", slot, 20)
        time.sleep(1)
        share = load.seen["2"] / (load.seen["2"] + load.seen["1"] - old)
        assert 0.1 < share < 0.3
        assert rollout.status(serving).problem is None, "a canary is no fault"
        start = time.monotonic()
        rollout.switch(serving, slot)
        print(f"switch {1000 * (time.monotonic() - start):.0f} ms")
    assert load.failures == [] and load.seen["2"] > 0
    print("switch", load.seen)
    assert rollout.status(serving).problem is None

    with Load(predict, row) as load:  # green is active and dies; blue stands in, green comes back
        killed = slot_process(stack, "green")
        killed.send_signal(signal.SIGKILL)
        time.sleep(0.5)
    assert load.failures == [] and load.seen["1"] > 0
    print("failover", load.seen)
    wait_for(lambda: rollout.status(serving).problem is None)

    rows, probabilities = golden(artefact)
    wrong = [*probabilities[:7], probabilities[7] + 0.01, *probabilities[8:]]
    before = gateway.load(serving)
    with Load(predict, row) as load, pytest.raises(EvergreenError, match="golden row 7"):
        rollout.deploy(serving, first, rows, wrong, **SMOKE)
    assert load.failures == [] and set(load.seen) == {"2"}
    assert gateway.load(serving) == before, "a refused release changes nothing"

    with Load(predict, row) as load:
        start = time.monotonic()
        rollout.switch(serving, rollout.slot_of(before, "1", first.digest))
        print(f"back {1000 * (time.monotonic() - start):.0f} ms")
    assert load.failures == [] and load.seen["1"] > 0
    assert rollout.status(serving).endpoint["model_version"] == "1"
    moves = [(switch.version, switch.slot) for switch in history.read(serving.folder)]
    assert moves == [("1", "blue"), ("2", "green"), ("1", "blue")]

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
    large = requests.post(f"{url}/predict", b" " * (gateway.MAX_BODY + 1), timeout=5)
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
    wait_for(lambda: answers(serving.url) and rollout.status(serving).problem is None)
    assert requests.post(predict, json=row, timeout=5).json()["model_version"] == "1"

    # A killed supervisord leaves slots and gateway behind; its successor takes them over.
    orphans = psutil.Process(stack.process.pid).children()
    assert len(orphans) == 3
    stack.process.kill()
    stack.process.wait()
    stack.process = supervisord(serving.folder)
    wait_for(lambda: gateway_runs(serving))
    rollout.resume(serving)
    assert not any(map(alive, orphans))
    assert supervisor.state(serving.supervisor_socket, "blue")[1] == slot_process(stack, "blue").pid
    assert requests.post(predict, json=row, timeout=5).json()["model_version"] == "1"


def gateway_runs(serving: Serving) -> bool:
    """Whether supervisord itself has a running gateway."""
    try:
        return supervisor.state(serving.supervisor_socket, "gateway")[0] == "RUNNING"
    except EvergreenError:
        return False


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
