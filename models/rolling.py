"""Rolling-origin evaluation: each of the last training periods, predicted from those before it.

The windows of one training run, in order of time:

| window | who looks at it |
|---|---|
| first training periods | everybody |
| selection periods | candidates are compared, and trials of a study |
| calibration periods | tuned settings against the defaults, then the calibration |
| holdout | nobody before the gates; the model that is judged there is trained on all the others |

Rows come in order of time; labels are those known at `as_of`, for every origin alike.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from data import features, windows
from data.features import Feature
from data.matrix import Learned, Past
from data.params import Params
from data.periods import Period
from data.task import Task
from models.bootstrap import auc_draws, mean_draws
from models.candidates import BASE_RATE, CANDIDATES, Settings, linear_name
from models.engines import MEMORY, Engine, Given
from models.quality import ranking

T = TypeVar("T")
PERIOD, DAY, LABEL = "period", "day", "label"


@dataclass(frozen=True)
class Origins:
    """The periods that are predicted from their past; none if the past is too short."""

    selection: tuple[Period, ...]
    calibration: tuple[Period, ...]
    reason: str

    @property
    def periods(self) -> tuple[Period, ...]:
        return (*self.selection, *self.calibration)


@dataclass(frozen=True)
class Fold:
    """One origin: the periods before it to learn from, and its own rows to predict.

    Attributes:
        features: fitted on `seen` alone.
        matrix, label, day: of the period, shapes (n, features), (n,) and (n,).
    """

    task: Task
    period: Period
    features: tuple[Feature, ...]
    seen: Learned
    matrix: np.ndarray
    label: np.ndarray
    day: np.ndarray
    engine: Engine

    def predict(self, name: str, settings: Settings, seed: int) -> np.ndarray:
        """A candidate's answers for the period."""
        given = Given(self.task, self.features, self.seen, settings, seed)
        return self.engine.train(name, given).predict(self.matrix)


@dataclass(frozen=True)
class Choice:
    """Which kind of model with which settings is trained, and why.

    Attributes:
        tuned: whether the settings come from a study and not from params.yaml.
    """

    kind: str
    settings: Mapping[str, Any]
    tuned: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def origins(train: Sequence[Period], params: Params) -> Origins:
    """The last training periods as origins: for the selection, then for the calibration."""
    selection, calibration = params.rolling.selection_periods, params.calibration.periods
    needed = params.rolling.minimum_periods + selection + calibration
    if len(train) < needed:
        reason = f"{len(train)} training periods, {needed} needed to compare"
        return Origins((), (), reason)
    last = tuple(train[-selection - calibration :])
    reason = f"from the periods before each of {last[0]} to {last[selection - 1]}"
    return Origins(last[:selection], last[selection:], reason)


def folds(past: Past, periods: Sequence[Period], task: Task, engine: Engine = MEMORY) -> list[Fold]:
    """What was known before each period, and the period itself."""
    return [_fold(past, period, task, engine) for period in periods]


def _fold(past: Past, period: Period, task: Task, engine: Engine) -> Fold:
    before = [other for other in past.periods if other < period]
    fitted = past.fit(before)
    rows = windows.load(past.partitions, past.problem, [period], past.as_of)
    matrix = features.transform(fitted, rows.columns)
    seen = engine.rows(past, fitted, before)
    return Fold(task, period, fitted, seen, matrix, rows.label, rows.day, engine)


def scores(
    made: Sequence[Fold], candidates: Mapping[str, tuple[str, Settings]], seed: int
) -> pd.DataFrame:
    """Period, day and label of every fold's rows, and each candidate's answers (`Task.put`).

    Args:
        candidates: column -> kind of model and its settings.
    """

    def one(fold: Fold, kind: str, settings: Settings) -> Callable[[], np.ndarray]:
        return lambda: fold.predict(kind, settings, seed)

    found = iter(each([one(f, *candidate) for f in made for candidate in candidates.values()]))
    parts = [
        pd.DataFrame(
            {PERIOD: fold.period.name, DAY: fold.day, LABEL: fold.label}
            | {
                column: values
                for name in candidates
                for column, values in fold.task.put(name, next(found)).items()
            }
        )
        for fold in made
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def each(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Their results, in order; two at a time: a fit uses one thread and leaves Python free."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: call(), calls))


def mean_metric(table: pd.DataFrame, name: str, metric: str, task: Task) -> float:
    """The metric's mean over the periods, larger is better; one outcome alone counts as chance."""
    return float(np.mean([_metric(part, name, metric, task) for _, part in table.groupby(PERIOD)]))


def _metric(part: pd.DataFrame, name: str, metric: str, task: Task) -> float:
    label, score = part[LABEL].to_numpy(), task.take(part, name)
    if metric == "log_loss":
        return -float(task.losses(label, score).mean())
    found = ranking(label, score, task)
    return 0.5 if found is None else found


def choose(found: Origins, table: pd.DataFrame, params: Params, task: Task) -> Choice:
    """The candidate with the best mean metric over the selection periods; ties go to the simpler.

    What is best by no more than one standard error is so by chance as likely as not, and the linear
    candidate is taken in its place (Breiman et al. 1984).

    Args:
        table: as `scores` makes it.
    """
    names, metric = params.candidates, params.rolling.metric
    if not found.selection:
        last = CANDIDATES[names[-1]]
        reason = f"{last.name} is the last of the candidates, and {found.reason}"
        return Choice(last.name, last.settings(params), False, reason)
    rows = table[table[PERIOD].isin([period.name for period in found.selection])]
    means = {name: mean_metric(rows, name, metric, task) for name in names}
    best, plain = max(names, key=lambda name: means[name]), linear_name(task)
    reason = f"{best} has the best {metric}"
    if plain in names and best not in (BASE_RATE, plain):
        error = standard_error(rows, best, plain, params, task)
        if means[best] - means[plain] <= error:
            near = f"within one standard error ({error:.4f}) of its"
            reason = f"{plain} is simpler than {best} and {near} {metric}"
            best = plain
    said = ", ".join(f"{name} {abs(value):.4f}" for name, value in means.items())
    reason = f"{reason} predicted {found.reason}: {said}"
    return Choice(best, CANDIDATES[best].settings(params), False, reason)


def standard_error(table: pd.DataFrame, one: str, other: str, params: Params, task: Task) -> float:
    """That of the difference of two candidates' `mean_metric`, over days drawn again."""
    draws = [
        _draws(part, one, params, task) - _draws(part, other, params, task)
        for _, part in table.groupby(PERIOD)
    ]
    return float(np.std(np.mean(draws, axis=0)))


def _draws(part: pd.DataFrame, name: str, params: Params, task: Task) -> np.ndarray:
    """One period's metric, of days drawn again and again, shape (samples,)."""
    label, score, day = part[LABEL].to_numpy(), task.take(part, name), part[DAY].to_numpy()
    how = params.gates.bootstrap_samples, params.train.seed
    if params.rolling.metric == "log_loss":
        return -mean_draws(task.losses(label, score), day, *how)
    if not task.learnable(label):
        return np.full(how[0], 0.5)
    return auc_draws(label, score, day, *how, task)
