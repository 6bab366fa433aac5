"""What the team tests run in processes of their own: each one is a host with a home of its own."""

import os
import signal
from pathlib import Path

from data import keepalive
from data.errors import EvergreenError
from data.postgres import Postgres
from models.registry import Registry
from models.shared_ledger import SharedLedger
from models.tracking import Tracking
from tests.models.promoters import ACT, promote_together
from tests.networks import Host

SILENCE = 3


def open_registry(url: str, home: Path, name: str, host: Host = Host()) -> Registry:  # noqa: B008
    """The registry of a model as this host sees it."""
    home.mkdir(parents=True, exist_ok=True)
    url = url.replace("127.0.0.1", host.server)
    patience = "&".join(f"{key}={value}" for key, value in keepalive.client(SILENCE).items())
    mlflow = f"{url.replace('postgresql', 'postgresql+psycopg2')}_mlflow?{patience}"
    ledger = SharedLedger(home / f"{name}.jsonl", Postgres(url, silence=SILENCE), name)
    return Registry(Tracking(mlflow, home / "artifacts", name), home / "no.lock", ledger)


def race(
    url: str, home: Path, name: str, host: Host, numbers: list[str], expected: str, start, said
) -> None:
    """What one host of a race does."""
    host.enter()
    registry = open_registry(url, home, name, host)
    promote_together(dict.fromkeys(numbers, registry), expected, start, said)


def hang(url: str, home: Path, name: str, idle: float, held) -> None:
    """Take the promotion lock and do nothing more."""
    with open_registry(url, home, name).ledger.held(home / "no.lock", idle=idle):
        held.set()
        signal.pause()


def promote_slowly(
    url: str, home: Path, name: str, host: Host, number: str, after_the_line: bool, ready, go, said
) -> None:
    """Promote over version 1, and wait before the line is written, or before MLflow hears of it."""
    host.enter()
    registry = open_registry(url, home, name, host)
    keep = Registry._keep_head

    def wait(*_) -> bool:
        ready.set()
        return go.wait(60)

    if after_the_line:
        Registry._keep_head = lambda self, entry: wait() and keep(self, entry)
    try:
        how = {} if after_the_line else {"still_owner": wait}
        registry.promote(registry.get(number), "1", ACT, **how)
    except EvergreenError as error:
        said.put(str(error))
    else:
        said.put("won")


def die_after_the_line(url: str, home: Path, name: str, number: str, expected: str) -> None:
    """Promote, and be killed -9 when the line is in the ledger and no alias has moved."""
    registry = open_registry(url, home, name)
    Registry._keep_head = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    registry.promote(registry.get(number), expected, ACT)
