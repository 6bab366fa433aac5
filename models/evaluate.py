"""How good every candidate is on the untouched holdout: metrics, curves, pictures."""

import argparse
import json
from collections.abc import Mapping
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
from models.candidates import XGBOOST
from models.quality import Quality, measure

CURVE_POINTS = 200
NOT_SCORES = (KEY, "day", "label")


def evaluate(label: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, Quality]:
    """Metrics of each candidate's probabilities (n,) for labels (n,)."""
    return {name: measure(label, values) for name, values in scores.items()}


def flat_metrics(qualities: Mapping[str, Quality]) -> dict[str, float]:
    """`xgboost.roc_auc` and so on, without those that are not defined."""
    return {
        f"{name}.{metric}": float(value)
        for name, quality in qualities.items()
        for metric, value in asdict(quality).items()
        if value is not None
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


def figures(label: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """The pictures of a training run, candidates side by side."""
    wanted = {
        "roc": ("roc", "fpr", "tpr", "false positive rate", "true positive rate"),
        "precision_recall": ("pr", "recall", "precision", "recall", "precision"),
        "calibration": ("calibration", "predicted", "observed", "predicted", "observed"),
    }
    points = {name: curves(label, values) for name, values in scores.items()}
    return {name: _curve_figure(points, *parts) for name, parts in wanted.items()}


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


def main() -> None:
    """The DVC stage: metrics and curves of the holdout's scores."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--holdout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    table = pd.read_parquet(arguments.holdout)
    label = table["label"].to_numpy()
    scores = {n: table[n].to_numpy() for n in table.columns if n not in NOT_SCORES}
    qualities = evaluate(label, scores)
    arguments.out.mkdir(parents=True, exist_ok=True)
    metrics = {name: asdict(quality) for name, quality in qualities.items()}
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    for name, points in curves(label, scores[XGBOOST]).items():
        (arguments.out / f"{name}.json").write_text(json.dumps(points))
    for name, quality in qualities.items():
        print(f"{name}: ROC-AUC {quality.roc_auc:.4f}, log loss {quality.log_loss:.4f}")


if __name__ == "__main__":
    stop_on_error(main)
