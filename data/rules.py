"""Batch rules: each looks at a whole batch and returns what is wrong with it, or None.

`SCHEMA` looks at the columns, `BATCH` at the rows in the contract's types. Those of `BATCH` that
compare with the reference (the nearest ingested periods) are skipped while it has fewer than
`contract.minimum_periods`; a result says which were skipped. Limits come from the reference's own
variation, times `contract.tolerance`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import pandas as pd

from data.contracts import KEY, Typed
from data.fields import Field
from data.leakage import separates
from data.params import Contract
from data.periods import Period
from data.problem import Problem
from data.profiles import Profile, Usual, profile

VOLUME_FLOOR = 0.1  # natural logarithm of a ratio: 10 % more or fewer rows are never unusual
NULL_FLOOR = 0.05
DELIVERED_BEFORE = 0.5  # share of rows whose content is in another period already
LEAK = 0.9  # ROC-AUC of one request field alone
MINIMUM_EVENTS = 30
MINIMUM_QUANTILES = 3  # different ones; a column that is mostly one value has no unit to see

UNITS = (  # as the field's doc names it, what may come instead, factor, offset
    ("miles", "kilometres", 1.609344, 0.0),
    ("kilometres", "miles", 1 / 1.609344, 0.0),
    ("°F", "°C", 5 / 9, -160 / 9),
    ("°C", "°F", 1.8, 32.0),
    ("inches", "millimetres", 25.4, 0.0),
    ("millibars", "inches of mercury", 1 / 33.8639, 0.0),
    ("feet", "metres", 0.3048, 0.0),
    ("metres", "feet", 1 / 0.3048, 0.0),
    ("pounds", "kilograms", 0.453592, 0.0),
    ("kilograms", "pounds", 1 / 0.453592, 0.0),
    ("mph", "m/s", 0.44704, 0.0),
    ("minutes", "seconds", 60.0, 0.0),
    ("minutes", "hours", 1 / 60, 0.0),
    ("%", "a share of 1", 0.01, 0.0),
    ("", "thousands", 0.001, 0.0),
    ("", "thousandths", 1000.0, 0.0),
)


@dataclass(frozen=True)
class Finding:
    """A broken batch rule, and what it says of which columns."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """What the rules look at.

    Attributes:
        typed: the rows in the contract's types.
        reference: profiles of the nearest other periods, `contract.reference_periods` at most.
        label: of each row, 0, 1 or missing; None if the batch has no outcomes.
        edge: whether the source begins or ends in this period, so that it may be a part of one.
    """

    problem: Problem
    contract: Contract
    period: Period
    typed: Typed
    reference: Sequence[Profile]
    label: pd.Series | None
    edge: Callable[[], bool]

    @property
    def rows(self) -> pd.DataFrame:
        return self.typed.rows

    @cached_property
    def profile(self) -> Profile:
        return profile(self.problem, self.period.name, self.rows)

    @cached_property
    def usual(self) -> dict[str, Usual]:
        found = {n: Usual.of([r.columns[n] for r in self.reference]) for n in self.profile.columns}
        return {name: usual for name, usual in found.items() if usual}


def columns(problem: Problem, expected: Sequence[str], found: Sequence[str]) -> Finding | None:
    """Missing, renamed or extra columns, and outcomes among the fields."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    said = []
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


def retyped(batch: Batch) -> Finding | None:
    """A column most of whose cells are of another type."""
    share = batch.typed.wrong.mean()
    if not (wrong := share[share > batch.contract.quarantine_share]).empty:
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
    keys = batch.rows[KEY].dropna()
    twice = keys[keys.duplicated()]
    if twice.empty:
        return None
    said = f"key: {len(twice)} of {len(keys)} are there twice, such as {twice.iloc[0]!r}"
    return Finding("duplicated keys", said)


def delivered_before(batch: Batch) -> Finding | None:
    """The events, or the contents, of a period of the reference under this one's name."""
    mine = batch.profile
    for other in batch.reference:
        keys = len(np.intersect1d(mine.keys, other.keys, assume_unique=True))
        same = len(np.intersect1d(mine.contents, other.contents, assume_unique=True))
        if keys or same > DELIVERED_BEFORE * len(mine.contents):
            what = f"{keys} keys" if keys else f"{same / len(mine.contents):.0%} of its contents"
            return Finding("delivered before", f"{what} are in partition {other.name} already")
    return None


def leak(problem: Problem, rows: pd.DataFrame, told: pd.Series | None) -> Finding | None:
    """A request field that alone tells the label."""
    if told is None:
        return None
    known = told.notna().to_numpy()
    label = told.to_numpy(dtype=float)[known] == 1
    if min(label.sum(), (~label).sum()) < MINIMUM_EVENTS:
        return None
    for field in problem.fields:
        area = separates(rows.loc[known, field.name], label)
        if area > LEAK:
            said = f"{field.name!r} alone predicts the label with ROC-AUC {area:.3f}"
            return Finding("label leak", f"{said}: is it known before the event?")
    return None


