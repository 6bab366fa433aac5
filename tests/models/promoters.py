"""What the promotion tests run in processes of their own."""

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from mlflow.tracking import MlflowClient

from data.errors import EvergreenError
from models import ledger
from models.ledger import Act, Ledger
from models.registry import Registry
from models.tracking import Tracking

NOW = datetime(2024, 3, 4, 5, 6, tzinfo=UTC)
ACT = Act(NOW, "a test", "because", "none")


def open_registry(store: Path, name: str) -> Registry:
    where = Tracking(f"sqlite:///{store / 'mlflow.db'}", store / "artifacts", name)
    return Registry(where, store / f"{name}.lock", Ledger(store / f"{name}.jsonl"))


def race(store: Path, name: str, numbers: list[str], expected: str | None, start, said) -> None:
    """What one process of a race does."""
    promote_together({n: open_registry(store, name) for n in numbers}, expected, start, said)


def promote_together(registries: Mapping[str, Registry], expected: str | None, start, said) -> None:
    """Promote each version in a thread of its own when all are ready; `said` hears of it."""
    versions = {number: registry.get(number) for number, registry in registries.items()}

    def promote(number: str) -> None:
        start.wait(600)
        try:
            registries[number].promote(versions[number], expected, ACT)
        except EvergreenError as error:
            said.put((number, str(error)))
        else:
            said.put((number, "won"))

    with ThreadPoolExecutor(len(versions)) as pool:
        list(pool.map(promote, versions))


def promote_and_die(store: Path, name: str, number: str, expected: str | None, at: int) -> None:
    """Promote, and be killed -9 right before the `at`-th write of any kind.

    A line of the ledger is three writes: either half and the newline. Exit 0 if no write is left.
    """
    registry = open_registry(store, name)
    version = registry.get(number)
    left = iter(range(at))

    def step() -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(function):
        def call(*args, **kwargs):
            step()
            return function(*args, **kwargs)

        return call

    class Torn:
        """A file that writes the first half, and then the other."""

        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def write(self, data: bytes) -> None:
            for part in (data[: len(data) // 2], data[len(data) // 2 : -1], data[-1:]):
                step()
                self.file.write(part)

    real_open = Path.open

    def opened(self, mode="r", *args, **kwargs):
        file = real_open(self, mode, *args, **kwargs)
        return Torn(file) if "a" in mode and self.suffix == ".jsonl" else file

    Path.open = opened
    ledger.os.fsync = dying(os.fsync)
    for change in (
        "set_registered_model_tag",
        "set_model_version_tag",
        "set_registered_model_alias",
        "delete_registered_model_alias",
    ):
        setattr(MlflowClient, change, dying(getattr(MlflowClient, change)))
    registry.promote(version, expected, ACT)
