"""The whole reference profile of a model: what its training periods looked like, and how it did."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from sklearn.isotonic import IsotonicRegression

from data import field_history, reference, windows
from data.contracts import to_columns
from data.features import Columns, Feature
from data.field_history import FieldHistory
from data.fields import Field
from data.matrix import Matrix, Past, stride
from data.problem import Problem
from data.reference import Reference
from data.relations import Gathered
from data.task import Task
from data.windows import Labelled
from models import slices, tally
from models.quality import CALIBRATION_BINS, measure

STEP_ROWS = 1_000_000  # a curve of one variable needs no more; they are sorted in memory
Steps = tuple[tuple[float, ...], tuple[float, ...]]


def profile(
    past: Past, fitted: Sequence[Feature], seen: Matrix, scores: np.ndarray, bins: int
) -> Reference:
    """The profile of the training rows, one period in memory at a time.

    Args:
        past: the periods; fitted: the model's features; seen: the rows as features.
        scores: out-of-fold answers to them; in-sample ones would be too confident.
    """
    names = [feature.name for feature in fitted]
    task = past.problem.task.scaled(seen.label)
    columns = chain(
        zip(names, seen.columns(), strict=True), task.put(reference.SCORE, scores).items()
    )
    found = reference.of_columns(columns, seen.periods, bins)
    parts = windows.stream(past.partitions, past.problem, past.periods, past.as_of)
    found = with_outcomes(found, past.problem, task, _scored(parts, scores), _raw(past))
    every = slice(None, None, stride(len(seen), STEP_ROWS))
    return replace(found, steps=steps(seen.label[every], scores[every], task))


def with_outcomes(
    found: Reference,
    problem: Problem,
    task: Task,
    parts: Iterable[tuple[Labelled, np.ndarray]],
    raw: Iterable[Columns],
) -> Reference:
    """Histograms, completed by how the scores did and by the raw fields.

    Args:
        parts: each period's labelled rows and their scores; raw: its raw columns; in order.
    """
    tallies, areas, days, labels = [], [], [], []
    for part, own in parts:
        labels.append(part.label)
        values = {name: slices.values(problem, name, part.columns) for name in problem.slices}
        tallies.append(tally.tally(part.label, own, values, task))
        areas.append(measure(part.label, own, task).roc_auc)
        days.append(tally.residuals(part.label, own, part.day, task))
    together = Gathered(problem.fields)
    return replace(
        found,
        fields=field_history.build(problem.fields, together.through(raw)),
        relations=together.relations(),
        outcome=outcomes(problem.target, labels) if task.kind == "regression" else None,
        slices=tally.history(tallies, areas),
        daily=tally.joined(days),
    )


def outcomes(name: str, labels: Iterable[np.ndarray]) -> FieldHistory:
    """What outcomes that are numbers looked like, period by period."""
    field = Field(name, "number", "")
    return field_history.build([field], ({name: label} for label in labels))[0]


def _scored(parts: Iterable[Labelled], scores: np.ndarray) -> Iterator[tuple[Labelled, np.ndarray]]:
    start = 0
    for part in parts:
        yield part, scores[start : start + len(part)]
        start += len(part)


def _raw(past: Past) -> Iterator[Columns]:
    """The raw columns of every period, of all its rows: labels come later than these."""
    for period in past.periods:
        yield to_columns(past.partitions.rows(period), past.problem.fields)


def steps(label: np.ndarray, scores: np.ndarray, task: Task) -> Steps:
    """What follows on out-of-fold scores, see `data.reference.Reference`."""
    if task.classes:
        return (), ()
    if task.kind == "regression":
        losses = task.losses(label, scores)
        parts = [p for p in np.array_split(np.argsort(scores, kind="stable"), CALIBRATION_BINS)
                 if len(p)]  # fmt: skip
        found = {float(scores[part].mean()): float(losses[part].mean()) for part in parts}
        ends = np.array(list(found)), np.array(list(found.values()))
    else:
        fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, label)
        ends = fitted.X_thresholds_, fitted.y_thresholds_
    x, y = (tuple(round(float(v), 6) for v in values) for values in ends)
    return x, y
