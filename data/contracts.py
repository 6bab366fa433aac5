"""Pandera models for each boundary, and one `check` that turns their findings into one error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from data.errors import EvergreenError
from data.features import Columns
from data.fields import Field

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
        "label": pa.Column("float64", pa.Check.isin([0.0, 1.0]), nullable=True),
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


def rows_schema(fields: Sequence[Field]) -> pa.DataFrameSchema:
    """The contract of a partition's rows: the key and every field of a request."""
    columns = {field.name: _column(field) for field in fields}
    return pa.DataFrameSchema(
        {KEY: pa.Column("str", unique=True), **columns}, strict=True, coerce=True, ordered=False
    )


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
