"""How long a period of a table is, which of them can be learned from, and what names a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from data import cells
from data.bounds import LEAST, MANY, ROWS, WISHED, bounds, by_period, one_sided
from data.errors import EvergreenError
from data.features import Part
from data.periods import Frequency, Period, span
from data.table_files import frames
from data.tables import ORIGIN, Table

FREQUENCIES: tuple[Frequency, ...] = ("week", "month", "day")
# Periods, and rows in the median one: good enough, and just enough.
GOOD, ENOUGH, FEW = (12, 500), (6, 100), (LEAST + 2, 0)
SLICE_ROWS = 1000  # with fewer a slice is odd by chance


@dataclass(frozen=True)
class Timing:
    """The periods of a table.

    Attributes:
        rows: of the whole table.
        counts, coverage: rows by period, and the share of them whose outcome is known.
        first, last: what can be learned from: no gap, no part of a period, outcomes known.
        parts: of the event time that differ between rows.
    """

    rows: int
    frequency: Frequency
    key: tuple[str, ...]
    rows_per_period: int
    counts: Mapping[str, int]
    coverage: Mapping[str, float]
    first: str
    last: str
    parts: tuple[Part, ...]
    said: tuple[str, ...]

    @property
    def learned(self) -> list[str]:
        """Every period from first to last."""
        return [p.name for p in span(Period.parse(self.first), Period.parse(self.last))]

    @property
    def usual(self) -> int:
        """Rows of the median one of these."""
        return int(np.median([self.counts[name] for name in self.learned]))

    @property
    def few(self) -> bool:
        """Whether there are too few rows to tell candidates, or parts of the rows, apart."""
        return self.usual * len(self.learned) < SLICE_ROWS


@dataclass
class _Seen:
    """What one pass over a table finds: rows and known outcomes by day, hashes; `flags` by row."""

    rows: int
    unread: int
    days: pd.DataFrame
    flags: pd.DataFrame
    parts: tuple[Part, ...]
    hashes: dict[tuple[str, ...], np.ndarray]
    contents: np.ndarray


def timing(table: Table, wanted: Frequency | None, path: Path, candidates: Sequence[str]) -> Timing:
    """Look at every row's time, outcome and key, and at nothing else.

    Args:
        candidates: columns that may name a row, the best first.

    Raises:
        EvergreenError: if the key names two rows, or there are too few periods.
    """
    keys = [table.key] if table.key else [(name,) for name in candidates]
    seen = _look(table, path, keys)
    if not seen.rows - seen.unread:
        raise EvergreenError(
            f"no cell of {table._column(table.time)!r} can be read as a moment: say how it is "
            "written with --time-format, such as '%d.%m.%Y %H:%M'; if it only counts (weeks 1, 2), "
            "sort the table by it and say --order in place of --time"
        )
    key, said = _key(table, seen)
    if seen.unread:
        said.append(
            f"{seen.unread:,} rows have no readable time: they are left out, as no period has them."
        )
    per = _per_period(seen.rows) if table.rows_per_period else 0
    if per:
        how = "shuffled" if table.shuffled else "in their order"
        said.append(
            f"the rows have no time: {per:,} at a time, {how}, are called a week, from "
            f"{Period.of(ORIGIN, 'week')} on. Drift and quality are watched in that order only; "
            "rows that do not fill a week wait for more."
        )
    days = _artificial(_in_turn(table, seen), per) if per else seen.days
    frequency = "week" if per else wanted or _frequency(days)
    by = by_period(days, frequency)
    first, last, more = bounds(by, frequency, bool(per))
    counts = {str(name): int(n) for name, n in by["rows"].items()}
    coverage = {str(name): float(s) for name, s in (by["known"] / by["rows"]).items()}
    parts = () if per else seen.parts
    return Timing(
        seen.rows, frequency, key, per, counts, coverage, first, last, parts, (*said, *more)
    )


def _look(table: Table, path: Path, keys: Sequence[tuple[str, ...]]) -> _Seen:
    names = table._wanted(path)
    more = sorted({name for key in keys for name in key} - set(names))
    days, hashes = list[pd.DataFrame](), {key: list[np.ndarray]() for key in keys}
    contents, flags = list[np.ndarray](), list[pd.DataFrame]()
    rows, unread, hours, weekdays = 0, 0, set[int](), set[int]()
    for _, part in frames(path, table.form, [*names, *more]):
        part = part.reset_index(drop=True)
        label = table.labels_of(part[table.target])
        flags.append(_flags(label))
        moments = _no_moments(part) if table.rows_per_period else table.moments(part)
        rows, unread = rows + len(part), unread + int(moments.isna().sum())
        hours |= set(moments.dropna().dt.hour.unique())
        weekdays |= set(moments.dropna().dt.weekday.unique())
        day = moments.dt.floor("D").rename("day")
        days.append(flags[-1].groupby(day).sum())
        for key in keys:
            hashes[key].append(cells.hashed(part, key))
        if keys:
            contents.append(cells.hashed(part, names))
    parts: list[Part] = ["hour"] if len(hours) > 1 else []
    parts += ["weekday"] if len(weekdays) > 1 else []
    return _Seen(
        rows, unread, pd.concat(days).groupby(level=0).sum(),
        pd.concat(flags, ignore_index=True), tuple(parts),
        {key: np.concatenate(found) for key, found in hashes.items()},
        np.concatenate(contents) if contents else np.zeros(0, np.uint64),
    )  # fmt: skip


def _key(table: Table, seen: _Seen) -> tuple[tuple[str, ...], list[str]]:
    """The columns that name a row, and what to say of it."""
    for key, hashes in seen.hashes.items():
        twice = len(hashes) - len(np.unique(hashes))
        with_content = hashes ^ (seen.contents * np.uint64(31))
        same = twice - (len(hashes) - len(np.unique(with_content)))
        if not same:
            said = [f"{' with '.join(map(repr, key))} names each row."]
            if twice:
                said.append(f"{twice:,} rows are there twice, word for word: they are read once.")
            return key, said
        if table.key:
            raise EvergreenError(
                f"--key {' '.join(map(repr, key))} names {same:,} rows that are not the only ones "
                "of their key: name further columns with --key, or none, so that rows are named by "
                "their content"
            )
    how = "their place" if table.rows_per_period else "a hash of their content"
    return (), [f"no column names each row, so rows are named by {how}."]


def _per_period(rows: int) -> int:
    """Rows of an artificial week: some hundreds, but enough weeks."""
    weeks = int(np.clip(rows // ROWS, LEAST + 3, 40))
    return max(rows // weeks, 1)


def _no_moments(part: pd.DataFrame) -> pd.Series:
    return pd.Series(np.datetime64(ORIGIN, "us"), part.index)


def _flags(label: pd.Series) -> pd.DataFrame:
    """Of each row 1, whether its outcome is known, and whether it is 1 (of others a half)."""
    known = label.notna().astype(float)
    two = label.dropna().isin([0, 1, "0", "1"]).all()
    ones = label.isin([1, "1"]).astype(float) if two else known / 2
    return pd.DataFrame({"rows": 1, "known": known, "ones": ones})


def _in_turn(table: Table, seen: _Seen) -> pd.DataFrame:
    """The flags in the order in which the rows come."""
    if not table.shuffled:
        return seen.flags
    turns = replace(table, shuffled=seen.rows).turns(pd.Series(seen.flags.index))
    return seen.flags.iloc[np.argsort(turns.to_numpy())]


def _artificial(flags: pd.DataFrame, per: int) -> pd.DataFrame:
    """Counts by the first day of each artificial week."""
    found = flags.groupby(np.arange(len(flags)) // per).sum()
    starts = [ORIGIN + timedelta(weeks=int(week)) for week in found.index]
    return found.set_index(pd.DatetimeIndex(starts))


def _frequency(days: pd.DataFrame) -> Frequency:
    """Weeks if there are enough rows and no gaps, else months or days."""
    tables = {each: by_period(days, each) for each in FREQUENCIES}
    for number, rows in (GOOD, ENOUGH, FEW):
        order = FREQUENCIES if rows >= MANY else ("month", "week", "day")  # few rows: long periods
        for each, by in ((name, tables[name]) for name in order):
            inner = by.iloc[1:-1]
            whole = len(by) >= number and not (inner["rows"] == 0).any() and not one_sided(by)
            if whole and by["rows"].median() >= rows:
                return each
    return max(tables, key=lambda each: min(len(tables[each]), WISHED))
