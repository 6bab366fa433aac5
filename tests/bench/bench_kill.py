"""kill -9 at random moments of a retrain: `python -m tests.bench.bench_kill --kills 100`.

A planted world with the whole stack up. Each turn has a seed of its own, so that there is a new
model to promote; its retrain is killed, with everything that it started, and then run again to its
end. A client asks the gateway all along. Of three turns one is killed at a random moment of the
time that a retrain takes, one of its second half, and one at a random moment of the second that
begins with its line in the ledger, where aliases move and traffic is switched.
Counted: requests that failed, turns after which `evergreen verify` complains, and turns that ended
neither in exactly one promotion nor in one refusal by the gates, which may find a seed's model bad.
A run that was over before its moment came counts as no kill.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests
import yaml
from rich.console import Console

from data.contracts import to_columns
from data.periods import Period
from models.artifact import to_requests
from models.ledger import Kind, Ledger
from tests import planted
from tests.conftest import fill
from tests.e2e.warm import Warm
from tests.e2e.world import GIT, World, make_world, processes_of

FIRST, AS_OF = "2024-W01", "2024-W09"
console = Console()


@dataclass
class Client:
    """Asks without a pause, one row after the other."""

    url: str
    rows: list[dict]
    answers: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for row in itertools.cycle(self.rows):
                if self.over.wait(0.02):
                    return
                try:
                    reply = session.post(self.url, json=row, timeout=30)
                    reply.raise_for_status()
                    answer = reply.json()
                    if answer["degraded"]:
                        self.failures.append("degraded")
                    self.answers[answer["model_version"]] += 1
                except requests.RequestException as error:
                    self.failures.append(repr(error)[:200])


def change(world: World, turn: int) -> None:
    """Another seed, committed: the next retrain makes a model that was never there."""
    path = world.checkout / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["train"]["seed"] = turn
    path.write_text(yaml.safe_dump(params))
    subprocess.run([*GIT, "-C", str(world.checkout), "commit", "-qam", f"seed {turn}"], check=True)


def killed(world: World, after: float, promoted: int | None = None) -> float | None:
    """Start a retrain and kill it with its children; the seconds it took if it was over.

    Args:
        after: seconds from its start on, or from when the ledger has more promotions than these.
    """
    began = time.monotonic()
    process = _begun(world)
    while promoted is not None and process.poll() is None and len(versions(world)) <= promoted:
        time.sleep(0.01)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
    return time.monotonic() - began


def _begun(world: World) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "retrain", "--as-of", AS_OF],
        cwd=world.checkout,
        env=world.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def must(world: World, *arguments: str) -> str:
    done = world.run(*arguments)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def versions(world: World, kind: Kind = Kind.PROMOTED) -> list[str]:
    entries = Ledger(world.home / "ledger.jsonl").read()
    return [entry.version for entry in entries if entry.kind is kind]


def where(world: World, before: int) -> str:
    """How far a killed run had come."""
    ledger = Ledger(world.home / "ledger.jsonl")
    if ledger.torn():
        return "in a ledger line"
    if len(versions(world)) == before:
        return "before the ledger"
    found = {check["name"]: check["ok"] for check in verify(world)}
    if not found["aliases"]:
        return "between ledger and aliases"
    return "after the switch" if found["traffic"] else "between aliases and switch"


def verify(world: World) -> list[dict]:
    return json.loads(world.run("verify", "--json").stdout)


def start(world: World) -> tuple[Client, float]:
    """The stack with a first champion; how long a retrain takes."""
    path = world.checkout / "params.yaml"
    params = yaml.safe_load(path.read_text())
    # a seed may make a model a little worse, or lean on one column; it is promoted all the same
    params["gates"] |= {"champion_margin": 0.5, "log_loss_margin": 1.0, "permutation_bound": 0.5}
    path.write_text(yaml.safe_dump(params))
    must(world, "up")
    fill(world.checkout / "data" / "raw", FIRST, AS_OF)
    change(world, 0)
    must(world, "retrain", "--as-of", AS_OF)
    change(world, 1)
    seconds = killed(world, after=600)
    if seconds is None or len(versions(world)) != 2:
        raise SystemExit("a retrain that nobody killed did not promote")
    batch = planted.prepare(planted.read(Period.parse("2024-W09")))
    rows = to_requests(to_columns(batch, planted.FIELDS), planted.FIELDS)
    return Client(f"{world.url('gateway')}/predict", rows), seconds


def turns(world: World, client: Client, seconds: float, kills: int, minutes: float) -> bool:
    """All turns; whether nothing was wrong after any of them."""
    places: Counter[str] = Counter()
    refused = 0
    wrong: list[str] = []
    turn, end = 1, time.monotonic() + 60 * minutes
    while places.total() < kills and time.monotonic() < end:
        turn += 1
        change(world, turn)
        before = versions(world)
        if turn % 3 == 0:
            took = killed(world, random.uniform(0, 1), len(before))
        else:
            took = killed(world, random.uniform(seconds / 2 if turn % 3 == 1 else 0, seconds))
        if took is None:
            places[where(world, len(before))] += 1
        seconds = took or seconds
        again = world.run("retrain", "--as-of", AS_OF)
        made = versions(world)[len(before) :]
        faults = [check["reason"] for check in verify(world) if not check["ok"]]
        gates = len(versions(world, Kind.REJECTED)) - refused
        refused += gates
        if again.returncode or len(made) + gates != 1:
            faults.append(f"promoted {made}, rerun says {again.stderr}")
        wrong += [f"turn {turn}: {fault}" for fault in faults]
        console.print(f"{places.total()} kills, {dict(places)}, wrong: {len(wrong)}", *faults)
    console.print(
        f"{places.total()} kills over a retrain of {seconds:.0f} s: {dict(places)}, "
        f"{refused} versions refused by gates\n"
        f"requests {client.answers.total()}, failed {len(client.failures)} {client.failures[:3]}\n"
        f"wrong after the rerun: {wrong or 'nothing'}"
    )
    return not (wrong or client.failures)


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of a retrain.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="Stop after so long.")
    parser.add_argument("--seed", type=int, default=20240101)
    given = parser.parse_args()
    random.seed(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="evergreen-kill-"))
    warm = Warm(folder)  # for what is not killed
    world = replace(make_world(folder), warm=warm)
    try:
        client, seconds = start(world)
        asking = threading.Thread(target=client.run)
        asking.start()
        try:
            good = turns(world, client, seconds, given.kills, given.minutes)
        finally:
            client.over.set()
            asking.join()
    finally:
        world.run("down")
        warm.close()
        for process in processes_of(world):
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()
