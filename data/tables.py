"""A table on disk as the source of a problem: its periods, a period's rows, keys and outcomes.

A table is a CSV or a parquet file whose rows are events. Nothing is kept of a large one: it is read
in parts, only the columns that are wanted, and of a parquet file only the part around a period.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from data import cells
from data.contracts import KEY
from data.errors import EvergreenError, RefusedError
from data.fields import Field
from data.labels import LABELLED_AT
from data.periods import Frequency, Period
from data.table_files import Form, columns_of, frames, place, stamp

OUTCOME = "outcome"
PLACE = "\0place"  # of a row in the table; no column is called so
PLAIN = Form()
ORIGIN = datetime(2001, 1, 1)  # a Monday: where the weeks of a table without time begin


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose rows are events.

    Attributes:
        path: absolute, or relative to the checkout.
        fields: what a request carries, event time included.
        time: the field that is the event time.
        target: the column that tells what became of an event; an empty cell is not known yet.
        frequency: how long a period is.
        key: columns that name an event, together; without one, rows are named by their content.
        columns: field -> column, where these differ.
        labels: cell of the target -> label, where these differ.
        left_out: columns that nobody reads.
        formats: of the event time, tried in this order; see `data.cells`.
        units: column -> what is written after each of its numbers.
        rows_per_period: of a table without time: so many rows, in their order, are a week.
        shuffled: so many of its first rows are in no order: they are dealt to the weeks like cards.
    """

    path: str
    fields: tuple[Field, ...]
    time: str
    target: str
    frequency: Frequency = "week"
    key: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int | str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    formats: tuple[str, ...] = (cells.ISO,)
    units: Mapping[str, str] = field(default_factory=dict)
    form: Form = PLAIN
    rows_per_period: int = 0
    shuffled: int = 0

    def periods(self) -> list[str]:
        """Every period that has rows; of a table without time, every full one."""
        return _periods(self, stamp(place(self.path)))

    def read(self, period: Period) -> pd.DataFrame:
        """The events of a period: `key`, fields, and `outcome` as the table has it."""
        source, parts = place(self.path), []
        wanted = self._wanted(source)
        for first, part in frames(source, self.form, wanted, self._around(source, period)):
            numbered = part.assign(**{PLACE: np.arange(first, first + len(part))})
            parts.append(numbered[self._inside(numbered, period)])
        return self._shaped(pd.concat(parts, ignore_index=True))

    def read_file(self, path: Path) -> pd.DataFrame:
        """A batch in the table's own columns, or labels alone: the columns of the key, the target.

        Raises:
            RefusedError: if a column is there that the table does not have.
        """
        names = columns_of(path, self.form)
        parts = [part for _, part in frames(path, self.form, names)]
        batch = pd.concat(parts, ignore_index=True)
        named = self._names_events(names) or (bool(self.key) and {*self.key} <= set(names))
        if named and not {self._column(self.time)} <= set(names) - set(self.key):
            return self._labels_alone(batch)
        return self._shaped(batch.drop(columns=[n for n in self.left_out if n in names]))

    def _names_events(self, names: Iterable[str]) -> bool:
        """Whether a column `key` is not the table's own, but what Evergreen calls an event."""
        mine = {self.target, *self.key, *(self._column(each.name) for each in self.fields)}
        return KEY in names and KEY not in mine

    def prepare(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Key and fields."""
        return batch.drop(columns=OUTCOME, errors="ignore")

    def outcomes(self, batch: pd.DataFrame) -> pd.DataFrame | None:
        """What became of the events; None if the batch does not say it."""
        if OUTCOME not in batch:
            return None
        label = self.labels_of(batch[OUTCOME])
        return pd.DataFrame({KEY: batch[KEY], "label": label, "excluded": None})

    def labels_of(self, column: pd.Series) -> pd.Series:
        """Cells of the target as labels; missing where nothing is known."""
        found = cells.text(column)
        known = found.notna() & ~found.fillna("").str.casefold().isin(cells.MISSING)
        known |= found.isin([*self.labels])
        if self.labels:
            return found.map(lambda cell: self.labels.get(cell, cell)).where(known, None)
        numbers = self._numbers(column).astype(object)
        return numbers.where(known, None)

    def _numbers(self, column: pd.Series) -> pd.Series:
        return cells.numbers(column, self.form.decimal, self.units.get(str(column.name), ""))

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _wanted(self, source: Path) -> list[str]:
        """The columns that are read, in the order of the file.

        Raises:
            EvergreenError: naming those that the table does not have.
        """
        names = columns_of(source, self.form)
        made = {self.time} if self.rows_per_period else set()
        mine = {self._column(each.name) for each in self.fields if each.name not in made}
        mine |= {self.target, *self.key}
        if missing := sorted(mine - set(names)):
            raise EvergreenError(
                f"{source} has no column {', '.join(map(repr, missing))} (it has: "
                f"{', '.join(map(repr, names))}): correct `columns` of the problem's table"
            )
        return [name for name in names if name in mine]

    def _around(self, source: Path, period: Period) -> ds.Expression | None:
        """What parquet itself can leave out: rows whose time is far from the period."""
        if self.rows_per_period or source.suffix != ".parquet":
            return None
        name = self._column(self.time)
        kind = ds.dataset(source).schema.field(name).type
        if not pa.types.is_timestamp(kind):
            return None
        first, last = (
            pa.scalar(pd.Timestamp(moment, tz=kind.tz), kind)
            for moment in (period.start - timedelta(days=1), period.end + timedelta(days=1))
        )
        return (ds.field(name) >= first) & (ds.field(name) < last)

    def _inside(self, part: pd.DataFrame, period: Period) -> np.ndarray:
        moments = self.moments(part)
        return np.asarray((moments >= period.start) & (moments < period.end))

    def moments(self, part: pd.DataFrame) -> pd.Series:
        """The event time of each row; missing where it cannot be read."""
        if self.rows_per_period:
            week = timedelta(days=7) / self.rows_per_period
            found = ORIGIN + self.turns(part[PLACE]) * pd.Timedelta(week)
            return pd.Series(found).astype("datetime64[us]")
        return cells.readable_moments(part[self._column(self.time)], self.formats)

    def turns(self, places: pd.Series) -> pd.Series:
        """Whose turn it is: the place of each row in the order of arrival, by that in the table."""
        if not self.shuffled:
            return places
        dealt, old = _dealt(self.shuffled), places < self.shuffled
        return places.where(~old, dealt[places.where(old, 0).to_numpy(dtype=np.int64)])

    def _shaped(self, part: pd.DataFrame) -> pd.DataFrame:
        """Rows as the table has them in the names and types of the fields.

        A cell of another type stays as it is, so that the contract finds it.
        """
        found = {}
        for each in self.fields:
            if each.name == self.time and self.rows_per_period and PLACE in part:
                found[each.name] = self.moments(part)
            elif (column := self._column(each.name)) in part:
                found[each.name] = self._typed(part[column], each)
        known = {*map(self._column, found), self.target, *self.key, PLACE, LABELLED_AT}
        rest = {name: part[name] for name in part.columns if name not in known}
        named = {OUTCOME: part[self.target]} if self.target in part else {}
        if LABELLED_AT in part:
            named[LABELLED_AT] = part[LABELLED_AT]
        shaped = pd.DataFrame({KEY: self._keys(part), **found, **named, **rest})
        return shaped.drop_duplicates(ignore_index=True) if self.key else shaped

    def _typed(self, column: pd.Series, each: Field) -> pd.Series:
        if each.kind == "timestamp":
            return cells.moments(column, self.formats if each.name == self.time else (cells.ISO,))
        return cells.text(column) if each.kind == "text" else self._numbers(column)

    def _keys(self, part: pd.DataFrame) -> pd.Series:
        """What names each row: its key columns, its place, or a hash of its fields.

        Rows of the same content are numbered.
        """
        if self.key:
            return _joined(part, self.key, "|")
        if self.rows_per_period and PLACE in part:
            return part[PLACE].map("row-{:09d}".format)
        names = [self._column(each.name) for each in self.fields]
        said = _joined(part, [name for name in names if name in part], "\x1f")
        hashed = pd.Series(pd.util.hash_array(said.to_numpy(dtype=object)), part.index)
        again = hashed.groupby(hashed).cumcount()
        return hashed.map("{:016x}".format) + again.map(lambda n: f"-{n}" if n else "")

    def _labels_alone(self, batch: pd.DataFrame) -> pd.DataFrame:
        if self.target not in batch and "label" not in batch:
            raise RefusedError(
                f"the file has neither the event time {self._column(self.time)!r} nor the outcome "
                f"{self.target!r}: deliver whole rows, or labels"
            )
        label = self.labels_of(batch[self.target if self.target in batch else "label"])
        events = self._names_events(batch.columns)
        key = cells.text(batch[KEY]) if events else _joined(batch, self.key, "|")
        found = pd.DataFrame({KEY: key, "label": label})
        for name in {LABELLED_AT, "excluded"} & set(batch.columns):
            found[name] = cells.text(batch[name])
        return found


def _joined(part: pd.DataFrame, columns: Iterable[str], between: str) -> pd.Series:
    """The text of some columns in one; missing if there is only one, and it is."""
    texts = [cells.text(part[name]) for name in columns]
    if len(texts) == 1:
        return texts[0]
    whole = texts[0].fillna("?")
    for each in texts[1:]:
        whole = whole + between + each.fillna("?")
    return whole


@lru_cache(maxsize=2)
def _dealt(rows: int) -> np.ndarray:
    """A shuffled deck of 0 to `rows` - 1, always the same."""
    hashed = pd.util.hash_array(np.arange(rows, dtype=np.int64))
    turns = np.empty(rows, dtype=np.int64)
    turns[np.argsort(hashed, kind="stable")] = np.arange(rows)
    return turns


@lru_cache(maxsize=8)
def _periods(table: Table, changed: tuple[int, int]) -> list[str]:
    path = place(table.path)
    time = [table._column(table.time)]
    if table.rows_per_period:
        rows = sum(len(part) for _, part in frames(path, table.form, [table.target]))
        weeks = range(rows // table.rows_per_period)
        return [Period.of(ORIGIN + timedelta(weeks=w), "week").name for w in weeks]
    days: set[datetime] = set()
    for _, part in frames(path, table.form, time):
        days |= set(table.moments(part).dropna().dt.floor("D").dt.to_pydatetime())
    return sorted({Period.of(day, table.frequency).name for day in days})
