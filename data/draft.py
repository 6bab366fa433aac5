"""A problem drafted from a table: what is the time, the outcome, a field; and why.

Nothing is written here, and nobody is asked; `data.new_problem` writes what a person then edits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from data import cells
from data.declared import features_of, fields_of, names_of, slices_of
from data.described import MANY, Described, describe, described_text, form_of, is_code, sample
from data.features import Feature
from data.fields import Field
from data.outcomes import Outcome, outcome
from data.roles import LIKE_ID, Asked, areas_of, check_names, event_time, left_out
from data.table_files import Form, place
from data.tables import Table
from data.timing import Timing, timing

LEAK = 0.9  # ROC-AUC of one column alone, in mean over classes: what is known only afterwards
CERTAIN = 0.99  # the same for one class of several
ERA = "each of its words has a time of its own: later periods have new ones"
LEAKS = "alone tells the outcome"
FEW_ROWS = (
    "so few rows that candidates are not compared: the linear one is taken, unless "
    "rolling.minimum_periods is 2; and that the gates judge all rows together, no part of them."
)
SORTED = 0.6  # correlation of an outcome with the next row's
FEW = 6  # periods in which each field is looked at


@dataclass(frozen=True)
class Found:
    """A column, what it is used for, and how well it alone tells the outcome (ROC-AUC)."""

    described: Described
    use: str
    alone: float | None = None


@dataclass(frozen=True)
class Draft:
    """All that is needed to write a problem down.

    Attributes:
        found: every column of the table.
        within: the most that one field tells alone in one of a few periods.
        said: what a person has to know, in sentences; the first are the gravest.
    """

    name: str
    asked: Asked
    table: Table
    outcome: Outcome
    timing: Timing
    features: tuple[Feature, ...]
    slices: tuple[str, ...]
    found: tuple[Found, ...]
    within: float
    said: tuple[str, ...]

    @property
    def target(self) -> str:
        """What the outcome is called in the endpoint's answer."""
        return cells.slug(self.table.target, [field.name for field in self.table.fields])

    @property
    def alone(self) -> float:
        """The most that one field tells alone."""
        return max((each.alone for each in self.found if each.alone is not None), default=0.5)


def draft(name: str, asked: Asked) -> Draft:
    """Look at a table and decide.

    Raises:
        EvergreenError: if it cannot be a problem as it is, with what to say or to mend.
    """
    path = place(asked.path)
    form = form_of(path)
    rows = sample(path, form)
    form = _with_decimal(form, rows)
    described = _described(rows, asked, form, path)
    chosen = replace(asked, time=None if asked.order else event_time(asked, described, path))
    told = outcome(rows[asked.target], described[asked.target], asked.task, asked.positive, form)
    left = left_out(chosen, described)
    left |= {c: ERA for c in described if c not in left and _is_era(rows, c, chosen, described)}
    fair = [c for c in described if c not in left]
    areas = {c: areas_of(rows[c], described[c], told, form.decimal) for c in fair}
    alone = {c: max(found, default=0.5) for c, found in areas.items()}
    left |= {
        c: f"{LEAKS} (ROC-AUC {alone[c]:.3f}): known only afterwards?"
        for c, found in areas.items()
        if _leaks(found, told) and c not in asked.keep and c != chosen.time
    }
    names = names_of(chosen, [c for c in described if c not in left])
    fields = fields_of(chosen, described, names, left)
    table = _table(chosen, form, fields, names, told, left, described)
    candidates = [c for c, why in left.items() if why == LIKE_ID]
    when = timing(table, chosen.frequency, path, candidates)
    table = replace(
        table,
        frequency=when.frequency,
        key=when.key,
        rows_per_period=when.rows_per_period,
        shuffled=when.rows if asked.shuffle else 0,
        left_out=tuple(column for column in table.left_out if column not in when.key),
    )
    features = features_of(table, fields, described, told, when)
    found = _found(chosen, described, left, alone, when.key)
    said = [*_warnings(chosen, described, left, told), *told.said, *when.said]
    said += [FEW_ROWS] if when.few else []
    within = _within(
        table, rows, described, told, [c for c in names if c in alone and c != chosen.time]
    )
    slices = slices_of(fields, features, described, table, when)
    return Draft(
        name, chosen, table, told, when, features, slices, found, within, tuple(said)
    )  # fmt: skip


def _described(rows: pd.DataFrame, asked: Asked, form: Form, path: Path) -> dict[str, Described]:
    """What each column holds; numbers that are codes are words."""
    found = {
        str(c): described_text(rows[c]) if c in asked.text else describe(rows[c], form.decimal)
        for c in rows.columns
    }
    check_names(asked, found, path)
    own = (asked.target, asked.time)
    codes = [c for c, d in found.items() if is_code(c, d) and c not in own]
    return found | {c: described_text(rows[c]) for c in codes}


def _leaks(areas: Sequence[float], told: Outcome) -> bool:
    """Whether one column tells nearly all; that it tells one class well is what fields are for."""
    if told.task.kind != "multiclass":
        return max(areas, default=0.0) > LEAK
    return bool(areas) and (float(np.mean(areas)) > LEAK or max(areas) > CERTAIN)


