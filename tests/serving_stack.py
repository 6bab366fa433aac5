"""Supervisord, gateway and two slots in a folder of their own, for tests and benchmarks."""

import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import urllib3

from bento import client, supervisor
from bento.contract import Contract
from bento.slots import Serving, programs
from data.errors import EvergreenError

CHECKOUT = Path(__file__).resolve().parents[1]
SMOKE = {"smoke_rows": 20, "tolerance": 1e-6}


@dataclass
class Stack:
    serving: Serving
    process: subprocess.Popen[bytes]


@contextmanager
def running(**outside: Any) -> Iterator[Stack]:
    """A stack whose gateway answers; `outside` is what `Serving` is told of it."""
    folder = Path(tempfile.mkdtemp(prefix="eg", dir="/tmp"))  # short: unix sockets live in it
    serving = Serving(folder, *free_ports(3), supervisor_socket=folder / "s.sock", **outside)
    try:
        with running_at(serving, folder) as stack:
            yield stack
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_at(serving: Serving, folder: Path, checkout: Path = CHECKOUT) -> Iterator[Stack]:
    """supervisord with the programs of `serving`; its files are in `folder`."""
    (folder / "s.conf").write_text(
        f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n\n"
        f"[unix_http_server]\nfile={serving.supervisor_socket}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
        + programs(serving, checkout)
    )
    stack = Stack(serving, supervisord(folder))
    try:
        wait_for(lambda: answers(serving))
        yield stack
    finally:
        stack.process.terminate()
        stack.process.wait(30)


def supervisord(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(folder / "s.conf")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def answers(serving: Serving) -> bool:
    """Whether the gateway does, whatever it says."""
    try:
        serving.door.get("/version")
    except EvergreenError:
        return False
    return True


def gateway_runs(serving: Serving) -> bool:
    """Whether supervisord itself has a running gateway."""
    try:
        return supervisor.state(serving.supervisor_socket, "gateway")[0] == "RUNNING"
    except EvergreenError:
        return False


def slot_process(stack: Stack, slot: str) -> psutil.Process:
    return psutil.Process(int((stack.serving.home(slot) / "pid").read_text()))


def golden(folder: Path) -> tuple[Contract, list[dict], list]:
    value = json.loads((folder / "golden.json").read_text())
    return Contract.load(folder), value["rows"], value["probabilities"]


def ask(serving: Serving, path: str, key: str | None = None, **headers: str) -> client.Reply:
    """GET as somebody else than the installation itself."""
    return client.Door(serving.url, key, serving.certificate).get(path, headers)


def certificate(path: Path, start: datetime, days: int, other_key: bool = False) -> Path:
    """A PEM with a self-signed certificate and its key, or somebody else's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "models.example.org")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(start).not_valid_after(start + timedelta(days=days))
    signed = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    private = (other if other_key else key).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    path.write_bytes(signed + private)
    return path


@dataclass
class Load:
    """Two clients that ask without a pause, one on a kept connection and one on fresh ones.

    With several rows these are asked in turn; then one client names a user each time.
    """

    url: str
    row: dict | list[dict]
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
        rows = itertools.cycle(self.row if isinstance(self.row, list) else [self.row])
        users = itertools.count() if isinstance(self.row, list) and kept else None
        with urllib3.PoolManager(
            retries=False, timeout=10
        ) as pool:  # a third less CPU than requests
            while not self.stopped.is_set():
                headers = {"content-type": "application/json"}
                if not kept:
                    headers["connection"] = "close"
                if users is not None:
                    headers["x-user-id"] = f"user-{next(users) % 500}"
                try:
                    reply = pool.request("POST", self.url, json=next(rows), headers=headers)
                    answer = reply.json()
                    if reply.status == 200:
                        self.seen[answer["model_version"]] += 1
                    else:
                        self.failures.append(f"{reply.status}: {answer}")
                except (urllib3.exceptions.HTTPError, ValueError) as error:
                    self.failures.append(repr(error))
                time.sleep(0.01)
