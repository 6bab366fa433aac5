"""Batch rules: each looks at a whole batch and returns what is wrong with it, or None.

`columns` looks at the form, `BATCH` at the rows in the contract's types. Those of `data.unusual`
compare with the reference (the nearest ingested periods) and are skipped while it has fewer than
`contract.minimum_periods`; a result says which were skipped.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from data import swaps, unusual
from data.batches import Batch, Finding
from data.contracts import KEY, Typed
from data.leakage import separates
from data.params import Contract
from data.partitions import common_share, sketch
from data.problem import Problem
from data.profiles import Profile

DELIVERED_BEFORE = 0.5  # share of rows whose content is in another period already
TELLING = 0.75  # of the rows of a batch have contents of their own
MINIMUM_EVENTS = 30
MINIMUM_LABELS = 100


def columns(problem: Problem, expected: Sequence[str], found: Sequence[str]) -> Finding | None:
    """Missing, renamed or extra columns, and outcomes among the fields."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    said = [f"column {name!r} is there {n} times" for name, n in Counter(found).items() if n > 1]
    for name in missing:
        close = get_close_matches(name.lower(), [other.lower() for other in extra], 1, 0.5)
        near = [other for other in extra if [other.lower()] == close]
        near = near or (extra if len(missing) == len(extra) == 1 else [])
        said.append(f"column {name!r} is missing" + (f": is it {near[0]!r}?" if near else ""))
    for name in extra:
        told = name in problem.source_outcomes
        why = ": it tells what became of the event" if told else ""
        said.append(f"column {name!r} is not in the contract{why}")
    rule = "missing column" if missing and not extra else "extra column"
    if any("is it" in line for line in said):
        rule = "renamed column"
    return Finding(rule, "; ".join(said)) if said else None


def retyped(found: Typed, contract: Contract) -> Finding | None:
    """A column most of whose cells are of another type."""
    share = found.wrong.mean()
    if not (wrong := share[share > contract.quarantine_share]).empty:
        said = [f"{name!r} ({part:.0%} of its cells)" for name, part in wrong.items()]
        return Finding("retyped column", f"{', '.join(said)} of another type than the contract's")
    return None


def other_period(batch: Batch) -> Finding | None:
    """Rows whose event is in another period."""
    period, moments = batch.period, batch.rows[batch.problem.event_time]
    outside = batch.rows[(moments < period.start) | (moments >= period.end)]
    if outside.empty:
        return None
    first = outside.iloc[0]
    return Finding(
        "rows of another period",
        f"{len(outside)} rows are of another period, first {first[KEY]!r} at "
        f"{first[batch.problem.event_time]} (expected {period.start} up to {period.end})",
    )


def duplicated(batch: Batch) -> Finding | None:
    """A key that is there more than once."""
    # A row without a moment is in quarantine, and its key may lack what tells it apart.
    keys = batch.rows[KEY][batch.rows[batch.problem.event_time].notna()].dropna()
    twice = keys[keys.duplicated()]
    if twice.empty:
        return None
    said = f"key: {len(twice)} of {len(keys)} are there twice, such as {twice.iloc[0]!r}"
    return Finding("duplicated keys", said)


def delivered_before(batch: Batch) -> Finding | None:
    """The events, or the contents, of another period under this one's name.

    Where rows of a batch are often alike, as those of few fields are, those of two are, too: it has
    to have more in common than the reference's periods have with each other.
    """
    mine, found = batch.profile, dict[str, str]()
    telling = len(mine.contents) >= TELLING * mine.rows
    shared = [_common(batch.reference[0], other) for other in batch.reference[1:]]
    usual = float(np.median(shared)) if shared else DELIVERED_BEFORE  # of one period nobody knows
    least = max(DELIVERED_BEFORE, (1 + usual) / 2)
    for other in batch.reference:
        keys = len(np.intersect1d(mine.keys, other.keys, assume_unique=True))
        same = _common(mine, other)
        if keys or (telling and same > least):
            found[other.name] = f"{keys} keys" if keys else f"{same:.0%}"
    known = sketch(batch.rows) if batch.sketches and telling else []
    for name, theirs in batch.sketches.items():
        if name not in found and (share := common_share(known, theirs)) > least:
            found[name] = f"about {share:.0%}"
    for name, said in found.items():
        what = said if said.endswith("keys") else f"{said} of its contents"
        return Finding("delivered before", f"{what} are in partition {name} already")
    return None


