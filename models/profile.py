"""The whole reference profile of a model: what its training periods looked like, and how it did."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from sklearn.isotonic import IsotonicRegression

from data import field_history, reference, windows
from data.contracts import to_columns
from data.features import Columns, Feature
from data.matrix import Matrix, Past
from data.reference import Reference
from models import slices, tally
from models.quality import measure


def profile(
    past: Past, fitted: Sequence[Feature], seen: Matrix, scores: np.ndarray, bins: int
) -> Reference:
    """The profile of the training rows, one period in memory at a time.

    Args:
        past: the periods; fitted: the model's features; seen: the rows as features.
        scores: out-of-fold probabilities, shape (n,); in-sample ones would be too confident.
    """
    names = [feature.name for feature in fitted]
    if past.problem.task.kind != "binary":
        mean = scores.mean(axis=1) if scores.ndim == 2 else scores
        return reference.build(names, seen.values, mean, seen.period, bins)
    found = reference.build(names, seen.values, scores, seen.period, bins)
    problem, tallies, areas, days = past.problem, [], [], []
    parts = windows.stream(past.partitions, problem, past.periods, past.as_of)
    start = 0
    for part in parts:
        own, start = scores[start : start + len(part)], start + len(part)
        values = {name: slices.values(problem, name, part.columns) for name in problem.slices}
        tallies.append(tally.tally(part.label, own, values))
        areas.append(measure(part.label, own).roc_auc)
        days.append(tally.residuals(part.label, own, part.day))
    return replace(
        found,
        fields=field_history.build(problem.fields, _raw(past)),
        slices=tally.history(tallies, areas),
        daily=tally.joined(days),
        steps=_steps(scores, seen.label),
    )


def _raw(past: Past) -> Iterator[Columns]:
    """The raw columns of every period, of all its rows: labels come later than these."""
    for period in past.periods:
        yield to_columns(past.partitions.rows(period), past.problem.fields)


def _steps(scores: np.ndarray, label: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """An isotonic calibration of out-of-fold scores."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, label)
    ends = fitted.X_thresholds_, fitted.y_thresholds_
    x, y = (tuple(round(float(v), 6) for v in values) for values in ends)
    return x, y
