"""From matured rows to trained candidates; one function for DVC, Prefect and a shell."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from data import features, spread, windows
from data.errors import EvergreenError, stop_on_error
from data.matrix import Learned, Past
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.problem import Problem, load_problem
from data.task import Task
from data.windows import Windows
from models import artifact, calibrate, candidates, engines, rolling, tune
from models.artifact import Trained
from models.calibrate import Calibration
from models.candidates import CANDIDATES, CHALLENGER, Settings
from models.engines import MEMORY, Engine, Given
from models.fitted import Fitted
from models.profile import profile
from models.rolling import LABEL, PERIOD, Choice, Fold
from models.tune import TUNED, Report, Study, Trial, say


@dataclass(frozen=True)
class Tuning:
    """How a study is made, where params.yaml asks for one.

    Attributes:
        folder: where studies are kept, so that one that was stopped goes on.
        recorded: what a study came to that is not made again.
        report: told of every trial.
    """

    folder: Path | None = None
    recorded: Study | None = None
    report: Report = say


@dataclass(frozen=True)
class Chosen:
    """What the rolling-origin evaluation led to; `table` holds its scores."""

    choice: Choice
    study: Study | None
    trials: tuple[Trial, ...]
    table: pd.DataFrame
    calibration: Calibration


def train(
    problem: Problem,
    partitions: Partitions,
    params: Params,
    as_of: datetime,
    tuning: Tuning = Tuning(),
    cluster: str = "",
) -> Trained:
    """Choose on the past, train the choice on all of it, and score the untouched holdout.

    Args:
        cluster: for the engine dask, see `models.engines`.

    Raises:
        EvergreenError: if a period or its labels are missing, or all outcomes are the same.
    """
    found = windows.select(partitions, problem, as_of, params.train)
    with engines.opened(params.train, cluster) as engine:
        return _train(problem, partitions, params, found, tuning, engine)


def _train(
    problem: Problem,
    partitions: Partitions,
    params: Params,
    found: Windows,
    tuning: Tuning,
    engine: Engine,
) -> Trained:
    as_of = found.as_of
    past = engine.count(problem, partitions, found.train, as_of)
    held = windows.load(partitions, problem, list(found.holdout), as_of)
    candidates.check(params.candidates, problem.task)
    fitted = past.fit()
    seen = engine.rows(past, fitted)
    if not problem.task.learnable(seen.label):
        raise EvergreenError(
            f"training needs outcomes of {problem.target!r} that differ, but all {len(past)} rows "
            f"from {found.train[0]} to {found.train[-1]} have the same: check the labels"
        )
    task = problem.task.scaled(seen.label)
    chosen = choose(past, params, tuning, task, engine)
    models = _final(fitted, seen, chosen.choice, params, task, engine)
    unseen = out_of_fold_scores(past, chosen.choice, chosen.calibration, params, task, engine)
    held_matrix = features.transform(fitted, held.columns)
    scores = {name: model.predict(held_matrix) for name, model in models.items()}
    scores[CHALLENGER] = chosen.calibration.predict(models[CHALLENGER], held_matrix, task)
    return Trained(
        task=task,
        windows=found,
        features=fitted,
        choice=chosen.choice,
        study=chosen.study,
        trials=chosen.trials,
        model=models[CHALLENGER],
        calibration=chosen.calibration,
        base_rate=task.constant(seen.label).tolist(),
        threshold=decision_threshold(params) if task.kind == "binary" else None,
        reference=profile(past, fitted, seen.whole(), unseen, params.monitor.bins),
        fingerprint=windows.fingerprint(partitions, found.periods, as_of),
        train_rows=len(past),
        missing_labels=past.missing,
        holdout=held,
        holdout_scores=scores,
        rolling=chosen.table,
    )


def choose(
    past: Past, params: Params, tuning: Tuning, task: Task, engine: Engine = MEMORY
) -> Chosen:
    """Compare the candidates, tune the best if asked to, and calibrate what is taken."""
    found = rolling.origins(past.periods, params)
    made = rolling.folds(past, found.periods, task, engine)
    defaults: dict[str, tuple[str, Settings]] = {
        name: (name, CANDIDATES[name].settings(params)) for name in params.candidates
    }
    table = rolling.scores(made, defaults, params.train.seed)
    choice = rolling.choose(found, table, params, task)
    print(choice.reason)
    if not made:
        calibration = Calibration("none", reason=found.reason)
        return Chosen(choice, None, (), table, calibration)
    table = table.assign(**task.put(CHALLENGER, task.take(table, choice.kind)))
    later = table[PERIOD].isin([period.name for period in found.calibration])
    study: Study | None = None
    trials: tuple[Trial, ...] = ()
    if params.tune.enabled and CANDIDATES[choice.kind].space:
        study, trials = _study(choice, made[: len(found.selection)], params, tuning)
        tuned = {TUNED: (choice.kind, {**choice.settings, **study.settings})}
        tried = task.take(rolling.scores(made, tuned, params.train.seed), TUNED)
        both = table.assign(**task.put(TUNED, tried))[later]
        choice = tune.accept(choice, study, both, params, task)
        print(choice.reason)
        table = table.assign(**task.put(CHALLENGER, tried)) if choice.tuned else table
    rows = table[later]
    calibration = calibrate.decide(
        params.calibration.method,
        task.take(rows, CHALLENGER),
        rows[LABEL].to_numpy(),
        rows[PERIOD].to_numpy(),
        task,
    )
    print(f"calibration: {calibration.reason}")
    return Chosen(choice, study, trials, table, calibration)


def _study(
    choice: Choice, made: Sequence[Fold], params: Params, tuning: Tuning
) -> tuple[Study, tuple[Trial, ...]]:
    if tuning.recorded is None:
        return tune.search(choice.kind, made, params, tuning.folder, tuning.report)
    if tuning.recorded.kind != choice.kind:
        raise EvergreenError(
            f"the recorded study is of {tuning.recorded.kind}, but {choice.kind} was chosen: the "
            "data, the parameters or the code are not those of the record"
        )
    return tuning.recorded, ()


def _final(
    fitted: Sequence[features.Feature],
    seen: Learned,
    choice: Choice,
    params: Params,
    task: Task,
    engine: Engine,
) -> dict[str, Fitted]:
    """Every candidate with its defaults, and the challenger, trained on all training rows."""

    def one(kind: str, settings: Settings) -> Callable[[], Fitted]:
        given = Given(task, fitted, seen, settings, params.train.seed)
        return lambda: engine.train(kind, given)

    wanted: dict[str, Callable[[], Fitted]] = {
        name: one(name, CANDIDATES[name].settings(params)) for name in params.candidates
    }
    if choice.tuned:
        wanted[CHALLENGER] = one(choice.kind, choice.settings)
    # the longest first, so that the two at a time end together
    names = list(reversed(wanted))
    models = dict(zip(names, rolling.each([wanted[name] for name in names]), strict=True))
    models = {name: models[name] for name in wanted}
    return {CHALLENGER: models[choice.kind], **models}


def out_of_fold_scores(
    past: Past,
    choice: Choice,
    calibration: Calibration,
    params: Params,
    task: Task,
    engine: Engine = MEMORY,
) -> np.ndarray:
    """The answer to each training row, from a model that did not see its periods.

    The folds are blocks of consecutive periods; features are fitted anew for each.
    """
    blocks = min(params.train.out_of_fold_blocks, len(past.periods))
    parts = np.array_split(np.array(past.periods, dtype=object), blocks)

    def one(block: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: _left_out(past, set(block), choice, calibration, params, task, engine)

    return np.concatenate(rolling.each([one(block) for block in parts]))


def _left_out(
    past: Past,
    block: set[Period],
    choice: Choice,
    calibration: Calibration,
    params: Params,
    task: Task,
    engine: Engine,
) -> np.ndarray:
    rest = [period for period in past.periods if period not in block]
    fitted = past.fit(rest)
    seen = engine.rows(past, fitted, rest)
    model = engine.train(choice.kind, Given(task, fitted, seen, choice.settings, params.train.seed))
    return engine.predict(model, calibration, engine.rows(past, fitted, block), task)


def decision_threshold(params: Params) -> float:
    """Where a positive decision costs as much as a negative one (Elkan 2001, equation 2)."""
    positive, negative = params.decision.cost_false_positive, params.decision.cost_false_negative
    return positive / (positive + negative)


def main() -> None:
    """The DVC stage: train as of params.yaml and leave the artefact and the holdout's scores."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=Path, default=Path("var/tune"))
    parser.add_argument("--study", type=Path, help="a recorded study, which is not made again")
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem = load_problem(params.problem)
    as_of = parse_as_of(params.train.as_of, problem.label_delay)
    recorded = Study.load(arguments.study) if arguments.study else None
    tuning = Tuning(arguments.studies, recorded)
    cluster = os.environ.get(spread.CLUSTER, "")
    trained = train(problem, Partitions(arguments.raw), params, as_of, tuning, cluster)
    digest = artifact.write(trained, problem, params, arguments.out / "model")
    trained.holdout_table().to_parquet(arguments.out / "holdout.parquet", index=False)
    trained.rolling.to_parquet(arguments.out / "rolling.parquet", index=False)
    print(f"model {digest} from {trained.train_rows} rows as of {as_of:%Y-%m-%d %H:%M}")


if __name__ == "__main__":
    stop_on_error(main)
