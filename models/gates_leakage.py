"""Gates against knowing what will not be known: windows, columns, fitted state, telling fields."""

from typing import Any

import numpy as np
import pandas as pd

from data.features import Columns, Feature
from data.fields import Field
from data.leakage import separates
from data.rules import MINIMUM_EVENTS
from models.evidence import Case
from models.quality import ranking
from models.verdict import Verdict


def windows(case: Case) -> Verdict:
    """The artefact was trained on all periods that `as_of` gives, unchanged, none held out."""
    said, due = case.challenger.training, case.seen.windows
    expected: dict[str, Any] = {
        "train": [period.name for period in due.train],
        "holdout": [period.name for period in due.holdout],
        "train_rows": case.seen.total,
        "partitions": dict(case.seen.fingerprint),
    }
    wrong = [name for name, value in expected.items() if said.get(name) != value]
    held = sorted(set(case.holdout.period) - set(expected["holdout"]))
    wrong += [f"held-out rows of {', '.join(held)}"] if held else []
    reason = (
        f"{', '.join(wrong)} are not those of {due.as_of:%Y-%m-%d %H:%M}"
        if wrong
        else f"trained on {due.train[0]} to {due.train[-1]}, held out {due.holdout[-1]}"
    )
    return Verdict("windows", not wrong, float(len(wrong)), 0.0, len(expected) + 1, None, reason)


def banned_columns(case: Case) -> Verdict:
    """No field or feature may read what tells the outcome, or what the problem does not declare."""
    allowed = {field.name for field in case.problem.fields} - set(case.problem.source_outcomes)
    read = {column for feature in case.challenger.features for column in columns_of(feature)}
    read |= {field.name for field in case.challenger.fields}
    banned = sorted(read - allowed)
    reason = f"all {len(read)} columns are known at the moment of decision"
    if banned:
        reason = f"{', '.join(banned)} are not among the fields that a decision may use"
    return Verdict("banned_columns", not banned, float(len(banned)), 0.0, len(read), None, reason)


def columns_of(feature: Feature) -> tuple[str, ...]:
    """The raw columns that a feature reads."""
    names = ("column", "numerator", "denominator")
    return tuple(str(getattr(feature, name)) for name in names if hasattr(feature, name))


def fitted_state(case: Case) -> Verdict:
    """Fitted again on the training rows alone, every feature must come out as in the artefact.

    A vocabulary in another order, or a rate that counted held-out labels, is seen here, and so is a
    number's scale that is not its standard deviation.
    """
    ours, theirs = case.seen.features, case.challenger.features
    wrong = [one.name for one, other in zip(ours, theirs, strict=False) if one != other]
    wrong += [f"{len(theirs)} features instead of {len(ours)}"] if len(ours) != len(theirs) else []
    scale, due = case.challenger.task.scale, case.task.scale
    wrong += [] if np.isclose(scale, due, rtol=1e-6) else [f"scale {scale:g} instead of {due:g}"]
    reason = f"{len(ours)} features are as the training rows give them"
    if wrong:
        reason = f"not as the training rows give them: {', '.join(wrong[:5])}"
    return Verdict("fitted_state", not wrong, float(len(wrong)), 0.0, len(ours), None, reason)


def single_field_auc(case: Case) -> Verdict:
    """No single field, nor its being missing, may tell the training rows' label too well.

    The ROC-AUC of each alone must be below the threshold; a timestamp counts as hours since the
    event's, which itself tells how outcomes drift and is left out. Of several classes the one that
    is told best counts, if enough rows have it; of a number the mean over its quantiles, see
    `Task.events`.
    """
    most, rows, task = case.params.single_field_auc, case.seen.rows, case.task
    needed = 1 if task.kind == "binary" else MINIMUM_EVENTS
    events = {k: e == 1 for k, e in task.events(rows.label).items() if e.sum() >= needed}
    found = {
        field.name: [separates(_series(field, rows.columns, case.problem.event_time), event)
                     for event in events.values()]
        for field in case.problem.fields if field.name != case.problem.event_time
    }  # fmt: skip
    counts = np.max if task.classes else np.mean
    name = max(found, key=lambda n: counts(found[n]))
    value = float(counts(found[name]))
    told = f" for {task.classes[list(events)[np.argmax(found[name])]]}" if task.classes else ""
    what = "ROC-AUC" if task.classes else task.ranking
    reason = f"{name} alone has {what} {value:.3f}{told}, suspicious from {most}"
    return Verdict("single_field_auc", value < most, value, most, len(rows), None, reason)


def _series(field: Field, columns: Columns, event_time: str) -> pd.Series:
    values = columns[field.name]
    if field.kind != "timestamp":
        return pd.Series(values)
    hours = (values - columns[event_time]) / np.timedelta64(1, "h")
    return pd.Series(np.where(np.isnat(values), np.nan, hours))


def plausible_auc(case: Case) -> Verdict:
    """Better than anybody can be is a leak until somebody has looked: ROC-AUC must be below."""
    most, label, task = case.params.plausible_auc, case.holdout.label, case.task
    value = ranking(label, case.score, task)
    if value is None:
        reason = "the holdout has one outcome only"
        return Verdict("plausible_auc", None, None, most, len(label), None, reason)
    reason = f"{task.ranking} {value:.3f}, too good to be true from {most}"
    if value >= most:
        reason += ": look for a field of afterwards; if there is none, raise gates.plausible_auc"
    return Verdict("plausible_auc", value < most, value, most, len(label), None, reason)
