"""A CSV or a parquet file, read in parts; cells of a CSV stay text."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds

from data.errors import EvergreenError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
SMALL = 256 * 2**20  # bytes of a file that is kept in memory
BATCH = 2**17  # rows


@dataclass(frozen=True)
class Form:
    """How a file is written; parquet says it itself."""

    delimiter: str = ","
    encoding: str = "utf8"
    decimal: str = "."


def place(path: str) -> Path:
    """Where a table lies.

    Raises:
        EvergreenError: if there is none, or it is of another kind.
    """
    found = Path(__file__).parents[1] / path
    if not found.is_file():
        raise EvergreenError(
            f"the table {found} is not there: correct `path` of the problem's table"
        )
    if found.suffix not in SUFFIXES:
        raise EvergreenError(
            f"{found}: a table is one of {', '.join(SUFFIXES)}; unpack it, or export it as one"
        )
    return found


def stamp(path: Path) -> tuple[int, int]:
    """By which a changed file is known."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def header(path: Path, form: Form) -> tuple[list[str], int]:
    """The columns of a CSV, each by a name of its own, and how many lines they take.

    Raises:
        EvergreenError: if it has none.
    """
    encoding = "utf-8-sig" if form.encoding == "utf8" else form.encoding
    try:
        with path.open(newline="", encoding=encoding, errors="replace") as file:
            reader = csv.reader(file, delimiter=form.delimiter)
            names, lines = next(reader, []), reader.line_num
    except csv.Error as error:
        raise EvergreenError(f"{path}: its first line cannot be read ({error})") from error
    if not any(map(str.strip, names)):
        raise EvergreenError(f"{path} is empty: its first line names the columns")
    found: list[str] = []
    for number, name in enumerate(names, 1):
        plain = name.strip() or f"column {number}"
        while plain in found:
            plain += "'"
        found.append(plain)
    return found, lines


def columns_of(path: Path, form: Form) -> list[str]:
    """The columns of a table, in its order."""
    if path.suffix == ".parquet":
        return list(_parquet(path).schema.names)
    return header(path, form)[0]


def frames(
    path: Path, form: Form, columns: list[str], around: ds.Expression | None = None
) -> Iterator[tuple[int, pd.DataFrame]]:
    """The table in parts, each with the number of its first row; a small one is one part.

    Cells of a CSV are text, an empty one too.

    Raises:
        EvergreenError: if the file cannot be read.
    """
    if path.stat().st_size <= SMALL:
        whole = _whole(path, form, stamp(path))
        yield 0, whole[columns]
        return
    first = 0
    for batch in _reading(path, form).to_batches(columns=columns, batch_size=BATCH, filter=around):
        yield first, batch.to_pandas()
        first += len(batch)


@lru_cache(maxsize=2)
def _whole(path: Path, form: Form, changed: tuple[int, int]) -> pd.DataFrame:
    try:
        found: pd.DataFrame = _reading(path, form).to_table().to_pandas()
        return found
    except (pa.ArrowException, OSError, ValueError) as error:
        raise EvergreenError(f"{path} cannot be read: {error}") from error


def _reading(path: Path, form: Form) -> Any:
    if path.suffix == ".parquet":
        return _parquet(path)
    names, lines = header(path, form)
    reading = ds.CsvFileFormat(
        parse_options=pa_csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
        read_options=pa_csv.ReadOptions(
            column_names=names, skip_rows=lines, encoding=form.encoding
        ),
        convert_options=pa_csv.ConvertOptions(strings_can_be_null=False),
    )
    schema = pa.schema([(name, pa.string()) for name in names])
    return ds.dataset(path, schema=schema, format=reading)


def _parquet(path: Path) -> Any:
    try:
        return ds.dataset(path)
    except (pa.ArrowException, OSError) as error:
        raise EvergreenError(f"{path} cannot be read as parquet: {error}") from error
