"""Releases, rollbacks and kills under load: `make bench-rollout`.

Clients on kept and on fresh connections ask the gateway without a pause, while two versions take
turns: every other turn deploys and switches, the one between goes back to what served. Slots are
killed (-9), the gateway is replaced once, supervisord is killed once. Counted are requests that got
no valid answer; measured are the slowest, how long a killed slot's requests waited, and how long it
was away.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bento import gateway, rollout
from bento.package import build
from bento.predictions import read
from tests.bento.conftest import make_artefact, make_columns, make_rows
from tests.serving_stack import (
    CHECKOUT,
    SMOKE,
    Stack,
    gateway_runs,
    golden,
    running,
    slot_process,
    supervisord,
    wait_for,
)

BACK_WITHIN, FAILOVER_WITHIN = 15.0, 0.5
console = Console(width=120)


@dataclass
class Clients:
    """Threads that ask; every other one on fresh connections."""

    url: str
    rows: list[dict]
    seen: Counter = field(default_factory=Counter)
    ids: set = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def start(self, count: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def ask(self, number: int) -> None:
        headers = {"connection": "close"} if number % 2 else {}
        picks = random.Random(number)
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.wait(0.002):
                began = time.monotonic()
                try:
                    row = picks.choice(self.rows)
                    reply = session.post(self.url, json=row, headers=headers, timeout=30)
                    reply.raise_for_status()
                    answer = reply.json()
                    self.seen[answer["model_version"]] += 1
                    self.ids.add(answer["request_id"])
                    if answer["degraded"]:
                        self.failures.append("degraded")
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}"[:200])
                self.times.append((began, time.monotonic()))

    def slowest(self, since: float) -> float:
        """Seconds of the slowest request that ended after a moment."""
        return max((end - began for began, end in list(self.times) if end >= since), default=0.0)


@dataclass
class Turns:
    """What happens to the stack, and what it took."""

    stack: Stack
    packages: dict
    goldens: dict
    clients: Clients
    failovers: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    switches: list[float] = field(default_factory=list)

    def release(self, version: str) -> None:
        serving = self.stack.serving
        slot = rollout.deploy(serving, self.packages[version], *self.goldens[version], **SMOKE)
        self._switch(slot)

    def back(self) -> None:
        self._switch(gateway.load(self.stack.serving).idle)

    def kill(self, slot: str) -> None:
        began = time.monotonic()
        slot_process(self.stack, slot).kill()
        wait_for(lambda: rollout.status(self.stack.serving).problem is None, 60)
        self.away.append(time.monotonic() - began)
        self.failovers.append(self.clients.slowest(began))

    def replace_gateway(self) -> None:
        gateway.reload(self.stack.serving)
        time.sleep(1)

    def kill_supervisord(self) -> None:
        self.stack.process.kill()
        self.stack.process.wait()
        self.stack.process = supervisord(self.stack.serving.folder)
        wait_for(lambda: gateway_runs(self.stack.serving), 30)
        rollout.resume(self.stack.serving)

    def _switch(self, slot: str) -> None:
        began = time.monotonic()
        rollout.switch(self.stack.serving, slot)
        self.switches.append(time.monotonic() - began)


def run(turns: Turns, count: int, kills: int) -> None:
    """All turns, with the kills and restarts spread over them."""
    killed = set(random.sample(range(count), kills))
    for turn in track(range(count), "turns", console=console):
        state = gateway.load(turns.stack.serving)
        if turn % 2:
            turns.back()
        else:
            other = "2" if state.slots[state.active].version == "1" else "1"
            turns.release(other)
        if turn == count // 3:
            turns.replace_gateway()
        if turn == 2 * count // 3:
            turns.kill_supervisord()
        if turn in killed:
            state = gateway.load(turns.stack.serving)
            turns.kill(random.choice([state.active, state.active, state.idle]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random.seed(given.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-rollout-")))
        artefacts = {v: make_artefact(folder / v, seed=int(v)) for v in ("1", "2")}
        packages = {
            v: build(a, name="parcels", version=v, store=folder / "store", checkout=CHECKOUT)
            for v, a in artefacts.items()
        }
        running_stack = stack.enter_context(running())
        clients = Clients(f"{running_stack.serving.url}/predict", make_rows(make_columns(500, 3)))
        goldens = {v: golden(a) for v, a in artefacts.items()}
        turns = Turns(running_stack, packages, goldens, clients)
        for version in ("2", "1"):
            turns.release(version)
        threads = clients.start(given.clients)
        try:
            run(turns, given.turns, given.kills)
        finally:
            clients.over.set()
            for thread in threads:
                thread.join()
        logged = {record["request_id"] for record in read(running_stack.serving.folder)}
    report(turns, given.turns, len(clients.ids - logged))


def report(turns: Turns, count: int, unlogged: int) -> None:
    """Print what was counted; exit 1 if a request or a record was lost."""
    clients = turns.clients
    table = Table("what", "found", "wanted")
    seen = ", ".join(f"{n:,} by version {v}" for v, n in sorted(clients.seen.items()))
    lost = len(clients.failures)
    rows = (
        ("requests sent", f"{len(clients.times):,} ({seen})", ""),
        ("without a valid answer", f"{lost}", "0"),
        ("acknowledged, but not in the prediction log", f"{unlogged}", "0"),
        ("slowest request", f"{clients.slowest(0):.2f} s", ""),
        ("releases and rollbacks", f"{count}", "100"),
        ("switch, median and slowest", _span(turns.switches), ""),
        ("kill -9 of slots", f"{len(turns.failovers)}", "20"),
        ("slowest request around a kill", _span(turns.failovers), f"{FAILOVER_WITHIN} s"),
        ("slot back after", _span(turns.away), f"{BACK_WITHIN:.0f} s"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for failure, times in Counter(clients.failures).most_common(5):
        console.print(f"{times} x {failure}")
    sys.exit(1 if lost or unlogged else 0)


def _span(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} s, {max(seconds):.2f} s"


if __name__ == "__main__":
    main()
