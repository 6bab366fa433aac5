"""What a problem has to say about itself. A new problem is one such value and params.yaml."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd

from data.errors import EvergreenError
from data.features import Feature
from data.fields import Field
from data.periods import Frequency, Period
from data.task import BINARY, Task


@dataclass(frozen=True)
class RowRule:
    """A rule over several fields of one row.

    Attributes:
        name: what holds, as it stands beside a quarantined row.
        columns: the fields that it reads.
        holds: rows in the contract's types -> one truth value for each; a row without a value to
            compare holds.
    """

    name: str
    columns: tuple[str, ...]
    holds: Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Problem:
    """A problem whose data arrives in periods: rows, an outcome for each, and what to predict.

    Attributes:
        name: a short slug; registered model and endpoint carry it.
        frequency: how long a period is.
        event_time: the timestamp field that says when the decision is due, in the problem's clock.
        fields: every raw field of a request, known at the moment of decision.
        features: what the model sees, declared over `fields`.
        target: what is predicted: the positive class, or the name of the class or number; also in
            the endpoint's answer.
        task: two outcomes, one of several classes, or a number.
        label_delay: time from the event until its label is known.
        slices: text fields, or features that are a calendar part, by whose values quality is
            watched.
        periods: names of the periods that the source can deliver, in order.
        read: period -> batch as the source delivers it, outcomes included.
        prepare: batch -> `key` and `fields`, one row for each event in the batch's order; joins
            happen here. In the source's own form cells of another type are missing already, and
            what needs them is missing, too.
        outcomes: batch -> columns `key`, `label` (0 or 1, the name of a class, a number; or
            missing) and `excluded` (why an event has no label ever, or missing); None where the
            batch has no outcomes.
        read_file: a batch that came as a file, in the form that `read` has; None where the columns
            of a file are those of the fields.
        row_rules: rules over several fields; a row that breaks one goes to quarantine.
        source: the columns of the source's own form that `prepare` reads; empty if the source
            delivers `key` and `fields`.
        source_rules: row rules over these columns.
        source_outcomes: the columns that tell what became of an event, and others that the source
            may deliver and nobody reads; none of them is ever a field.
        description, intended_use, limits: what the model card says, in sentences.
    """

    name: str
    frequency: Frequency
    event_time: str
    fields: tuple[Field, ...]
    features: tuple[Feature, ...]
    target: str
    label_delay: timedelta
    slices: tuple[str, ...]
    periods: Callable[[], list[str]]
    read: Callable[[Period], pd.DataFrame]
    prepare: Callable[[pd.DataFrame], pd.DataFrame]
    outcomes: Callable[[pd.DataFrame], pd.DataFrame | None]
    task: Task = BINARY
    read_file: Callable[[Path], pd.DataFrame] | None = None
    row_rules: tuple[RowRule, ...] = ()
    source: tuple[Field, ...] = ()
    source_rules: tuple[RowRule, ...] = ()
    source_outcomes: tuple[str, ...] = ()
    description: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()


def load_problem(path: str) -> Problem:
    """The `PROBLEM` of the module at a path such as `data/churn.py`, relative to the checkout.

    Raises:
        EvergreenError: if there is none.
    """
    module = path.removesuffix(".py").replace("/", ".")
    try:
        problem = getattr(importlib.import_module(module), "PROBLEM")  # noqa: B009
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise EvergreenError(
            f"params.yaml: problem {path!r} cannot be loaded ({error}); name a file of the "
            "checkout that defines PROBLEM, such as data/churn.py"
        ) from error
    if not isinstance(problem, Problem):
        raise EvergreenError(
            f"{path}: PROBLEM is a {type(problem).__name__}, not a data.problem.Problem"
        )
    return problem
