"""XGBoost on rows that lie in memory, or come from a file a batch at a time: the same model.

Equal to the bit, since one thread adds up the same numbers in the same order: the quantile sketch
takes the batches as if they were one, every histogram is added to page by page, and rows are drawn
from all of them. What is in memory for each row is its gradient, its place and its margin, about
30 bytes, whatever the features.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xgboost

from data.matrix import BATCH, Matrix
from data.task import Task
from models.candidates import ABSENT, Settings, absent, estimator
from models.fitted import Boosted

Batch = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def boosted(
    task: Task,
    settings: Settings,
    seed: int,
    train: Callable[[dict[str, object], int], xgboost.Booster],
) -> Boosted:
    """The model that `train` makes of XGBoost's own parameters and a number of rounds."""
    model = estimator(task, settings, seed)
    options = model.get_xgb_params()
    if task.classes:
        options |= {"objective": "multi:softprob", "num_class": len(task.classes)}
    booster = train(options, model.get_num_boosting_rounds())
    model.load_model(booster.save_raw("json"))
    return Boosted(task, model)


def external(task: Task, seen: Matrix, settings: Settings, seed: int) -> Boosted:
    """The model of rows that stay in files; needs about 4 bytes a cell below TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="evergreen-pages-") as folder:
        batches = _Batches(lambda: parts(task, seen), Path(folder) / "rows")

        def train(options: dict[str, object], rounds: int) -> xgboost.Booster:
            rows = xgboost.ExtMemQuantileDMatrix(batches, nthread=1)
            return xgboost.train(options, rows, rounds)

        return boosted(task, settings, seed, train)


def parts(task: Task, seen: Matrix) -> Iterator[Batch]:
    """Features, labels and weights, a batch at a time; at last a row of each class without one."""
    missing = absent(task, seen.label)
    for some in seen.batches(BATCH):
        weight = np.ones(some.stop - some.start) if len(missing) else None
        yield seen.values[some], seen.label[some], weight
    if len(missing):
        yield stand_ins(seen.values, missing)


def stand_ins(values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row of next to no weight for each class that has none; the first row lends its values."""
    return np.repeat(values[:1], len(missing), axis=0), missing, np.full(len(missing), ABSENT)


class _Batches(xgboost.DataIter):
    """What XGBoost asks for a batch, several times over; its own pages lie at `place`."""

    def __init__(self, begin: Callable[[], Iterator[Batch]], place: Path) -> None:
        self.begin, self.left = begin, begin()
        super().__init__(cache_prefix=str(place))

    def reset(self) -> None:
        self.left = self.begin()

    def next(self, input_data: Callable[..., None]) -> bool:
        found = next(self.left, None)
        if found is not None:
            values, label, weight = found
            input_data(data=values, label=label, weight=weight)
        return found is not None
