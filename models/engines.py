"""What trains on the past, by `train.engine`: memory, files, or the workers of a Dask cluster.

| engine | XGBoost's rows | equal to memory |
|---|---|---|
| memory | in this process | |
| external | in files, a batch at a time, see `models.boosting` | to the bit |
| dask | with the workers, see `models.cluster` | within a tolerance |

Encoders, windows and seeds are the same for all. Candidates that must have their rows in memory
learn from `sample_rows` of them, evenly spaced, unless the engine is memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from data import matrix, spread
from data.features import Feature
from data.matrix import BATCH, Learned, Past
from data.params import Train
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.spread import Spread
from data.task import Task
from models import boosting
from models.calibrate import Calibration
from models.candidates import CANDIDATES, XGBOOST, Settings
from models.cluster import Cluster
from models.fitted import Fitted


@dataclass(frozen=True)
class Given:
    """What a candidate is trained on: fitted features, rows of them, settings, a seed."""

    task: Task
    features: Sequence[Feature]
    seen: Learned
    settings: Settings
    seed: int


class Engine(Protocol):
    """One way to learn from rows and to answer many."""

    def count(
        self, problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
    ) -> Past:
        """The first pass over the past, see `data.matrix.count`."""

    def rows(
        self, past: Past, fitted: tuple[Feature, ...], periods: Iterable[Period] | None = None
    ) -> Learned:
        """The rows of these periods as fitted features; default: all."""

    def train(self, name: str, given: Given) -> Fitted:
        """A candidate's model."""

    def predict(
        self, model: Fitted, calibration: Calibration, rows: Learned, task: Task
    ) -> np.ndarray:
        """Calibrated answers to rows."""


@dataclass(frozen=True)
class Memory:
    """Everything in this process."""

    def count(
        self, problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
    ) -> Past:
        return matrix.count(problem, partitions, periods, as_of)

    def rows(
        self, past: Past, fitted: tuple[Feature, ...], periods: Iterable[Period] | None = None
    ) -> Learned:
        return past.matrix(fitted, periods)

    def train(self, name: str, given: Given) -> Fitted:
        seen = given.seen.whole()
        return _in_memory(name, given, seen.values, seen.label)

    def predict(
        self, model: Fitted, calibration: Calibration, rows: Learned, task: Task
    ) -> np.ndarray:
        return calibration.predict(model, rows.whole().values, task)


@dataclass(frozen=True)
class External(Memory):
    """The rows in files."""

    sample_rows: int

    def train(self, name: str, given: Given) -> Fitted:
        if name == XGBOOST and given.task.learnable(given.seen.label):
            return boosting.external(given.task, given.seen.whole(), given.settings, given.seed)
        return _in_memory(name, given, *given.seen.sample(self.sample_rows))

    def predict(
        self, model: Fitted, calibration: Calibration, rows: Learned, task: Task
    ) -> np.ndarray:
        found = rows.whole()
        return np.concatenate(
            [calibration.predict(model, found.values[some], task) for some in found.batches(BATCH)]
        )


@dataclass(frozen=True)
class Dask(Memory):
    """The rows with the workers of a cluster."""

    cluster: Cluster
    sample_rows: int

    def count(
        self, problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
    ) -> Past:
        return self.cluster.count(problem, partitions, periods, as_of)

    def rows(
        self, past: Past, fitted: tuple[Feature, ...], periods: Iterable[Period] | None = None
    ) -> Spread:
        return self.cluster.rows(past, fitted, periods)

    def train(self, name: str, given: Given) -> Fitted:
        seen = given.seen
        if name == XGBOOST and isinstance(seen, Spread) and given.task.learnable(seen.label):
            return self.cluster.boost(given.task, seen, given.settings, given.seed)
        return _in_memory(name, given, *seen.sample(self.sample_rows))

    def predict(
        self, model: Fitted, calibration: Calibration, rows: Learned, task: Task
    ) -> np.ndarray:
        assert isinstance(rows, Spread)
        return self.cluster.predict(model, calibration, rows, task)


MEMORY = Memory()


def _in_memory(name: str, given: Given, values: np.ndarray, label: np.ndarray) -> Fitted:
    return CANDIDATES[name].train(
        given.task, given.features, values, label, given.settings, given.seed
    )


@contextmanager
def opened(params: Train, cluster: str = "") -> Iterator[Engine]:
    """The engine of params.yaml.

    Args:
        cluster: address of a Dask scheduler; empty for processes of this machine.
    """
    if params.engine == "dask":
        with spread.opened(cluster) as client:
            yield Dask(Cluster(client), params.sample_rows)
    else:
        yield MEMORY if params.engine == "memory" else External(params.sample_rows)
