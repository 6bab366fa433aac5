"""Two slots and a gateway under a supervisord of their own, and clients that ask all the time."""

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bento import client
from bento.slots import Serving, programs
from data.errors import EvergreenError


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


def golden(folder: Path) -> tuple[list[dict], list[float]]:
    value = json.loads((folder / "golden.json").read_text())
    return value["rows"], value["probabilities"]


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
        with requests.Session() as session:
            session.trust_env = False
            while not self.stopped.is_set():
                headers = {} if kept else {"connection": "close"}
                if users is not None:
                    headers["x-user-id"] = f"user-{next(users) % 500}"
                try:
                    reply = session.post(self.url, json=next(rows), headers=headers, timeout=10)
                    reply.raise_for_status()
                    self.seen[reply.json()["model_version"]] += 1
                except requests.RequestException as error:
                    self.failures.append(repr(error))
                time.sleep(0.01)


@contextmanager
def running_stack(serving: Serving, folder: Path, checkout: Path) -> Iterator[Stack]:
    """supervisord with the programs of `serving`; its files are in `folder`."""
    (folder / "s.conf").write_text(
        f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n\n"
        f"[unix_http_server]\nfile={serving.supervisor_socket}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
        + programs(serving, checkout)
    )
    running = Stack(serving, supervisord(folder))
    try:
        wait_for(lambda: answers(serving.url))
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