def _common(mine: Profile, other: Profile) -> float:
    """The share of different contents that are in another period, too."""
    same = len(np.intersect1d(mine.contents, other.contents, assume_unique=True))
    return same / max(len(mine.contents), 1)


def leak(
    problem: Problem, rows: pd.DataFrame, told: pd.Series | None, limit: float
) -> Finding | None:
    """A request field that alone tells the label, with a ROC-AUC above the limit.

    Of several classes, or of a number, it is the mean of the contrasts (`Task.events`): that it
    tells one of them is what fields are for. The event time is none: within a period an outcome
    may well drift.
    """
    if told is None:
        return None
    known = told.notna().to_numpy()
    label = told.to_numpy(dtype=float)[known].astype(problem.task.dtype)
    events = [event == 1 for event in problem.task.events(label).values()] if len(label) else []
    events = [event for event in events if min(event.sum(), (~event).sum()) >= MINIMUM_EVENTS]
    fields = [field for field in problem.fields if field.name != problem.event_time]
    for field in fields if events else ():
        areas = [separates(rows.loc[known, field.name], event) for event in events]
        area = float(np.mean(areas))
        if area > limit:
            said = f"{field.name!r} alone predicts the label with ROC-AUC {area:.3f}"
            return Finding("label leak", f"{said}: is it known before the event?")
    return None


def one_label(batch: Batch) -> Finding | None:
    """A label that is the same in every row."""
    known = batch.label.dropna() if batch.label is not None else pd.Series(dtype=float)
    if len(known) < MINIMUM_LABELS or known.nunique() > 1:
        return None
    return Finding("constant label", f"the label is {known.iloc[0]:g} in all {len(known)} rows")


def bad_rows(batch: Batch) -> Finding | None:
    """Too many rows that break a row rule."""
    broken, rows = batch.sifted.broken, len(batch.rows)
    bad = broken["row"].nunique()
    if bad <= batch.contract.quarantine_share * rows:
        return None
    counts = Counter(zip(broken["column"], broken["rule"], strict=True))
    said = [f"{column}: {rule} in {count} rows" for (column, rule), count in counts.items()]
    return Finding(
        "too many bad rows", f"{bad} of {rows} rows break a row rule ({'; '.join(said)})"
    )


@dataclass(frozen=True)
class Rule:
    """A batch rule by name; `compares` if it needs the reference."""

    name: str
    check: Callable[[Batch], Finding | None]
    compares: bool = False


BATCH = (
    Rule("retyped column", lambda batch: retyped(batch.typed, batch.contract)),
    Rule("rows of another period", other_period),
    Rule("duplicated keys", duplicated),
    Rule("delivered before", delivered_before),
    Rule("label leak", lambda b: leak(b.problem, b.rows, b.label, b.contract.leak)),
    Rule("constant label", one_label),
    Rule("swapped columns", swaps.swapped, compares=True),
    Rule("changed unit", unusual.unit, compares=True),
    Rule("flood of nulls", unusual.nulls, compares=True),
    Rule("constant column", unusual.constant, compares=True),
    Rule("unseen categories", unusual.unseen, compares=True),
    Rule("dropped category", unusual.dropped, compares=True),
    Rule("volume", unusual.volume, compares=True),
    Rule("too many bad rows", bad_rows),
)


def judge(batch: Batch) -> tuple[list[Finding], list[str]]:
    """What the batch breaks, and the rules that were skipped for want of a reference."""
    enough = len(batch.reference) >= batch.contract.minimum_periods
    run = [rule for rule in BATCH if enough or not rule.compares]
    found = [finding for rule in run if (finding := rule.check(batch))]
    return found, [rule.name for rule in BATCH if rule not in run]
