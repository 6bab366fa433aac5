"""The servers that are compared, each a process of its own on a free port of loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bento.prediction_log import slot_file
from data.errors import EvergreenError
from tests.bench.serving.load import tree

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """How to start one, and how it wants a list of rows.

    Attributes:
        command: `{port}` stands for the port.
        wrap: the key that the rows are sent under; a single row goes as a bare object without.
    """

    name: str
    command: Sequence[str]
    path: str
    wrap: str = ""
    cwd: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)

    def body(self, rows: Sequence[dict]) -> bytes:
        bare = rows[0] if len(rows) == 1 else list(rows)
        return json.dumps({self.wrap: list(rows)} if self.wrap else bare).encode()


@dataclass
class Running:
    server: Server
    process: subprocess.Popen[bytes]
    port: int
    cold_start: float

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}{self.server.path}"


def servers(folder: Path, bento: Path) -> list[Server]:
    """All that are compared; ours first.

    Args:
        folder: with `artefact` and the pipeline as an MLflow model in `mlflow`.
        bento: our unpacked bento.
    """
    uvicorn = [str(BIN / "uvicorn"), "--no-access-log", "--host", HOST, "--port", "{port}"]
    bentoml = [str(BIN / "bentoml"), "serve", "--host", HOST, "--port", "{port}"]
    mlflow = [str(BIN / "mlflow"), "models", "serve", "--env-manager", "local", "-m"]
    place = "tests.bench.serving"
    ours = [sys.executable, "-m", "bento.server", "--bento", str(bento), "--port", "{port}"]
    log = {"EVERGREEN_PREDICTION_LOG": str(slot_file(folder, "blue")), "PYTHONPATH": ""}
    return [
        Server("evergreen", ours, "/predict", cwd=bento / "src", environment=log),
        Server(
            "mlflow models serve",
            [*mlflow, str(folder / "mlflow"), "--host", HOST, "--port", "{port}"],
            "/invocations",
            wrap="dataframe_records",
        ),
        Server("FastAPI + pandas", [*uvicorn, f"{place}.peers:fastapi"], "/predict"),
        Server("naive BentoML", [*bentoml, f"{place}.peers:Naive"], "/predict", wrap="rows"),
        Server("no-op ASGI", [*uvicorn, f"{place}.floors:asgi"], "/"),
        Server("no-op BentoML", [*bentoml, f"{place}.floors:Nothing"], "/predict", wrap="rows"),
    ]


@contextmanager
def run(server: Server, folder: Path, body: bytes, patience: float = 120) -> Iterator[Running]:
    """A server from its start to its end.

    Raises:
        EvergreenError: if it does not answer this body with 200 in time.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    slug = server.name.replace(" ", "-").lower()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "BENCH_FOLDER": str(folder),
        "BENTOML_HOME": str(folder / f"home-{slug}"),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        **server.environment,
    }
    log = folder / f"{slug}.log"
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in server.command],
            cwd=server.cwd,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    running = Running(server, process, port, 0.0)
    try:
        while not _answers(running, body):
            if process.poll() is not None or time.perf_counter() - began > patience:
                end = log.read_text(errors="replace")[-2000:]
                raise EvergreenError(f"{server.name} does not answer; it printed\n{end}")
            time.sleep(0.01)
        running.cold_start = time.perf_counter() - began
        yield running
    finally:
        below = tree(process.pid) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        for child in below[1:]:
            if child.is_running():
                child.kill()


def _answers(running: Running, body: bytes) -> bool:
    headers = {"content-type": "application/json"}
    try:
        reply = requests.post(running.url, body, headers=headers, timeout=30)
    except requests.ConnectionError:
        return False
    if reply.status_code in (404, 502, 503):
        return False  # up, but not ready
    if reply.status_code != 200:
        raise EvergreenError(f"{running.server.name} answers {reply.status_code}: {reply.text}")
    return True
