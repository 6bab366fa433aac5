"""Pandera models for each boundary, and one `check` that turns their findings into one error."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from data.errors import EvergreenError
from data.features import Columns
from data.fields import Field
from data.problem import Problem, RowRule

KEY = "key"
DTYPES: dict[str, Any] = {
    "text": "str",
    "number": "float64",
    "integer": "Int64",
    "timestamp": "datetime64[us]",
}

LABELS = pa.DataFrameSchema(
    {
        KEY: pa.Column("str", unique=True),
        "label": pa.Column("float64", nullable=True),
        "excluded": pa.Column("str", nullable=True),
        "labelled_at": pa.Column("datetime64[us]"),
    },
    checks=pa.Check(
        lambda frame: frame["label"].isna() | frame["excluded"].isna(),
        name="labelled_or_excluded",
        error="an event has a label or a reason why it has none, not both",
    ),
    strict=True,
    coerce=True,
)


def rows_schema(fields: Sequence[Field], rules: Sequence[RowRule] = ()) -> pa.DataFrameSchema:
    """The contract of a partition's rows: the key, every field of a request, the row rules."""
    return _schema({KEY: pa.Column("str", unique=True)}, fields, rules)


def source_schema(problem: Problem) -> pa.DataFrameSchema:
    """The contract of the source's own form, as far as `prepare` reads it."""
    return _schema({}, problem.source, problem.source_rules)


def _schema(
    key: dict[str, pa.Column], fields: Sequence[Field], rules: Sequence[RowRule]
) -> pa.DataFrameSchema:
    columns = {field.name: _column(field) for field in fields}
    return pa.DataFrameSchema(
        {**key, **columns},
        checks=[_across(rule) for rule in rules],
        strict=True,
        coerce=True,
        ordered=False,
    )


def _across(rule: RowRule) -> pa.Check:
    return pa.Check(rule.holds, name=rule.name, error=rule.name)


def _column(field: Field) -> pa.Column:
    checks = []
    if field.minimum is not None:
        checks.append(pa.Check.ge(field.minimum))
    if field.maximum is not None:
        checks.append(pa.Check.le(field.maximum))
    if field.values is not None:
        checks.append(pa.Check.isin(list(field.values)))
    if field.kind == "number":
        checks.append(pa.Check(lambda column: ~np.isinf(column), name="finite"))
    return pa.Column(DTYPES[field.kind], checks, nullable=field.nullable, title=field.doc)