def _is_era(
    rows: pd.DataFrame, column: str, asked: Asked, described: Mapping[str, Described]
) -> bool:
    """Whether each word of a column has one stretch of time, such as a mark of the newer rows."""
    d = described[column]
    if d.kind != "text" or d.distinct > MANY or asked.shuffle or column in asked.keep:
        return False
    if asked.time:
        formats = (asked.time_format,) if asked.time_format else described[asked.time].formats
        moments = cells.readable_moments(rows[asked.time], formats)
        rows = rows.iloc[moments.argsort(kind="stable")]
    words = cells.text(rows[column]).dropna()
    return int((words != words.shift()).sum()) == d.distinct > 1


def _with_decimal(form: Form, rows: pd.DataFrame) -> Form:
    """A comma is the decimal point where it makes numbers of more cells."""
    counts: Counter[str] = Counter()
    for name in rows.columns:
        few = rows[name].iloc[:2000]
        if few.dtype.kind in "OTU" or few.dtype == "str":
            unit = cells.unit_of(cells.text(few).dropna())
            for decimal in (".", ","):
                found = cells.numbers(few, decimal, unit)
                counts[decimal] += int(pd.to_numeric(found, errors="coerce").notna().sum())
    return replace(form, decimal="," if counts[","] > counts["."] else ".")


def _within(
    table: Table,
    rows: pd.DataFrame,
    described: Mapping[str, Described],
    told: Outcome,
    columns: Sequence[str],
) -> float:
    """What one field tells alone in a period: outcomes that drift are told better than in all."""
    if table.rows_per_period:
        turns = replace(table, shuffled=len(rows) if table.shuffled else 0).turns(
            pd.Series(np.arange(len(rows)))
        )
        period = turns // table.rows_per_period
    else:
        moments = table.moments(rows)
        lengths = {"week": "W-SUN", "month": "M", "day": "D"}
        period = moments.dt.to_period(lengths[table.frequency]).astype(object)
    names = period.dropna().unique()
    chosen = names[:: max(len(names) // FEW, 1)]
    areas = [
        areas_of(rows[each], described[each], told, table.form.decimal, (period == name).to_numpy())
        for name in chosen
        for each in columns
    ]
    return max((float(np.mean(found)) for found in areas if found), default=0.5)


def _table(
    asked: Asked,
    form: Form,
    fields: tuple[Field, ...],
    names: Mapping[str, str],
    told: Outcome,
    left: Mapping[str, str],
    described: Mapping[str, Described],
) -> Table:
    formats: tuple[str, ...] = (asked.time_format,) if asked.time_format else ()
    if asked.time and not formats:
        formats = described[asked.time].formats or (cells.ISO,)
    nobody = tuple(c for c in left if c != asked.target)
    return Table(
        path=asked.path,
        fields=fields,
        time=fields[0].name,
        target=asked.target,
        key=asked.key,
        columns={name: column for column, name in names.items() if name != column},
        labels=told.labels,
        left_out=nobody,
        formats=formats or (cells.ISO,),
        units={c: d.unit for c, d in described.items() if d.unit and c not in nobody},
        form=form,
        rows_per_period=1 if asked.order else 0,
        shuffled=1 if asked.shuffle else 0,
    )


def _found(
    asked: Asked,
    described: Mapping[str, Described],
    left: Mapping[str, str],
    alone: Mapping[str, float],
    key: tuple[str, ...],
) -> tuple[Found, ...]:
    found = []
    for column, d in described.items():
        use = left.get(column, "field")
        if column == asked.target:
            use = "what is predicted"
        elif column == asked.time:
            use = "event time"
        elif column in left:
            use = f"left out: {use}" if column not in key else f"key; {use}"
        found.append(Found(d, use, None if column in left else alone.get(column)))
    return tuple(found)


def _sorted(told: Outcome) -> bool:
    """Whether neighbouring rows have much the same outcome, as in a table that is sorted by it."""
    codes = told.codes[told.known]
    each = (e.astype(float) for e in told.task.events(codes.astype(told.task.dtype)).values())
    common = [e for e in each if e[1:].std() and e[:-1].std()]
    return max((float(np.corrcoef(e[:-1], e[1:])[0, 1]) for e in common), default=0.0) > SORTED


def _warnings(
    asked: Asked, described: Mapping[str, Described], left: Mapping[str, str], told: Outcome
) -> list[str]:
    leaks = [repr(column) for column, why in left.items() if why.startswith(LEAKS)]
    said = []
    if asked.order and not asked.shuffle and _sorted(told):
        said.append(
            "neighbouring rows have much the same outcome: the table seems to be sorted, and no "
            "week is like the next. If the rows are in no order of arrival, say --shuffle."
        )
    if leaks:
        each = "each alone tells" if len(leaks) > 1 else "alone tells"
        told_of = "the outcome, or one of its classes," if told.task.classes else "the outcome"
        said.append(
            f"{', '.join(leaks)}: {each} {told_of} nearly always. What is known only afterwards "
            "does so, and so it is left out; `--keep COLUMN` makes it a field all the same."
        )
    if asked.time and described[asked.time].unclear and not asked.time_format:
        said.append(
            f"{asked.time!r} may be day first or month first; it is read as "
            f"{described[asked.time].formats[0]}. If that is wrong, say --time-format."
        )
    return said
