"""How good every candidate is: on the untouched holdout, and period by period before it.

Intervals are over bootstrapped days, since the rows of a day go wrong together.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import stop_on_error
from data.params import Decision, Params, load_params
from data.task import Task
from models.bootstrap import Interval, auc_draws, interval_of, mean_draws
from models.candidates import CANDIDATES, CHALLENGER, CHAMPION
from models.figures import curves
from models.quality import measure, ranking

METRICS = ("roc_auc", "log_loss")
HEADLINES = ("pr_auc", "brier", "accuracy", "f1", "r2", "rmse", "mae", "calibration_error")


def flat(found: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A summary as `xgboost.roc_auc` and so on, without metrics that are not defined."""
    metrics: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            metrics |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            metrics[prefix + name] = float(value)
    return metrics


def summary(
    holdout: pd.DataFrame, rolling: pd.DataFrame, params: Params, task: Task
) -> dict[str, Any]:
    """All metrics by name: of each candidate on the holdout, of the decision, and before it.

    Args:
        holdout: day, label and each candidate's answers (`Task.put`).
        rolling: the same with `period`, see `models.rolling.scores`; may be empty.
    """
    label = holdout["label"].to_numpy()
    found: dict[str, Any] = {
        name: asdict(measure(label, task.take(holdout, name), task))
        for name in score_names(holdout, task)
    }
    found["interval"] = _bounds(intervals([holdout], CHALLENGER, params, task))
    if task.kind == "binary":
        found["decision"] = decision_costs(label, holdout[CHALLENGER].to_numpy(), params.decision)
    if len(rolling):
        parts = [part for _, part in rolling.groupby("period")]
        found["rolling"] = {
            name: _bounds(intervals(parts, name, params, task))
            for name in score_names(rolling, task)
        }
    return found


def headline(found: Mapping[str, Any]) -> dict[str, float | None]:
    """The few figures by which tries are told apart, all of the model that was taken.

    Args:
        found: as `summary` makes it.
    """
    own, before = found[CHALLENGER], found.get("rolling", {}).get(CHALLENGER, {})
    return {
        **found["interval"],
        **{name: own[name] for name in HEADLINES if name in own},
        **({"cost": found["decision"]["cost"]} if "decision" in found else {}),
        **{f"rolling_{name}": before[name] for name in METRICS if name in before},
    }


def score_names(table: pd.DataFrame, task: Task) -> list[str]:
    """The candidates whose answers a table holds, in its order."""
    known = {task.columns(name)[0]: name for name in (*CANDIDATES, CHALLENGER, CHAMPION)}
    return [known[column] for column in table.columns if column in known]


def intervals(
    parts: Sequence[pd.DataFrame], name: str, params: Params, task: Task
) -> dict[str, Interval | None]:
    """Mean over periods of ROC-AUC and log loss, with whole days drawn within each period.

    ROC-AUC is None where a period has one outcome only.
    """
    samples, confidence = params.gates.bootstrap_samples, params.gates.confidence
    draws: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    values: dict[str, list[float | None]] = {metric: [] for metric in METRICS}
    for place, part in enumerate(parts):
        label, score, day = part["label"].to_numpy(), task.take(part, name), part["day"].to_numpy()
        losses, seed = task.losses(label, score), params.train.seed + place
        values["roc_auc"].append(ranking(label, score, task))
        values["log_loss"].append(float(losses.mean()))
        if values["roc_auc"][-1] is not None:
            draws["roc_auc"].append(auc_draws(label, score, day, samples, seed, task))
        draws["log_loss"].append(mean_draws(losses, day, samples, seed))
    found: dict[str, Interval | None] = {}
    for metric, each in values.items():
        known = [value for value in each if value is not None]
        whole = len(known) == len(each)
        if not whole:
            found[metric] = None
            continue
        mean = np.mean(draws[metric], axis=0)
        found[metric] = interval_of(float(np.mean(known)), mean, confidence)
    return found


def _bounds(found: Mapping[str, Interval | None]) -> dict[str, float]:
    return {
        name: value
        for metric, interval in found.items()
        if interval is not None
        for name, value in (
            (metric, interval.value),
            (f"{metric}_low", interval.low),
            (f"{metric}_high", interval.high),
        )
    }


def by_period(rolling: pd.DataFrame, params: Params, task: Task) -> list[dict[str, Any]]:
    """One entry for each period and candidate: rows, and both metrics with their intervals."""
    if not len(rolling):
        return []
    return [
        {"period": period, "candidate": name, "rows": len(part)}
        | _bounds(intervals([part], name, params, task))
        for period, part in rolling.groupby("period")
        for name in score_names(rolling, task)
    ]


def decision_costs(label: np.ndarray, probability: np.ndarray, costs: Decision) -> dict[str, float]:
    """What decisions cost for each row at the stored threshold, and at the best one in hindsight.

    The threshold follows from the stated costs alone; the best one is for comparison, since it
    knows the outcomes. `never` and `always` are the costs of deciding without a model.
    """
    order = np.argsort(-probability, kind="stable")
    ranked, score = label[order] == 1, probability[order]
    false_positives = np.concatenate([[0], np.cumsum(~ranked)])
    false_negatives = ranked.sum() - np.concatenate([[0], np.cumsum(ranked)])
    positive, negative = costs.cost_false_positive, costs.cost_false_negative
    cost = (false_positives * positive + false_negatives * negative) / len(label)
    # a cut between equal probabilities is none
    cuts = np.flatnonzero(np.concatenate([[True], score[1:] < score[:-1], [True]]))
    best = int(cuts[np.argmin(cost[cuts])])
    threshold = positive / (positive + negative)
    return {
        "threshold": threshold,
        "cost": float(cost[int((score >= threshold).sum())]),
        "best_threshold": float(score[best - 1]) if best else 1.0,
        "best_cost": float(cost[best]),
        "never_cost": float(cost[0]),
        "always_cost": float(cost[-1]),
    }


def main() -> None:
    """The DVC stage: metrics and curves of the holdout's and the rolling evaluation's scores.

    `rolling.parquet` and `model` lie beside the holdout's file.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--holdout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    holdout = pd.read_parquet(arguments.holdout)
    rolling = pd.read_parquet(arguments.holdout.with_name("rolling.parquet"))
    contract = arguments.holdout.with_name("model") / "contract.json"
    task = Task.of_contract(json.loads(contract.read_text()))
    metrics = summary(holdout, rolling, params, task)
    periods = by_period(rolling, params, task)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (arguments.out / "headline.json").write_text(json.dumps(headline(metrics), indent=1))
    (arguments.out / "rolling.json").write_text(json.dumps(periods))
    label, challenger = holdout["label"].to_numpy(), task.take(holdout, CHALLENGER)
    for name, points in curves(label, challenger, task).items():
        (arguments.out / f"{name}.json").write_text(json.dumps(points))
    for name in score_names(holdout, task):
        found = metrics[name]
        auc = "undefined" if found["roc_auc"] is None else f"{found['roc_auc']:.4f}"
        print(f"{name}: {task.ranking} {auc}, {task.loss} {found['log_loss']:.4f}")


if __name__ == "__main__":
    stop_on_error(main)
