"""A study of one candidate's settings, under a budget, that goes on where it was stopped.

Trials are compared on the selection periods, each predicted from its past; one that is below the
median after a period is pruned. Each trial's choices depend on the seed and the trials before it
alone, so that a study that was killed and resumed ends as one that was not.

The seconds of the budget are the only thing that a slower machine changes: what they cut off is in
the study's counts, and a model is made again from the study that was recorded, not from a new one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock, Timeout
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from data import features
from data.digests import digest_of
from data.errors import EvergreenError
from data.params import Params
from data.task import Task
from models.candidates import CANDIDATES, Range
from models.rolling import PERIOD, Choice, Fold, mean_metric, scores

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
LIBRARIES = ("optuna", "scikit-learn", "xgboost")
STUDIES = "studies.db"
TUNED = "tuned"
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Trial:
    """One trial, for the record: `value` is its metric, or what it had when it was pruned."""

    number: int
    state: str
    settings: Mapping[str, Any]
    value: float | None


@dataclass(frozen=True)
class Study:
    """What a study came to; as JSON it makes the same model again.

    Attributes:
        key: digest of all that the trials depend on.
        settings: the best trial's.
        value: its metric, mean over the selection periods.
        trials: finished ones, of which `pruned` were pruned.
        stopped: what ended it, trials or seconds.
    """

    key: str
    kind: str
    settings: Mapping[str, Any]
    value: float
    trials: int
    pruned: int
    stopped: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> "Study":
        """A recorded study.

        Raises:
            EvergreenError: if the file is none.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise EvergreenError(f"{path} is no recorded study: {error}") from error


def say(done: int, trials: int, text: str) -> None:
    """Progress as a printed line."""
    print(f"trial {done} of {trials}: {text}")


def search(
    kind: str, made: Sequence[Fold], params: Params, folder: Path | None, report: Report = say
) -> tuple[Study, tuple[Trial, ...]]:
    """Look for better settings of a candidate than its defaults, which are the first trial.

    Args:
        made: the folds of the selection periods.
        folder: where studies are kept; without it this one is forgotten.
        report: called with finished trials, all trials and what the last one came to.

    Raises:
        EvergreenError: if another process is at it.
    """
    key = _key(kind, made, params)
    if folder is None:
        return _search(key, kind, made, params, InMemoryStorage(), report)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{key[:16]}.lock", timeout=0):
            storage = RDBStorage(
                f"sqlite:///{folder.absolute() / STUDIES}",
                engine_kwargs={"connect_args": {"timeout": 60}},
            )
            return _search(key, kind, made, params, storage, report)
    except Timeout as error:
        raise EvergreenError(
            "another process is tuning on the same data: wait until it is done"
        ) from error


def _key(kind: str, made: Sequence[Fold], params: Params) -> str:
    """All that a trial's value depends on; the budget may change without losing trials."""
    return digest_of(
        {
            "kind": kind,
            "defaults": CANDIDATES[kind].settings(params),
            "space": {n: asdict(r) for n, r in CANDIDATES[kind].space.items()},
            "metric": params.rolling.metric,
            "seed": params.train.seed,
            "folds": [_fold_digest(fold) for fold in made],
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
        }
    )


def _fold_digest(fold: Fold) -> str:
    own = [hashlib.sha256(array.data).hexdigest() for array in (fold.matrix, fold.label)]
    rows = [*fold.seen.sums(), *own]
    known = features.to_json(fold.features)
    return digest_of({"period": fold.period.name, "features": known, "rows": rows})


