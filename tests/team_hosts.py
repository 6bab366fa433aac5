"""What the team tests run in processes of their own: each one is a host with a home of its own."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from data.errors import EvergreenError
from data.postgres import Postgres
from models.ledger import Act
from models.registry import Registry
from models.shared_ledger import SharedLedger
from models.tracking import Tracking

ACT = Act(datetime(2024, 3, 4, 5, 6, tzinfo=UTC), "a test", "because", "none")


def open_registry(url: str, home: Path, name: str) -> Registry:
    """The registry of a model as this host sees it."""
    home.mkdir(parents=True, exist_ok=True)
    tracking = Tracking(
        url.replace("postgresql", "postgresql+psycopg2") + "_mlflow", home / "artifacts", name
    )
    ledger = SharedLedger(home / f"{name}.jsonl", Postgres(url), name)
    return Registry(tracking, home / "no.lock", ledger)


def race(url: str, home: Path, name: str, numbers: list[str], expected: str, start, said) -> None:
    """Promote each version in a thread of its own when all are ready; `said` hears of it."""
    registry = open_registry(url, home, name)
    versions = {number: registry.get(number) for number in numbers}

    def promote(number: str) -> None:
        start.wait(120)
        try:
            registry.promote(versions[number], expected, ACT)
        except EvergreenError as error:
            said.put((number, str(error)))
        else:
            said.put((number, "won"))

    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(promote, numbers))


def hold(url: str, home: Path, name: str, held) -> None:
    """Take the promotion lock and keep it for ever."""
    with open_registry(url, home, name).ledger.held(home / "no.lock"):
        held.set()
        signal.pause()


def die_after_the_line(url: str, home: Path, name: str, number: str, expected: str) -> None:
    """Promote, and be killed -9 when the line is in the ledger and no alias has moved."""
    registry = open_registry(url, home, name)
    Registry._keep_head = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    registry.promote(registry.get(number), expected, ACT)
