"""Cells of a table as people write them: names, numbers and moments."""

import keyword
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "nat", "?", "-"})
WORDS = frozenset({"none"})  # of these, what may name an outcome
ISO = "ISO8601"
EPOCHS = {"epoch seconds": 1_000_000, "epoch milliseconds": 1_000}  # microseconds of one
SIGNS = re.compile(r"[\s\u00a0$€£¥%']|\b(?:USD|EUR|GBP)\b")
MEASURED = re.compile(r"^[^A-Za-z]*\d[^A-Za-z]*?\s*([A-Za-zµ°²³][A-Za-zµ°²³/]{0,11}\.?)$")
READABLE = 0.95  # share of the cells that have to be of a type
GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
RESERVED = frozenset(
    {"key", "label", "excluded", "labelled_at", "outcome", "request_id", "model_version", "digest",
     "probability", "degraded", "value", "score", "period", "day"}
)  # fmt: skip


def slug(text: str, taken: Collection[str] = ()) -> str:
    """A name for a field: lower-case letters, digits and underscores, and not taken yet."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "_", letters.casefold()).strip("_")[:40].strip("_")
    if not plain or not plain[0].isalpha():
        plain = f"field_{plain}".rstrip("_")
    if keyword.iskeyword(plain) or plain in RESERVED:
        plain += "_of_row"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def text(column: pd.Series) -> pd.Series:
    """Cells as text without spaces around it; an empty one is missing."""
    known = column.notna()
    if column.dtype.kind in "iufb":
        cells = column.astype(object).map(_plain, na_action="ignore")
    else:
        cells = column.astype(object).map(str, na_action="ignore").str.strip()
    cells = cells.astype(object)
    return cells.where(known & (cells != ""), None)


def _plain(value: Any) -> str:
    """A number as people write it: 7 and not 7.0."""
    return str(int(value)) if float(value).is_integer() else str(value)


def unit_of(known: pd.Series) -> str:
    """What (nearly) all cells have after their number, such as mm; empty if they differ."""
    after = known.str.extract(MEASURED, expand=False)
    unit = after.mode()
    return str(unit[0]) if len(unit) and (after == unit[0]).mean() >= READABLE else ""


def numbers(column: pd.Series, decimal: str = ".", unit: str = "") -> pd.Series:
    """Cells as float64; where one is no number the column is of objects, and it stays as it is.

    Args:
        unit: what may follow a number, as `unit_of` finds it.
    """
    if column.dtype.kind in "iufb":
        return column.astype("float64")
    whole = text(column)
    cells = whole.str.removesuffix(unit).str.rstrip() if unit else whole
    found = (
        pd.to_numeric(cells, errors="coerce") if decimal == "." else pd.Series(np.nan, cells.index)
    )
    left = found.isna() & cells.notna()
    if left.any():
        each = {cell: _number(cell, decimal) for cell in cells[left].unique()}
        found = found.where(~left, cells.map(each)).astype("float64")
    return _or_as_it_is(found, whole, lambda cell: cell.casefold() in MISSING)


def hashed(part: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """A hash of some cells of each row, shape (n,)."""
    found = np.zeros(len(part), np.uint64)
    for name in names:
        own = pd.util.hash_array(text(part[name]).fillna("").to_numpy(dtype=object))
        found = found * np.uint64(1_000_003) ^ own
    return found


def _number(cell: str, decimal: str) -> float:
    """One cell with signs of money, per cent and thousands; NaN if it is no number."""
    bare = SIGNS.sub("", cell)
    if bare.startswith("(") and bare.endswith(")"):
        bare = f"-{bare[1:-1]}"
    if decimal == ",":
        bare = bare.translate(str.maketrans(",.", ".,"))
    if GROUPED.fullmatch(bare):
        bare = bare.replace(",", "")
    try:
        return float(bare) if "_" not in bare else np.nan
    except ValueError:
        return np.nan


def moments(column: pd.Series, formats: Sequence[str]) -> pd.Series:
    """Cells as datetime64[us] without zone (those with one in UTC), by the first format that fits.

    Where a cell fits none the column is of objects, and the cell stays as it is.
    """
    found = readable_moments(column, formats)
    return _or_as_it_is(found, text(column), lambda cell: cell.casefold() in MISSING)


def readable_moments(column: pd.Series, formats: Sequence[str]) -> pd.Series:
    """The same; a cell that fits none is missing."""
    if column.dtype.kind == "M":
        return _naive(column)
    cells = text(column)
    found = pd.Series(np.datetime64("NaT", "us"), cells.index)
    for form in formats:
        left = found.isna() & cells.notna()
        if left.any():
            found[left] = parsed(cells[left], form)
    return found


def parsed(cells: pd.Series, form: str) -> pd.Series:
    """Text as moments by one format; missing where it does not fit."""
    if form in EPOCHS:
        ticks = pd.to_numeric(cells, errors="coerce") * EPOCHS[form]
        ticks = ticks.where(ticks.abs() < 2**62)
        return pd.to_datetime(ticks, unit="us", errors="coerce").astype("datetime64[us]")
    found: pd.Series = pd.to_datetime(cells, format=form, errors="coerce", utc=True)
    return _naive(found)


def _naive(column: pd.Series) -> pd.Series:
    if hasattr(column.dtype, "tz"):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column.astype("datetime64[us]")


def _or_as_it_is(found: pd.Series, cells: pd.Series, missing: Callable[[str], bool]) -> pd.Series:
    strange = found.isna() & cells.notna()
    strange &= ~cells.map(missing, na_action="ignore").eq(True)
    return found.astype(object).where(~strange, cells) if strange.any() else found
