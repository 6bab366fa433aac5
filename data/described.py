"""What the columns of a table look like: how the file is written, their types, ranges and words."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log10
from pathlib import Path

import numpy as np
import pandas as pd

from data import cells
from data.errors import EvergreenError
from data.fields import Kind
from data.table_files import Form, columns_of, frames

SAMPLE = 200_000  # rows that are looked at
ENCODINGS = ("utf8", "cp1252", "latin-1")
DELIMITERS = (",", ";", "\t", "|")
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y",
        "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y",
        "%B %d, %Y")  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
FORMATS = (cells.ISO, *(day + clock for day in DAYS for clock in CLOCKS))
WORDS = 12  # a text field of at most so many values, each of them common, is closed
COMMON = 20  # rows
MANY = 30  # values from which on a text is known by its past rate
CODES = ("id", "uuid", "key", "code")  # of things, by the names of their columns
LONG = 60  # letters on average: free text


@dataclass(frozen=True)
class Described:
    """A column of the sample.

    Attributes:
        kind: its type; `strange` is the share of known cells that are of another one.
        missing: share of cells without a value; `distinct`: how many different ones.
        minimum, maximum: of a number.
        words: of a text with few values, the most frequent first.
        formats: of a timestamp.
        unclear: day and month could be either way round.
        unit: of a number, where it is written after each.
    """

    column: str
    kind: Kind
    missing: float
    strange: float
    distinct: int
    rows: int
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()
    closed: bool = False
    long: bool = False
    rising: bool = False
    formats: tuple[str, ...] = ()
    unclear: bool = False
    unit: str = ""

    @property
    def known(self) -> int:
        return round(self.rows * (1 - self.missing))


def form_of(path: Path) -> Form:
    """How a CSV is written, from its first lines."""
    if path.suffix == ".parquet":
        return Form()
    with path.open("rb") as file:
        start = file.read(2**20)
    encoding = next(each for each in ENCODINGS if _fits(start, each))
    lines = start.decode(encoding, errors="replace").splitlines()[:50]
    delimiter = max(DELIMITERS, key=lambda each: _regular(lines, each))
    return Form(delimiter, encoding)


def _fits(start: bytes, encoding: str) -> bool:
    """Whether the beginning of a file is text in an encoding; it may end within a letter."""
    try:
        start.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 3
    return True


def _regular(lines: Sequence[str], delimiter: str) -> float:
    """Columns that a delimiter makes of the first line, if most lines have as many."""
    try:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return 0.0
    return counts[0] * sum(n == counts[0] for n in counts) / len(counts) if counts else 0.0


def sample(path: Path, form: Form) -> pd.DataFrame:
    """Up to `SAMPLE` rows from all over the table, in its order.

    Raises:
        EvergreenError: if it has no rows.
    """
    names, parts, rows = columns_of(path, form), [], 0
    step = 1
    for first, part in frames(path, form, names):
        rows += len(part)
        parts.append(part.iloc[-first % step :: step] if step > 1 else part)
        if sum(map(len, parts)) > 2 * SAMPLE:
            step *= 2
            parts = [each.iloc[::2] for each in parts]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if found.empty:
        raise EvergreenError(f"{path} has columns but no rows: there is nothing to learn from")
    return found.iloc[:: max(len(found) // SAMPLE, 1)].reset_index(drop=True)


def describe(column: pd.Series, decimal: str = ".") -> Described:
    """What a column is: a number, a moment, or else text."""
    name = str(column.name)
    words = cells.text(column)
    known = words[words.notna()]
    known = known[~known.str.casefold().isin(cells.MISSING)]
    if column.dtype.kind == "M":
        return _timestamp(name, words, known, (cells.ISO,), 0.0, False)
    if known.empty:
        return Described(name, "text", 1.0, 0.0, 0, len(column))
    unit, numbers = "", cells.numbers(column, decimal)
    readable = pd.to_numeric(numbers, errors="coerce")[known.index].notna().mean()
    if readable < cells.READABLE and (unit := cells.unit_of(known)):
        numbers = cells.numbers(column, decimal, unit)
        readable = pd.to_numeric(numbers, errors="coerce")[known.index].notna().mean()
    coded = column.dtype.kind not in "iufb" and known.str.fullmatch(r"0\d+").any()
    if readable >= cells.READABLE and not coded:  # 00712 is a code
        return replace(_number(name, column, numbers, known, readable), unit=unit)
    formats, unread, unclear = formats_of(known)
    if formats and unread <= 1 - cells.READABLE:
        return _timestamp(name, words, known, formats, unread, unclear)
    return _text(name, words)


def described_text(column: pd.Series) -> Described:
    """A column as text, whatever it looks like."""
    return _text(str(column.name), cells.text(column))


def is_code(column: str, d: Described) -> bool:
    """Whether whole numbers name things: by the column's name, and because there are many."""
    named = set(cells.slug(column).split("_")) & set(CODES)
    return d.kind == "integer" and d.distinct > MANY and bool(named)


