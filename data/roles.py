"""What a person says of a table, and which of its columns are time, key, field, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from data import cells
from data.described import Described
from data.errors import EvergreenError
from data.leakage import separates
from data.outcomes import Outcome
from data.periods import Frequency
from data.task import Kind

MINIMUM_EVENTS = 30
SINCE, UNTIL = 631_152_000, 2_208_988_800  # 1990 and 2040, in seconds since 1970
DAYS = (1990_01_01, 2040_01_01)  # the same, as people write days in one number
NAMED = ("id", "key", "uuid", "index", "number", "no", "nr", "code", "unnamed",
         "column", "row", "rownames")  # fmt: skip
SOME, EACH = 30, 20  # of more words than some, the rows that each needs
LIKE_ID = "like an id: a value of its own in (nearly) every row"


@dataclass(frozen=True)
class Asked:
    """What a person says of a table; the rest is inferred.

    Attributes:
        time: the column of the event time; `order` in its place: rows are in order of arrival;
            `shuffle`: they are in none.
        delay: from an event until its outcome is known.
        exclude, keep: columns that are no fields, or fields against all that speaks against them.
        time_format: as strptime has it, where it cannot be seen.
        text: columns of numbers that are codes.
    """

    path: str
    target: str
    time: str | None = None
    order: bool = False
    shuffle: bool = False
    key: tuple[str, ...] = ()
    frequency: Frequency | None = None
    task: Kind | None = None
    positive: str | None = None
    delay: timedelta = timedelta(0)
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    time_format: str | None = None
    text: tuple[str, ...] = ()


def check_names(asked: Asked, described: Mapping[str, Described], path: Path) -> None:
    for option, names in (
        ("target", (asked.target,)),
        ("time", (asked.time,) if asked.time else ()),
        ("key", asked.key),
        ("exclude", asked.exclude),
        ("keep", asked.keep),
        ("text", asked.text),
    ):
        for name in names:
            if name not in described:
                raise EvergreenError(
                    f"--{option} {name!r} is no column of {path}: it has "
                    f"{', '.join(map(repr, described))}"
                )
    if asked.target == asked.time or asked.target in asked.key:
        raise EvergreenError(
            f"{asked.target!r} is what is to be predicted, so it can be neither time nor key"
        )


def event_time(asked: Asked, described: Mapping[str, Described], path: Path) -> str:
    """The column of the event time.

    Raises:
        EvergreenError: if there is none, or several.
    """
    moments = [c for c, d in described.items() if d.kind == "timestamp" and c != asked.target]
    if asked.time or len(moments) == 1:
        return asked.time or moments[0]
    why = (
        "Evergreen trains on the past, judges on what came after, and watches each period: it "
        "needs the moment at which each row's decision is due"
    )
    if moments:
        raise EvergreenError(
            f"{path} has several columns with moments, {', '.join(map(repr, moments))}. {why}: "
            "name the one with --time"
        )
    near = [hint for c, d in described.items() if (hint := _clock(c, d)) and c != asked.target]
    raise EvergreenError(
        f"{path} has no column with moments{''.join(near)}. {why}. Name a column with --time (and "
        "how it is written with --time-format, such as '%d.%m.%Y'). Without any, the rows are cut "
        "into artificial weeks: say --order if they are in the order in which they arrived, "
        "--shuffle if they are in none (sorted, or collected)"
    )


def _clock(column: str, d: Described) -> str:
    """What to say of whole numbers that may be a moment."""
    if d.kind != "integer" or d.minimum is None or d.maximum is None:
        return ""
    if DAYS[0] < d.minimum <= d.maximum < DAYS[1] and d.distinct > 1:
        return f" ({column!r} may be days: --time {column!r} --time-format '%Y%m%d')"
    for form, unit in cells.EPOCHS.items():
        since, until = SINCE * 1_000_000 / unit, UNTIL * 1_000_000 / unit
        if since < d.minimum <= d.maximum < until and d.distinct > 1:
            return f" ({column!r} may be {form}: --time {column!r} --time-format '{form}')"
    return ""


def left_out(asked: Asked, described: Mapping[str, Described]) -> dict[str, str]:
    """Columns that are no field, by reason."""
    left = {asked.target: "what is predicted"}
    for column, d in described.items():
        if column in (asked.target, asked.time):
            continue
        if column in asked.exclude:
            left[column] = "excluded"
        elif column in asked.keep:
            continue
        elif asked.key == (column,):
            left[column] = "names the event"
        elif d.distinct <= 1:
            left[column] = "empty" if not d.distinct else "has one value in all rows"
        elif d.kind == "timestamp":
            left[column] = "a moment: a number, such as days before the event, would be a field"
        elif _is_id(column, d):
            left[column] = LIKE_ID
        elif d.kind == "text" and d.distinct > SOME and d.known / d.distinct < EACH:
            left[column] = (
                f"{d.distinct:,} words, about {d.known / d.distinct:.0f} rows of each: too few"
            )
        elif d.long:
            left[column] = "long free text"
    return left


def _is_id(column: str, d: Described) -> bool:
    if d.rows < 50 or d.known < d.rows / 2:
        return False
    share = d.distinct / d.known
    if d.kind == "text":
        return share > 0.5
    named = bool(set(cells.slug(column).split("_")) & set(NAMED))
    return d.kind == "integer" and share > 0.99 and (d.rising or named)


def areas_of(
    column: pd.Series, d: Described, told: Outcome, decimal: str, among: np.ndarray | None = None
) -> list[float]:
    """ROC-AUC of a column for each contrast of the outcome that has rows enough.

    Args:
        decimal: the decimal point of its numbers.
        among: the rows that are looked at, shape (n,); default: all.
    """
    known = told.known if among is None else told.known & among
    events = [event == 1 for event in told.task.events(told.codes[known]).values()]
    events = [e for e in events if min(e.sum(), (~e).sum()) >= MINIMUM_EVENTS]
    if d.kind == "timestamp":
        moments = cells.readable_moments(column, d.formats)
        values = (moments - pd.Timestamp(0)) / pd.Timedelta(hours=1)
    else:
        values = cells.text(column) if d.kind == "text" else cells.numbers(column, decimal, d.unit)
    if d.kind != "text":
        values = pd.to_numeric(values, errors="coerce").replace([np.inf, -np.inf], np.nan)
    return [separates(values[known], event) for event in events]