def volume(batch: Batch) -> Finding | None:
    """Far more or fewer rows than the reference's periods have."""
    counts = np.log([max(other.rows, 1) for other in batch.reference])
    middle = float(np.median(counts))
    own = max(float(np.median(np.abs(counts - middle))) * 3, VOLUME_FLOOR)
    usual = float(np.exp(middle))
    if abs(np.log(batch.profile.rows) - middle) <= own * batch.contract.tolerance:
        return None
    if batch.edge():
        per_day = usual / max(other.days for other in batch.reference)
        ratio = np.log(batch.profile.rows / (per_day * max(batch.profile.days, 1)))
        if abs(ratio) <= own * batch.contract.tolerance:
            return None
    return Finding("volume", f"{batch.profile.rows} rows, where a period has about {usual:.0f}")


def nulls(batch: Batch) -> Finding | None:
    """Many more missing values than the reference ever has; counted against a usual period."""
    usual = float(np.median([other.rows for other in batch.reference]))
    said = []
    for name, column in batch.profile.columns.items():
        shares = [other.columns[name].nulls / other.rows for other in batch.reference]
        share = column.nulls / max(batch.profile.rows, usual)
        own = max(shares) - min(shares)
        limit = max(shares) + batch.contract.tolerance * max(own, NULL_FLOOR)
        # Where many are missing anyway, the known ones are what can vanish.
        if share > limit or (column.nulls == batch.profile.rows and min(shares) < 0.9):
            said.append(f"{name!r} is missing in {share:.0%} of rows (at most {max(shares):.0%})")
    return Finding("flood of nulls", "; ".join(said)) if said else None


def constant(batch: Batch) -> Finding | None:
    """A column with one value only, which varies in every period of the reference."""
    said = [
        f"{name!r} has one value in all rows"
        for name, column in batch.profile.columns.items()
        if column.nulls < batch.profile.rows
        and column.others == 0
        and min(other.columns[name].others for other in batch.reference) > NULL_FLOOR / 10
    ]
    return Finding("constant column", "; ".join(said)) if said else None


def swapped(batch: Batch) -> Finding | None:
    """Two columns each of which looks like the other in the reference, and not like itself."""
    tolerance, names = batch.contract.tolerance, list(batch.usual)
    found = batch.profile.columns
    own = {name: batch.usual[name].away(found[name]) for name in names}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if own[a] + own[b] <= tolerance:
                continue
            crossed = (batch.usual[a].away(found[b]), batch.usual[b].away(found[a]))
            if max(crossed) <= tolerance and own[a] + own[b] > tolerance * max(sum(crossed), 1):
                return Finding("swapped columns", f"{a!r} and {b!r} look swapped")
    return None


def unit(batch: Batch) -> Finding | None:
    """A number that is far from the reference, and near it when converted back.

    A field is tried with the conversions of the unit that its doc names, and with thousands.
    """
    said = [
        words
        for field in batch.problem.fields
        if (usual := batch.usual.get(field.name)) is not None
        and (words := _other_unit(field, usual, batch))
    ]
    return Finding("changed unit", "; ".join(said)) if said else None


def _other_unit(field: Field, usual: Usual, batch: Batch) -> str | None:
    column, tolerance = batch.profile.columns[field.name], batch.contract.tolerance
    if column.quantiles is None or len(set(column.quantiles)) < MINIMUM_QUANTILES:
        return None
    raw, found = usual.away(column), []
    for name, other, factor, offset in UNITS:
        if name in field.doc and raw > (1 if name else tolerance):
            near = usual.away(column.convert(1 / factor, -offset / factor))
            formula = f"{factor:.6g} * {name or 'usual'}" + (f" {offset:+.6g}" if offset else "")
            found.append((near, f"{field.name!r} looks like {other}: delivered = {formula}"))
    near, words = min(found, default=(np.inf, ""))
    return words if near <= min(raw / tolerance, tolerance) else None


@dataclass(frozen=True)
class Rule:
    """A batch rule by name; `compares` if it needs the reference."""

    name: str
    check: Callable[[Batch], Finding | None]
    compares: bool = False


BATCH = (
    Rule("retyped column", retyped),
    Rule("rows of another period", other_period),
    Rule("duplicated keys", duplicated),
    Rule("delivered before", delivered_before),
    Rule("label leak", lambda batch: leak(batch.problem, batch.rows, batch.label)),
    Rule("volume", volume, compares=True),
    Rule("swapped columns", swapped, compares=True),
    Rule("changed unit", unit, compares=True),
    Rule("flood of nulls", nulls, compares=True),
    Rule("constant column", constant, compares=True),
)


def judge(batch: Batch) -> tuple[list[Finding], list[str]]:
    """What the batch breaks, and the rules that were skipped for want of a reference."""
    enough = len(batch.reference) >= batch.contract.minimum_periods
    run = [rule for rule in BATCH if enough or not rule.compares]
    found = [finding for rule in run if (finding := rule.check(batch))]
    return found, [rule.name for rule in BATCH if rule not in run]
