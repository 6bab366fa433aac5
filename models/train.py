"""From matured rows to trained candidates; one function for DVC, Prefect and a shell."""

import argparse
from datetime import datetime
from pathlib import Path

import numpy as np

from data import features, matrix, reference, windows
from data.errors import EvergreenError, stop_on_error
from data.matrix import Past
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import parse_as_of
from data.problem import Problem, load_problem
from models import artifact
from models.artifact import Trained
from models.candidates import BASE_RATE, LOGISTIC, XGBOOST, fit_logistic, fit_xgboost


def train(problem: Problem, partitions: Partitions, params: Params, as_of: datetime) -> Trained:
    """Train every candidate on what was known at `as_of` and score the held-out periods.

    Raises:
        EvergreenError: if a period or its labels are missing, or one class is absent.
    """
    chosen = windows.select(partitions, problem, as_of, params.train)
    past = matrix.count(problem, partitions, chosen.train, as_of)
    held = windows.load(partitions, problem, list(chosen.holdout), as_of)
    if not 0 < past.positive < len(past):
        raise EvergreenError(
            f"training needs both outcomes of {problem.target!r}, but all {len(past)} rows "
            f"from {chosen.train[0]} to {chosen.train[-1]} have the same: check the labels"
        )
    fitted = past.fit()
    seen = past.matrix(fitted)
    held_matrix = features.transform(fitted, held.columns)
    model = fit_xgboost(seen.values, seen.label, params)
    base_rate = past.positive / len(past)
    linear = fit_logistic(fitted, seen.values, seen.label, params)
    return Trained(
        windows=chosen,
        features=fitted,
        model=model,
        base_rate=base_rate,
        threshold=decision_threshold(params),
        reference=reference.build(
            [feature.name for feature in fitted],
            seen.values,
            out_of_fold_scores(past, params),
            seen.period,
            params.monitor.bins,
        ),
        fingerprint=windows.fingerprint(partitions, chosen.periods, as_of),
        train_rows=len(past),
        missing_labels=past.missing,
        holdout=held,
        holdout_scores={
            BASE_RATE: np.full(len(held), base_rate),
            LOGISTIC: linear.predict_proba(held_matrix)[:, 1],
            XGBOOST: model.predict_proba(held_matrix)[:, 1].astype(np.float64),
        },
    )


def out_of_fold_scores(past: Past, params: Params) -> np.ndarray:
    """Probability of each training row, shape (n,), from a model that did not see its periods.

    The folds are blocks of consecutive periods; features are fitted anew for each.
    """
    scores, blocks = [], min(params.train.out_of_fold_blocks, len(past.periods))
    for block in np.array_split(np.array(past.periods, dtype=object), blocks):
        out = set(block)
        rest = [period for period in past.periods if period not in out]
        fitted = past.fit(rest)
        seen, left_out = past.matrix(fitted, rest), past.matrix(fitted, block)
        model = fit_xgboost(seen.values, seen.label, params)
        scores.append(model.predict_proba(left_out.values)[:, 1])
    return np.concatenate(scores).astype(np.float64)


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
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem = load_problem(params.problem)
    as_of = parse_as_of(params.train.as_of, problem.label_delay)
    trained = train(problem, Partitions(arguments.raw), params, as_of)
    digest = artifact.write(trained, problem, params, arguments.out / "model")
    trained.holdout_table().to_parquet(arguments.out / "holdout.parquet", index=False)
    print(f"model {digest} from {trained.train_rows} rows as of {as_of:%Y-%m-%d %H:%M}")


if __name__ == "__main__":
    stop_on_error(main)
