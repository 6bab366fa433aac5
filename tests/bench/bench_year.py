"""How well the default model ranks, month by month: `python -m tests.bench.bench_year`.

Two models in one run: one that learns from the first quarter and never again, and one that learns
from all the past at the start of each month. Each is scored on the month that follows, which it has
not seen. The base rate's log loss is the floor.
"""

import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data import features
from data.features import Feature
from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period
from data.task import BINARY
from data.windows import Labelled, load
from models.candidates import CANDIDATES, XGBOOST
from models.fitted import Fitted
from models.quality import measure

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
Model = tuple[tuple[Feature, ...], Fitted]


def fit(rows: Labelled) -> Model:
    fitted = features.fit(PROBLEM.features, rows.columns, rows.label)
    matrix = features.transform(fitted, rows.columns)
    default, seed = CANDIDATES[XGBOOST], PARAMS.train.seed
    return fitted, default.train(
        PROBLEM.task, fitted, matrix, rows.label, default.settings(PARAMS), seed
    )


def score(model: Model, rows: Labelled) -> np.ndarray:
    fitted, booster = model
    return booster.predict(features.transform(fitted, rows.columns))


def between(year: Labelled, start: datetime, end: datetime) -> Labelled:
    days = year.day
    return year.take((days >= np.datetime64(start)) & (days < np.datetime64(end)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        partitions = Partitions(Path(folder))
        periods = [Period.parse(name) for name in PROBLEM.periods()]
        for period in periods:
            ingest(PROBLEM, partitions, period, deliver(PROBLEM, period))
        year = load(partitions, PROBLEM, periods, datetime(2014, 2, 1))
    starts = [datetime(2013, month, 1) for month in range(1, 13)] + [datetime(2014, 1, 1)]
    frozen = fit(between(year, starts[0], starts[3]))
    table = Table("month", "rows", "frozen AUC", "retrained AUC", "log loss", "retrained", "floor")
    found = []
    for start, end in pairwise(starts[3:]):
        past, month = between(year, starts[0], start), between(year, start, end)
        old, new = score(frozen, month), score(fit(past), month)
        floor = BINARY.losses(month.label, np.full(len(month), past.label.mean())).mean()
        both = measure(month.label, old, BINARY), measure(month.label, new, BINARY)
        row = [both[0].roc_auc, both[1].roc_auc, both[0].log_loss, both[1].log_loss, floor]
        found.append(row)
        table.add_row(f"{start:%Y-%m}", f"{len(month):,}", *(f"{value:.4f}" for value in row))
    table.add_row("mean", "", *(f"{value:.4f}" for value in np.mean(found, axis=0)))
    Console().print(table)


if __name__ == "__main__":
    main()