def _number(
    name: str, column: pd.Series, numbers: pd.Series, known: pd.Series, readable: float
) -> Described:
    values = pd.to_numeric(numbers, errors="coerce")[known.index].dropna().to_numpy(float)
    values = values[np.isfinite(values)]
    whole = bool((values == np.floor(values)).all()) and len(values) > 0
    written = column.dtype.kind in "iub" or not known.str.contains(r"[.,]", regex=True).any()
    return Described(
        name,
        "integer" if whole and (written or column.dtype.kind == "f") else "number",
        1 - len(known) / len(column),
        1 - readable,
        len(np.unique(values)),
        len(column),
        float(values.min()) if len(values) else None,
        float(values.max()) if len(values) else None,
        rising=bool((np.diff(values) > 0).all()),
    )


def _timestamp(
    name: str,
    words: pd.Series,
    known: pd.Series,
    formats: tuple[str, ...],
    strange: float,
    unclear: bool,
) -> Described:
    missing = 1 - len(known) / len(words)
    distinct = known.nunique()
    return Described(
        name, "timestamp", missing, strange, distinct, len(words), formats=formats, unclear=unclear
    )


def _text(name: str, words: pd.Series) -> Described:
    counts = words.value_counts()
    common = bool((counts >= COMMON).all())
    return Described(
        name,
        "text",
        float(words.isna().mean()),
        0.0,
        len(counts),
        len(words),
        words=tuple(map(str, counts.index[:100])),
        closed=len(counts) <= WORDS and common,
        long=bool(words.dropna().str.len().mean() > LONG),
    )


def formats_of(known: pd.Series) -> tuple[tuple[str, ...], float, bool]:
    """The formats by which text reads as moments, what share none reads, and whether that is sure.

    A column may mix formats. Where day and month may be either way round, those that fit all cells
    win, and where both do the day comes first.
    """
    left, chosen, unclear = known.drop_duplicates(), list[str](), False
    if not left.str.contains(r"\d").mean() >= cells.READABLE:
        return (), 1.0, False
    total = len(left)
    while len(left):
        fits = {form: cells.parsed(left, form).notna().mean() for form in _likely(left)}
        best = max(fits, key=lambda form: fits[form], default="")
        if not best or fits[best] * len(left) < max(0.001 * total, 1):
            break
        swapped = best.replace("%d", "%~").replace("%m", "%d").replace("%~", "%m")
        unclear |= swapped != best and fits.get(swapped) == fits[best] and "%b" not in best
        chosen.append(best)
        left = left[cells.parsed(left, best).isna()]
    return tuple(chosen), len(left) / total, unclear


def _likely(values: pd.Series) -> list[str]:
    """The formats that fit any of the first values; all are too many to try on all."""
    few = values.iloc[:: max(len(values) // 200, 1)]
    return [form for form in FORMATS if cells.parsed(few, form).notna().any()]


def rounded(value: float, up: bool) -> float:
    """Away from the data to two digits: 1,234 up is 1,300."""
    if value == 0 or not np.isfinite(value):
        return 0.0
    unit = 10.0 ** (floor(log10(abs(value))) - 1)
    return float(f"{(np.ceil if up else np.floor)(value / unit) * unit:.10g}")
