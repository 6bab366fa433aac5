"""XGBoost with the workers of a Dask cluster: each holds its share of the rows.

The model is not that of one machine to the bit: each worker draws its own rows (`subsample`), and
cuts and sums are put together from theirs. It is as good, within the tolerance of docs/scaling.md,
and the same for the same workers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

from data import spread
from data.errors import EvergreenError
from data.features import Feature
from data.matrix import Part, Past
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.spread import Spread
from data.task import Task
from models.boosting import boosted, stand_ins
from models.calibrate import Calibration
from models.candidates import Settings, absent
from models.fitted import Boosted, Fitted

if TYPE_CHECKING:
    from distributed import Client

ATTEMPTS = 3
POLLS = 6


@dataclass(frozen=True)
class Cluster:
    """What the engine dask asks of a cluster.

    Attributes:
        labels: of the periods that were counted.
        turn: one training at a time, so that workers hold the rows of one.
    """

    client: "Client"
    labels: dict[Period, np.ndarray] = field(default_factory=dict)
    turn: Any = field(default_factory=Lock)

    def count(
        self, problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
    ) -> Past:
        past, labels = spread.count(self.client, problem, partitions, periods, as_of)
        self.labels.update(labels)
        return past

    def rows(
        self, past: Past, fitted: tuple[Feature, ...], periods: Iterable[Period] | None
    ) -> Spread:
        chosen = sorted(past.periods if periods is None else periods)
        return Spread(self.client, past, fitted, tuple(chosen), self.labels)

    def boost(self, task: Task, seen: Spread, settings: Settings, seed: int) -> Boosted:
        """The model of rows that the workers hold; made again if one of them is lost on the way.

        Raises:
            EvergreenError: if that happens again and again.
        """
        with self.turn:
            for attempt in range(1, ATTEMPTS + 1):
                before = set(spread.workers(self.client))
                try:
                    return _boost(self.client, task, seen, settings, seed)
                except Exception as error:
                    lost = self._lost(before)
                    if not lost:
                        raise
                    print(f"training lost the worker {', '.join(lost)}: attempt {attempt}")
                    last = error
        raise EvergreenError(
            f"training lost a Dask worker {ATTEMPTS} times, the last was {', '.join(lost)}: look "
            "at its log; most often its memory is used up: give the cluster more workers"
        ) from last

    def _lost(self, before: set[str]) -> list[str]:
        """Which of these workers are gone; the others' errors may come before the news of it."""
        for _ in range(POLLS):
            if lost := before - set(spread.workers(self.client)):
                return sorted(lost)
            sleep(0.5)
        return []

    def predict(
        self, model: Fitted, calibration: Calibration, rows: Spread, task: Task
    ) -> np.ndarray:
        sent = self.client.submit(spread.same, model, pure=False)
        return np.concatenate(list(rows.answers(_answer, sent, calibration, task)))


def _answer(part: Part, model: Fitted, calibration: Calibration, task: Task) -> np.ndarray:
    return calibration.predict(model, part[0], task)


def _boost(client: "Client", task: Task, seen: Spread, settings: Settings, seed: int) -> Boosted:
    from xgboost import dask

    missing = absent(task, seen.label)
    values, label, weight = _arrays(client, seen, missing)
    rows = dask.DaskQuantileDMatrix(client, values, label, weight=weight)

    def train(options: dict[str, object], rounds: int) -> xgboost.Booster:
        found = dask.train(client, options, rows, rounds)
        booster: xgboost.Booster = found["booster"]
        return booster

    return boosted(task, settings, seed, train)


def _arrays(client: "Client", seen: Spread, missing: np.ndarray) -> tuple[Any, Any, Any]:
    """Features, labels and weights as Dask's arrays, each part where it was placed."""
    from dask import array

    width, columns = len(seen.features), tuple[list[Any], ...]([] for _ in range(3))
    lengths = iter([len(seen.labels[period]) for period in seen.periods])
    kinds = [((width,), np.float32), ((), seen.label.dtype), ((), np.float64)]
    parts = [(place, part) for place, own in seen.placed().items() for part in own]
    for turn, (place, part) in enumerate(parts):
        here = {"workers": [place], "allow_other_workers": True, "pure": False}
        extra = missing if turn == len(parts) - 1 else missing[:0]
        weighted = client.submit(_weighted, part, extra, **here)
        rows = next(lengths) + len(extra)
        for at, (column, (shape, kind)) in enumerate(zip(columns, kinds, strict=True)):
            one = client.submit(itemgetter(at), weighted, **here)
            column.append(
                array.from_delayed(one, (rows, *shape), kind)  # type: ignore[no-untyped-call]
            )
    values, label, weight = (
        array.concatenate(each)  # type: ignore[no-untyped-call]
        for each in columns
    )
    return values, label, weight if len(missing) else None


def _weighted(part: Part, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part with weights, and with a row of next to no weight for each class that is missing."""
    values, label = part
    weight = np.ones(len(label))
    if not len(missing):
        return values, label, weight
    added, classes, little = stand_ins(values, missing)
    return np.vstack([values, added]), np.append(label, classes), np.append(weight, little)
