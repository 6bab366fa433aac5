"""The pictures of a training run, and the points that `dvc plots` draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from data.task import CUTS, Task
from models.quality import calibration_points

CURVE_POINTS = 200
MEDIAN = CUTS.index(0.5)


def curves(label: np.ndarray, score: np.ndarray, task: Task) -> dict[str, list[dict[str, float]]]:
    """Points of the ROC, precision-recall and calibration curve, for `dvc plots`.

    The first two are of two outcomes: of several classes pooled, each against the rest; of numbers,
    above the median against at or below it.
    """
    event, told = label, score
    if task.kind == "multiclass":
        event, told = task.hot(label).ravel(), score.ravel()
    elif task.kind == "regression":
        event = task.events(label).get(MEDIAN, np.zeros(len(label)))
    fpr, tpr, _ = roc_curve(event, told)
    precision, recall, _ = precision_recall_curve(event, told)
    if task.kind == "regression":
        predicted, observed = np.array(calibration_points(label, score, task)).T
    else:
        observed, predicted = calibration_curve(event, told, n_bins=10, strategy="quantile")
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
    task: Task,
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
    points = {name: curves(label, values, task) for name, values in scores.items()}
    drawn = {name: _curve_figure(points, *parts) for name, parts in wanted.items()}
    drawn["importance"] = _importance_figure(importance)
    return {**drawn, "rolling": _rolling_figure(periods, task)} if periods else drawn


def _curve_figure(
    points: Mapping[str, Any], curve: str, x: str, y: str, x_label: str, y_label: str
) -> Figure:
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    for name, of_candidate in points.items():
        marker = "o" if curve == "calibration" else None
        xs, ys = ([point[axis] for point in of_candidate[curve]] for axis in (x, y))
        axes.plot(xs, ys, label=name, marker=marker)
    low, high = _ends(points, curve)
    if curve != "pr":
        axes.plot([low, high], [low, high], color="grey", linestyle=":")
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(low, high), ylim=(low, high))
    axes.legend()
    plt.close(figure)
    return figure


def _ends(points: Mapping[str, Any], curve: str) -> tuple[float, float]:
    """0 and 1, or as far as a regression's outcomes go."""
    values = [v for each in points.values() for point in each[curve] for v in point.values()]
    return min(0.0, *values), max(1.0, *values)


def _importance_figure(importance: Mapping[str, float]) -> Figure:
    ranked = sorted(importance.items(), key=lambda item: item[1])
    figure, axes = plt.subplots(figsize=(6, 0.25 * len(ranked) + 1), layout="constrained")
    axes.barh([name for name, _ in ranked], [value for _, value in ranked])
    axes.set(xlabel="share of total gain")
    plt.close(figure)
    return figure


def _rolling_figure(periods: Sequence[Mapping[str, Any]], task: Task) -> Figure:
    """Ranking by period, with its interval."""
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
    axes.set_ylabel(task.ranking)
    axes.legend()
    plt.close(figure)
    return figure
