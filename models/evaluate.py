"""How good every candidate is: on the untouched holdout, and period by period before it.

Intervals are over bootstrapped days, since the rows of a day go wrong together.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from data.contracts import KEY
from data.errors import stop_on_error
from data.params import Decision, Params, load_params
from models.bootstrap import Interval, auc_draws, interval_of, mean_draws
from models.candidates import CHALLENGER
from models.quality import Quality, log_losses, measure

CURVE_POINTS = 200
NOT_SCORES = (KEY, "period", "day", "label")
METRICS = ("roc_auc", "log_loss")


def evaluate(label: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, Quality]:
    """Metrics of each candidate's probabilities (n,) for labels (n,)."""
    return {name: measure(label, values) for name, values in scores.items()}


def flat(found: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A summary as `xgboost.roc_auc` and so on, without metrics that are not defined."""
    metrics: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            metrics |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            metrics[prefix + name] = float(value)
    return metrics


def summary(holdout: pd.DataFrame, rolling: pd.DataFrame, params: Params) -> dict[str, Any]:
    """All metrics by name: of each candidate on the holdout, of the decision, and before it.

    Args:
        holdout: day, label and a column of probabilities for each candidate.
        rolling: the same with `period`, see `models.rolling.scores`; may be empty.
    """
    label, names = holdout["label"].to_numpy(), score_names(holdout)
    qualities = evaluate(label, {name: holdout[name].to_numpy() for name in names})
    found: dict[str, Any] = {name: asdict(quality) for name, quality in qualities.items()}
    found["interval"] = _bounds(intervals([holdout], CHALLENGER, params))
    found["decision"] = decision_costs(label, holdout[CHALLENGER].to_numpy(), params.decision)
    if len(rolling):
        parts = [part for _, part in rolling.groupby("period")]
        found["rolling"] = {
            name: _bounds(intervals(parts, name, params)) for name in score_names(rolling)
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
        **{name: own[name] for name in ("pr_auc", "brier", "calibration_error")},
        "cost": found["decision"]["cost"],
        **{f"rolling_{name}": before[name] for name in METRICS if name in before},
    }


def score_names(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name not in NOT_SCORES]


def intervals(
    parts: Sequence[pd.DataFrame], name: str, params: Params
) -> dict[str, Interval | None]:
    """Mean over periods of ROC-AUC and log loss, with whole days drawn within each period.

    ROC-AUC is None where a period has one outcome only.
    """
    samples, confidence = params.gates.bootstrap_samples, params.gates.confidence
    draws: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    values: dict[str, list[float | None]] = {metric: [] for metric in METRICS}
    for place, part in enumerate(parts):
        label, score, day = (part[column].to_numpy() for column in ("label", name, "day"))
        losses, seed = log_losses(label, score), params.train.seed + place
        values["roc_auc"].append(measure(label, score).roc_auc)
        values["log_loss"].append(float(losses.mean()))
        draws["roc_auc"].append(auc_draws(label, score, day, samples, seed))
        draws["log_loss"].append(mean_draws(losses, day, samples, seed))
    found: dict[str, Interval | None] = {}
    for metric, each in values.items():
        known = [value for value in each if value is not None]
        whole = len(known) == len(each)
        mean = np.mean(draws[metric], axis=0)
        found[metric] = interval_of(float(np.mean(known)), mean, confidence) if whole else None
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


def by_period(rolling: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """One entry for each period and candidate: rows, and both metrics with their intervals."""
    if not len(rolling):
        return []
    return [
        {"period": period, "candidate": name, "rows": len(part)}
        | _bounds(intervals([part], name, params))
        for period, part in rolling.groupby("period")
        for name in score_names(rolling)
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


def curves(label: np.ndarray, probability: np.ndarray) -> dict[str, list[dict[str, float]]]:
    """Points of the ROC, precision-recall and calibration curve, for `dvc plots`."""
    fpr, tpr, _ = roc_curve(label, probability)
    precision, recall, _ = precision_recall_curve(label, probability)
    observed, predicted = calibration_curve(label, probability, n_bins=10, strategy="quantile")
    return {
        "roc": _points(fpr=fpr, tpr=tpr),
        "pr": _points(recall=recall, precision=precision),
        "calibration": _points(predicted=predicted, observed=observed),
    }


def _points(**axes: np.ndarray) -> list[dict[str, float]]:
    size = len(next(iter(axes.values())))
    places = np.unique(np.linspace(0, size - 1, min(size, CURVE_POINTS)).astype(int))
    return [{name: float(values[i]) for name, values in axes.items()} for i in places]


def figures(
    label: np.ndarray,
    scores: Mapping[str, np.ndarray],
    importance: Mapping[str, float],
    periods: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Figure]:
    """The pictures of a training run; candidates side by side, the model's own importance.

    Args:
        periods: as `by_period` makes them.
    """
    wanted = {
        "roc": ("roc", "fpr", "tpr", "false positive rate", "true positive rate"),
        "precision_recall": ("pr", "recall", "precision", "recall", "precision"),
        "calibration": ("calibration", "predicted", "observed", "predicted", "observed"),
    }
    points = {name: curves(label, values) for name, values in scores.items()}
    drawn = {name: _curve_figure(points, *parts) for name, parts in wanted.items()}
    drawn["importance"] = _importance_figure(importance)
    return {**drawn, "rolling": _rolling_figure(periods)} if periods else drawn


def _curve_figure(
    points: Mapping[str, Any], curve: str, x: str, y: str, x_label: str, y_label: str
) -> Figure:
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    for name, of_candidate in points.items():
        marker = "o" if curve == "calibration" else None
        xs, ys = ([point[axis] for point in of_candidate[curve]] for axis in (x, y))
        axes.plot(xs, ys, label=name, marker=marker)
    if curve != "pr":
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    plt.close(figure)
    return figure


def _importance_figure(importance: Mapping[str, float]) -> Figure:
    ranked = sorted(importance.items(), key=lambda item: item[1])
    figure, axes = plt.subplots(figsize=(6, 0.25 * len(ranked) + 1), layout="constrained")
    axes.barh([name for name, _ in ranked], [value for _, value in ranked])
    axes.set(xlabel="share of total gain")
    plt.close(figure)
    return figure


def _rolling_figure(periods: Sequence[Mapping[str, Any]]) -> Figure:
    """ROC-AUC by period, with its interval."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    known = [entry for entry in periods if "roc_auc" in entry]
    for place, name in enumerate(dict.fromkeys(entry["candidate"] for entry in known)):
        own = [entry for entry in known if entry["candidate"] == name]
        centre = [entry["roc_auc"] for entry in own]
        spread = [
            [entry["roc_auc"] - entry["roc_auc_low"] for entry in own],
            [entry["roc_auc_high"] - entry["roc_auc"] for entry in own],
        ]
        xs = [i + 0.08 * place for i in range(len(own))]
        axes.errorbar(xs, centre, np.clip(spread, 0, None), fmt="o", capsize=3, label=name)
    names = list(dict.fromkeys(entry["period"] for entry in known))
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("ROC-AUC")
    axes.legend()
    plt.close(figure)
    return figure


def main() -> None:
    """The DVC stage: metrics and curves of the holdout's and the rolling evaluation's scores.

    `rolling.parquet` lies beside the holdout's file.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--holdout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    holdout = pd.read_parquet(arguments.holdout)
    rolling = pd.read_parquet(arguments.holdout.with_name("rolling.parquet"))
    metrics, periods = summary(holdout, rolling, params), by_period(rolling, params)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (arguments.out / "headline.json").write_text(json.dumps(headline(metrics), indent=1))
    (arguments.out / "rolling.json").write_text(json.dumps(periods))
    label, challenger = holdout["label"].to_numpy(), holdout[CHALLENGER].to_numpy()
    for name, points in curves(label, challenger).items():
        (arguments.out / f"{name}.json").write_text(json.dumps(points))
    for name in score_names(holdout):
        found = metrics[name]
        auc = "undefined" if found["roc_auc"] is None else f"{found['roc_auc']:.4f}"
        print(f"{name}: ROC-AUC {auc}, log loss {found['log_loss']:.4f}")


if __name__ == "__main__":
    stop_on_error(main)
