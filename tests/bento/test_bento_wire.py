"""The server's own process: predictions past ASGI, and a model that does not come back."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from bento import observe
from bento.package import Package
from bento.prediction_log import slot_file
from bento.predictions import read
from tests.serving_stack import free_ports, wait_for

# A call that never returns, without the interpreter's lock, as one that waits for memory.
HANGS = """
_run = OnnxEngine.run


def run(self, matrix):
    while (matrix == 13).any():
        __import__("time").sleep(60)
    return _run(self, matrix)


OnnxEngine.run = run
"""
SECONDS = 0.4


@dataclass
class Server:
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def raw(self, *parts: bytes, pause: float = 0.05) -> bytes:
        """What comes back for bytes that are sent with pauses, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            found = b""
            while more := connection.recv(65536):
                found += more
        return found

    def metrics(self) -> str:
        return requests.get(f"{self.url}/metrics", timeout=10).text

    def metric(self, name: str) -> float:
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (.*)$", self.metrics(), re.M)))

    def is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).ok
        except requests.ConnectionError:
            return False


@contextmanager
def serving(bento: Path, folder: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "PYTHONPATH": "",
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_DO_NOT_TRACK": "true",
        "EVERGREEN_PREDICTION_LOG": str(slot_file(folder, "blue")),
    }
    command = [sys.executable, "-m", "bento.server", "--bento", str(bento), "--port", str(port)]
    process = subprocess.Popen(command, cwd=bento / "src", env=environment)
    try:
        server = Server(port, folder, process)
        wait_for(server.is_up)
        yield server
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def bento(first: Package, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bento")
    with tarfile.open(first.path) as archive:
        archive.extractall(folder)
    with (folder / "src/bento/engines.py").open("a") as engines:
        engines.write(HANGS)
    said = (folder / "bento.yaml").read_text()
    assert said.count("model_seconds: 2.0") == 1
    (folder / "bento.yaml").write_text(said.replace("_seconds: 2.0", f"_seconds: {SECONDS}"))
    return folder


@pytest.fixture(scope="module")
def server(bento, tmp_path_factory) -> Iterator[Server]:
    with serving(bento, tmp_path_factory.mktemp("serving")) as server:
        yield server


def request(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST /predict HTTP/{version}", "host: x", f"content-length: {len(body)}", *headers]
    if not any(line.startswith("content-type") for line in lines):
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(found: bytes) -> list[tuple[int, dict]]:
    """Status and body of each answer in a stream, but for those that only say 100."""
    told = []
    while found:
        head, _, found = found.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 100:
            length = int(re.search(rb"content-length: (\d+)", head)[1])
            told.append((status, json.loads(found[:length])))
            found = found[length:]
    return told


CLOSE = "connection: close"


def test_however_a_request_arrives_it_is_answered_alike(server, row):
    body = json.dumps({**row, "key": "k"}).encode()
    last, more = request(body, CLOSE), request(body)
    head = len(last) - len(body)
    ways = {
        "as a whole": (last,),
        "head and body": (last[:head], last[head:]),
        "in pieces": (last[:30], last[30 : head + 5], last[head + 5 :]),
        "an old client": (request(body, version="1.0"),),
        "100-continue": (request(body, CLOSE, "expect: 100-continue"),),
        "three at once": (more + more + last,),
        "one and a half": (more + last[: head + 3], last[head + 3 :]),
    }
    before = server.metric("evergreen_requests_total")
    found = {way: answers(server.raw(*parts)) for way, parts in ways.items()}
    assert [len(told) for told in found.values()] == [1, 1, 1, 1, 1, 3, 2]
    told = [answer for several in found.values() for answer in several]
    assert server.metric("evergreen_requests_total") == before + len(told)
    ids = {answer.pop("request_id") for _, answer in told}
    assert len(ids) == len(told) == len({r["request_id"] for r in read(server.folder)} & ids)
    assert told == [(200, told[0][1])] * len(told)


def test_what_is_wrong_is_refused_alike(server, row):
    wrong = {
        415: request(json.dumps(row).encode(), CLOSE, "content-type: text/plain"),
        422: request(b"{}", CLOSE),
        400: request(b"{", CLOSE),
    }
    for status, whole in wrong.items():
        ((found, answer),) = answers(server.raw(whole))
        assert (found, set(answer)) == (status, {"error", "path"})
        assert answers(server.raw(whole[:-1], whole[-1:])) == [(status, answer)]


def test_a_client_that_leaves_early_takes_nobody_along(server, row):
    body = json.dumps(row).encode()
    for sent in (request(body), request(body)[:-5], request(body) * 3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
            linger = struct.pack("ii", 1, 0)  # a reset in place of a farewell
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert answers(server.raw(request(body, CLOSE)))[0][0] == 200


def test_a_model_that_hangs_is_given_up(bento, row, tmp_path):
    """Its requests get the base rate, and the process begins anew with the model left alone."""
    with serving(bento, tmp_path) as server:
        body = json.dumps({**row, "price": 13}).encode()
        counted = observe._counters("blue", [server.metrics()], 0)
        began = time.monotonic()
        ((status, answer),) = answers(server.raw(request(body)))
        assert (status, answer["degraded"]) == (200, True)
        assert time.monotonic() - began >= SECONDS
        wait_for(server.is_up)
        assert server.process.poll() is None, "the same process, for whoever watches over it"
        assert server.metric("evergreen_model_hangs_total") == 1
        now = observe._counters("blue", [server.metrics()], 0)
        assert now.started != counted.started, "a canary sees that it began anew"
        again = requests.post(f"{server.url}/predict", json=row, timeout=10).json()
        assert again["degraded"] and server.metric("evergreen_breaker_open") == 1
    assert [record["degraded"] for record in read(tmp_path)] == [True, True]