def check(schema: pa.DataFrameSchema, frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The frame in the schema's types.

    Args:
        what: names the batch in the error.

    Raises:
        EvergreenError: naming every column and rule that is broken, how often, and where first.
    """
    try:
        return schema.validate(frame, lazy=True)[list(schema.columns)]
    except pa.errors.SchemaErrors as error:
        raise EvergreenError(f"{what} breaks the contract: {_findings(error)}") from error


@dataclass(frozen=True)
class Typed:
    """A delivered frame in the contract's types.

    Attributes:
        rows: `key` and fields in order; a cell of another type is missing here.
        wrong: True where a cell had another type; same shape and index as `rows`.
    """

    rows: pd.DataFrame
    wrong: pd.DataFrame


def typed(problem: Problem, frame: pd.DataFrame) -> Typed:
    """Each cell in its field's type, or marked as wrong; the columns must all be there."""
    return _typed(frame, {KEY: "text", **{field.name: field.kind for field in problem.fields}})


def typed_source(problem: Problem, frame: pd.DataFrame) -> Typed:
    """The same for the source's own form."""
    return _typed(frame, {field.name: field.kind for field in problem.source})


def _typed(frame: pd.DataFrame, kinds: dict[str, str]) -> Typed:
    frame = frame.reset_index(drop=True)
    found = {name: _cells(frame[name], kind) for name, kind in kinds.items()}
    return Typed(
        pd.DataFrame({name: values for name, (values, _) in found.items()}),
        pd.DataFrame({name: wrong for name, (_, wrong) in found.items()}),
    )


def _cells(column: pd.Series, kind: str) -> tuple[pd.Series, pd.Series]:
    """The column as `kind`, and which cells are something else."""
    if kind == "timestamp" and column.dtype.kind == "M" and not hasattr(column.dtype, "tz"):
        return column.astype(DTYPES[kind]), pd.Series(False, column.index)
    if kind == "number" and column.dtype.kind in "iuf":
        return column.astype("float64"), pd.Series(False, column.index)
    if kind == "text" and column.dtype == "str":
        return column.astype(DTYPES[kind]), pd.Series(False, column.index)
    known, cells = column.notna(), column.astype(object)
    right = cells.map(lambda cell: _is(cell, kind)).astype(bool)
    cells = cells.where(right)
    if kind == "timestamp":
        values = pd.to_datetime(cells, errors="coerce", format="ISO8601")
    elif kind == "text":
        return cells.astype(DTYPES[kind]), known & ~right
    else:
        values = pd.to_numeric(cells, errors="coerce")
    return values.astype(DTYPES[kind]), known & values.isna()


def _is(cell: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(cell, str)
    if kind == "timestamp":
        return isinstance(cell, str) or (isinstance(cell, datetime) and cell.tzinfo is None)
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, int | float | np.number):
        return False
    return kind == "number" or float(cell).is_integer()


@dataclass(frozen=True)
class Sifted:
    """Rows that keep every row rule, and what the others break.

    Attributes:
        rows: those that keep all, in the order of the batch.
        broken: one line for each broken rule of a row: `row` (its position), `rule`, `column`.
    """

    rows: pd.DataFrame
    broken: pd.DataFrame


def sift(problem: Problem, found: Typed, earlier: pd.DataFrame | None = None) -> Sifted:
    """Part the rows that keep the contract from those that break it.

    Args:
        earlier: what rows broke already in the source's own form; of these nothing else is said.
    """
    schema = rows_schema(problem.fields, problem.row_rules)
    broken, rows = _sift(schema, problem.row_rules, found)
    if earlier is not None and len(earlier):
        broken = broken[~broken["row"].isin(earlier["row"])]
        broken = pd.concat([earlier, broken]).sort_values("row", ignore_index=True)
    if len(broken):
        good = found.rows.drop(index=list(set(broken["row"])))
        rows = check(schema, good, "the rest") if len(good) else good
    return Sifted(rows[list(schema.columns)], broken)


def sift_source(problem: Problem, found: Typed) -> pd.DataFrame:
    """What rows in the source's own form break, as in `Sifted.broken`."""
    return _sift(source_schema(problem), problem.source_rules, found)[0]


def _sift(
    schema: pa.DataFrameSchema, rules: Sequence[RowRule], found: Typed
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the rows break, and the rows in the schema's types."""
    lines = [
        (int(row), "type", str(name))
        for name in found.wrong
        for row in np.flatnonzero(found.wrong[name])
    ]
    rows = found.rows
    try:
        rows = schema.validate(found.rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        lines += _broken(error.failure_cases, {rule.name: rule for rule in rules})
    wrong = {(row, column) for row, rule, column in lines if rule == "type"}
    kept = [
        line
        for line in dict.fromkeys(lines)
        if line[1] != "not_nullable" or (line[0], line[2]) not in wrong
    ]
    return pd.DataFrame(sorted(kept), columns=["row", "rule", "column"]), rows


def _broken(cases: pd.DataFrame, across: dict[str, RowRule]) -> list[tuple[int, str, str]]:
    """Pandera's failure cases as (row, rule, column)."""
    lines = []
    for rule, column, row in zip(cases["check"], cases["column"], cases["index"], strict=True):
        name = ", ".join(across[rule].columns) if rule in across else str(column)
        lines.append((int(row), str(rule), name))
    return lines


def _findings(error: pa.errors.SchemaErrors) -> str:
    """`temp: less_than_or_equal_to(120.0) fails in 3 rows, first row 17 (212.0)`; …"""
    findings = []
    cases = error.failure_cases
    for (column, rule), found in cases.groupby(["column", "check"], sort=False, dropna=False):
        if rule == "column_in_dataframe":
            findings.append(f"column {found['failure_case'].iloc[0]!r} is missing")
        elif rule == "column_in_schema":
            findings.append(f"column {found['failure_case'].iloc[0]!r} is not in the contract")
        elif found["index"].isna().all():
            findings.append(f"{column}: {rule} ({found['failure_case'].iloc[0]})")
        else:
            first = found.iloc[0]
            findings.append(
                f"{column}: {rule} fails in {len(found)} row{'s' if len(found) > 1 else ''}, "
                f"first in row {first['index']} ({first['failure_case']!r})"
            )
    return "; ".join(findings)


def to_columns(rows: pd.DataFrame, fields: Sequence[Field]) -> Columns:
    """Checked rows as the numpy columns that `data.features` computes on."""
    columns = {}
    for field in fields:
        series = rows[field.name]
        if field.kind == "text":
            values = series.astype(object).to_numpy(dtype=object, copy=True)
            values[series.isna().to_numpy()] = None
        elif field.kind == "timestamp":
            values = series.to_numpy(dtype="datetime64[us]")
        else:
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        columns[field.name] = values
    return columns