def _search(
    key: str, kind: str, made: Sequence[Fold], params: Params, storage: Any, report: Report
) -> tuple[Study, tuple[Trial, ...]]:
    budget, metric, seed = params.tune, params.rolling.metric, params.train.seed
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=key,
            direction="maximize",
            pruner=MedianPruner(n_startup_trials=5),
            load_if_exists=True,
        )
        _forget_killed(study)
        study.enqueue_trial(CANDIDATES[kind].settings(params), skip_if_exists=True)

        def ready(study: optuna.Study, _: FrozenTrial | None = None) -> int:
            """The sampler of the next trial, from how many there are; returns that number."""
            done = len(study.get_trials(deepcopy=False, states=DONE))
            study.sampler = TPESampler(seed=seed + done)
            return done

        def finished(study: optuna.Study, trial: FrozenTrial) -> None:
            report(ready(study), budget.trials, _said(trial, study, metric))

        if (left := budget.trials - ready(study)) > 0:
            objective = _objective(kind, made, params)
            study.optimize(objective, n_trials=left, timeout=budget.seconds, callbacks=[finished])
        return _result(key, kind, study, budget.trials)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _forget_killed(study: optuna.Study) -> None:
    """A trial that still runs is one of a process that was killed: the lock is ours."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.system_attrs.get("fixed_params"):
            study.enqueue_trial(trial.system_attrs["fixed_params"])


def _objective(kind: str, made: Sequence[Fold], params: Params) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        settings = _settings(trial, kind, params)
        values: list[float] = []
        for step, fold in enumerate(made):
            table = scores([fold], {kind: (kind, settings)}, params.train.seed)
            values.append(mean_metric(table, kind, params.rolling.metric, fold.task))
            trial.report(float(np.mean(values)), step)
            if step + 1 < len(made) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(values))

    return objective


def _settings(trial: optuna.Trial, kind: str, params: Params) -> dict[str, Any]:
    candidate = CANDIDATES[kind]
    drawn = {name: _suggest(trial, name, found) for name, found in candidate.space.items()}
    return {**candidate.settings(params), **drawn}


def _suggest(trial: optuna.Trial, name: str, found: Range) -> float:
    if isinstance(found.low, int) and isinstance(found.high, int):
        return trial.suggest_int(name, found.low, found.high, log=found.log)
    return trial.suggest_float(name, found.low, found.high, log=found.log)


def _said(trial: FrozenTrial, study: optuna.Study, metric: str) -> str:
    value = f"{metric} {abs(_value(trial) or 0):.4f}"
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = max(complete, key=lambda other: other.value or 0.0, default=None)
    return f"{trial.state.name.lower()}, {value}" + (
        f" (best {abs(best.value or 0):.4f} of trial {best.number})" if best else ""
    )


def _value(trial: FrozenTrial) -> float | None:
    if trial.value is not None:
        return float(trial.value)
    reported = trial.intermediate_values
    return float(reported[max(reported)]) if reported else None


def _result(
    key: str, kind: str, study: optuna.Study, wanted: int
) -> tuple[Study, tuple[Trial, ...]]:
    done = study.get_trials(deepcopy=False, states=DONE)
    complete = [trial for trial in done if trial.state is TrialState.COMPLETE]
    best = max(complete, key=lambda trial: trial.value or 0.0)
    found = Study(
        key=key,
        kind=kind,
        settings=dict(best.params),
        value=abs(float(best.value or 0.0)),
        trials=len(done),
        pruned=len(done) - len(complete),
        stopped="trials" if len(done) >= wanted else "seconds",
    )
    record = tuple(
        Trial(i, trial.state.name.lower(), dict(trial.params), _value(trial))
        for i, trial in enumerate(done)
    )
    return found, record


def accept(
    default: Choice, study: Study, table: pd.DataFrame, params: Params, task: Task
) -> Choice:
    """The tuned settings if they beat the defaults on periods that the study never saw.

    These are the calibration periods. The holdout stays untouched until the gates: a choice made
    there would make every figure of it too good.

    Args:
        table: the rolling scores of the calibration periods, the tuned model's in column `tuned`.
    """
    metric = params.rolling.metric
    old, new = (mean_metric(table, name, metric, task) for name in (default.kind, TUNED))
    where = f"{table[PERIOD].min()} to {table[PERIOD].max()}, which the study did not see"
    figures = f"{metric} {abs(new):.4f} against {abs(old):.4f} of the defaults on {where}"
    counted = f"{study.trials} trials, {study.pruned} pruned"
    if new > old:
        settings = {**default.settings, **study.settings}
        reason = f"{default.reason}; tuned ({counted}): {figures}"
        return Choice(default.kind, settings, True, reason)
    reason = f"{default.reason}; the defaults are taken, tuning ({counted}) came to {figures}"
    return replace(default, reason=reason)
