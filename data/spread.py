"""The past with the workers of a Dask cluster: they read partitions, count, and make features.

A worker holds the checkout's code and sees `data/raw` under the same path. Only what is small comes
back: each period's counts, its labels (a byte a row), a sample. Counts are not added up on the way:
folds need those of each period, and added in the order of the periods they make the same encoders
as on one machine, to the bit.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import features, matrix, windows
from data.digests import digest_of, sha256_file
from data.errors import EvergreenError
from data.features import Feature
from data.matrix import Matrix, Part, Past, stride
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as Given

    Future = Given[Any]

CLUSTER = "EVERGREEN_DASK"
CODE = (features, matrix, windows)
AHEAD = 4  # parts for each worker that are on their way here
LIMIT = "30s"
# After this a connection is given up. Dask's own half a minute is over before a very busy machine
# answers, and a client that was given up waits for its tasks for ever.
PATIENCE = {"distributed.comm.timeouts.tcp": "10m"}


@contextmanager
def opened(address: str) -> "Iterator[Client]":
    """A client of the scheduler at `address`, or of processes of this machine, one a core.

    Raises:
        EvergreenError: if none answers there, its workers run other code, or one task after the
            other kills them.
    """
    from dask import config
    from distributed import KilledWorker

    try:
        with config.set(PATIENCE), _local() if not address else _remote(address) as client:
            yield client
    except KilledWorker as error:
        raise EvergreenError(
            f"Dask's workers were lost again and again: {error} Most often their memory is used "
            "up: give them more, or make periods shorter"
        ) from error


@contextmanager
def _local() -> "Iterator[Client]":
    from distributed import Client, LocalCluster

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


@contextmanager
def _remote(address: str) -> "Iterator[Client]":
    from distributed import Client

    try:
        client = Client(address, timeout=LIMIT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise EvergreenError(
            f"{CLUSTER}: no Dask scheduler answers at {address} ({error}): start one with "
            "`dask scheduler` and workers, or unset it for processes of this machine"
        ) from error
    with client:
        _refuse_other_code(client)
        yield client


def _refuse_other_code(client: "Client") -> None:
    own = code()
    for worker, found in client.run(code).items():
        if found != own:
            raise EvergreenError(
                f"{CLUSTER}: the worker {worker} makes features with other code than this "
                "checkout: start it from the same commit"
            )


def code() -> str:
    """What makes features here."""
    return digest_of([sha256_file(Path(str(module.__file__))) for module in CODE])


def workers(client: "Client") -> list[str]:
    """The addresses of the workers, in the order of their names.

    Raises:
        EvergreenError: if there is none.
    """
    scheduler: Any = client.scheduler
    known: Mapping[str, Any] = client.sync(scheduler.identity)["workers"]  # type: ignore[no-untyped-call]
    if not known:
        raise EvergreenError("the Dask cluster has no worker: start one, then run again")
    return sorted(known, key=lambda address: str(known[address]["id"]))


def count(
    client: "Client",
    problem: Problem,
    partitions: Partitions,
    periods: Iterable[Period],
    as_of: datetime,
) -> tuple[Past, dict[Period, np.ndarray]]:
    """`matrix.count` by the workers, and the labels of each period."""
    chosen, labels = sorted(periods), {}
    made = [
        client.submit(matrix.counted, problem, partitions, period, as_of, pure=False)
        for period in chosen
    ]

    def found() -> Iterator[tuple[Period, features.Counts, int]]:
        for period in chosen:
            counts, missing, labels[period] = made.pop(0).result()
            yield period, counts, missing

    return matrix.gathered(problem, partitions, as_of, found()), labels


@dataclass(frozen=True)
class Spread:
    """Rows of some periods, made by the workers when they are asked for; see `matrix.Learned`.

    Attributes:
        labels: of each period.
    """

    client: "Client"
    past: Past
    features: tuple[Feature, ...]
    periods: tuple[Period, ...]
    labels: Mapping[Period, np.ndarray]

    def __len__(self) -> int:
        return sum(len(self.labels[period]) for period in self.periods)

    @property
    def label(self) -> np.ndarray:
        return np.concatenate([self.labels[period] for period in self.periods])

    def sample(self, limit: int) -> Part:
        step, first, calls = max(stride(len(self), limit), 1), 0, []
        for period in self.periods:
            calls.append((period, (every, -first % step, step)))
            first += len(self.labels[period])
        values, label = zip(*self._in_order(calls), strict=True)
        return np.concatenate(values), np.concatenate(label)

    def whole(self) -> Matrix:
        parts = self._in_order([(period, ()) for period in self.periods])
        return self.past.assembled(self.periods, parts, len(self.features))

    def sums(self) -> list[str]:
        names = [period.name for period in self.periods]
        known = {"features": features.to_json(self.features), "periods": names}
        return [digest_of(known), sha256(self.label.data).hexdigest()]

    def placed(self) -> "dict[str, list[Future]]":
        """Worker -> its parts in order: neighbouring periods, about as many rows for each."""
        places, shared = workers(self.client), self.shared()
        share, first = max(len(self), 1) / len(places), 0
        found: dict[str, list[Future]] = {}
        for period in self.periods:
            place = places[int(first / share)]
            future = self.submit(shared, period, (), workers=[place], allow_other_workers=True)
            found.setdefault(place, []).append(future)
            first += len(self.labels[period])
        return found

    def shared(self) -> "Future":
        """What every part is made with, sent once."""
        made_with = (self.past.problem, self.past.partitions, self.past.as_of, self.features)
        return self.client.submit(same, made_with, pure=False)

    def submit(self, shared: "Future", period: Period, then: Sequence[Any], **how: Any) -> "Future":
        """A period's part at a worker, and there what `then`, a function and more, makes of it."""
        rows = len(self.labels[period])
        return self.client.submit(_made, shared, period, rows, *then, pure=False, **how)

    def answers(self, call: Any, *given: Any) -> Iterator[Any]:
        """`call(part, *given)` of every period's part, at the workers."""
        return self._in_order([(period, (call, *given)) for period in self.periods])

    def _in_order(self, calls: Sequence[tuple[Period, Sequence[Any]]]) -> Iterator[Any]:
        """What is made of each period's part; few are on their way at a time."""
        shared, ahead = self.shared(), AHEAD * len(workers(self.client))
        waiting: list[Future] = []
        for period, then in calls:
            waiting.append(self.submit(shared, period, then))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def same(value: Any) -> Any:
    """What is given; a task of its own, so that a worker that is lost takes nothing with it."""
    return value


def _made(shared: Any, period: Period, rows: int, call: Any = None, *given: Any) -> Any:
    problem, partitions, as_of, fitted = shared
    found = matrix.part(problem, partitions, as_of, fitted, period, rows)
    return call(found, *given) if call else found


def every(part: Part, first: int, step: int) -> Part:
    """Every so many rows of a part."""
    values, label = part
    return np.ascontiguousarray(values[first::step]), label[first::step]
