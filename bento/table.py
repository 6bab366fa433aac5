"""A parquet file as rows of a contract: columns in, features and refusals out, a batch at a time.

Text stays as Arrow's dictionary reads it, so that a feature of a text column is computed once for
each distinct value. The rules are those of a request (`bento.contract`); what JSON cannot say, such
as a missing column, is a fault of the file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, types

from bento.contract import EXACT_INTEGER, KEY, KEY_LENGTH, Contract
from data.errors import EvergreenError
from data.features import Category, Feature, HistoricalRate
from data.fields import Field, Kind

LARGEST = float(np.finfo(np.float64).max)
EARLIEST, LATEST = np.datetime64(datetime.min, "us"), np.datetime64(datetime.max, "us")


@dataclass(frozen=True)
class Text:
    """A text column: `values[codes]`, shape (n,); the last value is None, which code -1 finds."""

    codes: np.ndarray
    values: np.ndarray


Columns = Mapping[str, np.ndarray | Text]


@dataclass(frozen=True)
class Batch:
    """Rows of the file.

    Attributes:
        columns: raw columns of shape (n,), numbers as float64 with NaN where they are missing.
        key: as in the file; nulls if it has none.
        refused: for each row the first fault, or None, shape (n,).
    """

    columns: Columns
    key: pa.Array
    refused: np.ndarray

    def __len__(self) -> int:
        return len(self.refused)


def check_schema(schema: pa.Schema, contract: Contract, path: Path) -> list[str]:
    """The columns to read: those of the contract, and the key if there is one.

    Raises:
        EvergreenError: naming file and column, if one is missing or of another type.
    """
    names = [field.name for field in contract.fields]
    if missing := [name for name in names if name not in schema.names]:
        raise EvergreenError(
            f"{path} has no column {', '.join(map(repr, missing))}: the model needs "
            f"{', '.join(names)} (a nullable one may be null in every row)"
        )
    kinds: dict[str, Kind] = {field.name: field.kind for field in contract.fields}
    if KEY in schema.names:
        kinds[KEY] = "text"
    for name, kind in kinds.items():
        found = _plain(schema.field(name).type)
        if not (types.is_null(found) or READS[kind](found)):
            raise EvergreenError(
                f"{path}: column {name!r} is {found}, expected {EXPECTED[kind]}: cast it"
            )
    return list(kinds)


EXPECTED: dict[Kind, str] = {
    "text": "text",
    "number": "a number",
    "integer": "an integer",
    "timestamp": "a timestamp without zone",
}
READS: dict[Kind, Callable[[pa.DataType], bool]] = {
    "text": lambda kind: types.is_string(kind) or types.is_large_string(kind),
    "number": lambda kind: types.is_integer(kind) or types.is_floating(kind),
    "integer": lambda kind: types.is_integer(kind) or types.is_floating(kind),
    "timestamp": lambda kind: types.is_timestamp(kind) and kind.tz is None,
}


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def read(batch: pa.RecordBatch, contract: Contract) -> Batch:
    """A batch of a file whose schema was checked."""
    refused = np.full(len(batch), None, dtype=object)
    columns: dict[str, np.ndarray | Text] = {}
    for field in contract.fields:
        array = batch.column(field.name)
        column, faults = _column(array, field)
        if not field.nullable and missing(column).any():
            faults = [(missing(column), "expected a value, got null"), *faults]
        columns[field.name] = column
        _refuse(refused, field.name, faults)
    key = pa.nulls(len(batch), pa.string())
    if KEY in batch.schema.names:
        key = batch.column(KEY).cast(pa.string())
        long = compute.greater(compute.utf8_length(key), KEY_LENGTH).fill_null(False)
        faults = [
            (long.to_numpy(zero_copy_only=False), f"expected at most {KEY_LENGTH} characters")
        ]
        _refuse(refused, KEY, faults)
    return Batch(columns, key, refused)


Faults = list[tuple[np.ndarray, str]]


def _refuse(refused: np.ndarray, name: str, faults: Faults) -> None:
    """Note the first fault of each row: where, and what was expected, never the value."""
    for wrong, expected in faults:
        if wrong.any():
            refused[wrong & (refused == None)] = f"{name}: {expected}"  # noqa: E711, elementwise


def _column(array: pa.Array, field: Field) -> tuple[np.ndarray | Text, Faults]:
    """The raw column, and which of its values break the contract."""
    if field.kind == "text":
        return _text(array, field)
    if field.kind == "timestamp":
        moments = array.to_numpy(zero_copy_only=False).astype("datetime64[us]")
        outside = (moments < EARLIEST) | (moments > LATEST)
        return moments, [(outside, "expected a year from 1 to 9999")]
    return _number(array, field)


def _text(array: pa.Array, field: Field) -> tuple[Text, Faults]:
    if not types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    values = np.array([*array.dictionary.to_pylist(), None], dtype=object)
    column = Text(codes, values)
    if field.values is None:
        return column, []
    known = np.array([value is None or value in field.values for value in values])
    return column, [(~known[codes], "the value is not among those that the contract lists")]


def missing(column: np.ndarray | Text) -> np.ndarray:
    """Which rows have no value there, shape (n,); NaN in the file is none either."""
    if isinstance(column, Text):
        found = np.array([value is None for value in column.values])[column.codes]
    else:
        found = np.isnat(column) if column.dtype.kind == "M" else np.isnan(column)
    return np.asarray(found)


def _number(array: pa.Array, field: Field) -> tuple[np.ndarray, Faults]:
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    whole, limit = field.kind == "integer", EXACT_INTEGER if field.kind == "integer" else LARGEST
    lowest = -limit if field.minimum is None else field.minimum
    highest = limit if field.maximum is None else field.maximum
    # float64 does not hold every integer
    exact = array.fill_null(0).to_numpy() if types.is_integer(array.type) else values
    here = array.is_valid().to_numpy(zero_copy_only=False)
    fine = (exact >= lowest) & (exact <= highest)
    if whole:
        fine &= values == np.floor(values)
    if not (here & ~fine).any():
        return values, []
    return values, [
        (here & ~np.isfinite(values), "expected a finite number"),
        (here & (values != np.floor(values)) & whole, "expected an integer"),
        (here & (exact < lowest), f"expected at least {lowest:g}"),
        (here & (exact > highest), f"expected at most {highest:g}"),
    ]


def transform(features: Sequence[Feature], columns: Columns) -> np.ndarray:
    """The features of rows, shape (len(features), n), float32, missing as NaN.

    The numbers are those of `data.features.transform`; the layout is feature by feature.
    """
    return np.stack([_feature(feature, columns) for feature in features])


def _feature(feature: Feature, columns: Columns) -> np.ndarray:
    if isinstance(feature, Category | HistoricalRate):
        column = columns[feature.column]
        if isinstance(column, Text):
            of_values = feature.transform({feature.column: column.values}).astype(np.float32)
            return np.asarray(of_values[column.codes])
    plain = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
    return feature.transform(plain).astype(np.float32)


def unseen(
    columns: Columns, vocabularies: Mapping[str, frozenset[str]], rows: np.ndarray
) -> dict[str, int]:
    """For each open text field: how many of `rows` (n,) have a category new since training."""
    found = {}
    for name, vocabulary in vocabularies.items():
        column = columns[name]
        assert isinstance(column, Text)
        new = np.array([v is not None and v not in vocabulary for v in column.values])
        found[name] = int(new[column.codes[rows]].sum())
    return found
