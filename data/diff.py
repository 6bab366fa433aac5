"""What differs between two versions of `data/raw`: files, keys, schema, distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.changes import FileChange, Keys, keys_of
from data.contracts import KEY
from data.drift import psi
from data.labels import LABELLED_AT, known
from data.partitions import LABELS, ROWS, joined, kind_of, label_files
from data.periods import Period
from data.reference import Histogram, bin_edges
from data.versions import Version

BINS = 10
TOP = 3
QUANTILES = (0.05, 0.5, 0.95)

_Values: TypeAlias = "pd.Series[Any] | None"


@dataclass(frozen=True)
class ColumnType:
    """A column whose type differs; None where the version does not have it."""

    file_kind: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Summary:
    """A column in one version.

    Attributes:
        rows: how many.
        nulls: share of missing values.
        mean: of numbers.
        quantiles: 5, 50 and 95 % of numbers and timestamps.
        top: the most frequent texts with their shares.
    """

    rows: int
    nulls: float
    mean: float | None = None
    quantiles: tuple[str, ...] = ()
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Distribution:
    """A column of both versions; `psi` is None for timestamps and where the kinds differ."""

    file_kind: str
    name: str
    before: Summary | None
    after: Summary | None
    psi: float | None


@dataclass(frozen=True)
class _Table:
    """The verified files of one kind in one version, with their schemas, oldest period first.

    Attributes:
        counts: which rows count, for files with labels that a correction may have replaced.
    """

    schemas: Mapping[Path, pa.Schema]
    counts: Mapping[Path, np.ndarray]

    @classmethod
    def of(cls, version: Version, kind: str) -> "_Table":
        paths = [version.path(name) for name in sorted(version.manifest) if kind_of(name) == kind]
        counts: dict[Path, np.ndarray] = {}
        for period in version.periods() if kind == LABELS else []:
            names = label_files(version.manifest, Period.parse(period))
            if len(names) > 1:
                counts |= _counts([version.path(name) for name in names])
        return cls({path: pq.read_schema(path) for path in paths}, counts)

    def types(self) -> dict[str, str]:
        """Column -> its type; several where files do not agree, wholly missing ones aside."""
        found: dict[str, set[str]] = {}
        for schema in self.schemas.values():
            for field in schema:
                found.setdefault(field.name, set()).add(str(field.type))
        return {
            name: " or ".join(sorted(types - {"null"} or types)) for name, types in found.items()
        }

    def column(self, name: str) -> _Values:
        """One column over all periods; None if no file has it."""
        paths = [path for path, schema in self.schemas.items() if name in schema.names]
        if not paths:
            return None
        parts = [self._read(path, name) for path in paths]
        known = [part for part in parts if part.notna().any()] or parts[:1]
        values = pd.concat(known, ignore_index=True)
        return values.reindex(range(sum(map(len, parts))))

    def _read(self, path: Path, name: str) -> "pd.Series[Any]":
        values = pd.read_parquet(path, columns=[name])[name]
        return values[self.counts[path]] if path in self.counts else values


def _counts(paths: Sequence[Path]) -> dict[Path, np.ndarray]:
    """Which rows of a period's labels are the newest of their event, file by file."""
    parts = [pd.read_parquet(path, columns=[KEY, LABELLED_AT]) for path in paths]
    every = joined(parts)
    mask = np.isin(np.arange(len(every)), known(every).index)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return dict(zip(paths, np.split(mask, ends), strict=True))


@dataclass(frozen=True)
class Diff:
    """Everything that differs from A to B; distributions cover all rows, largest PSI first."""

    a: str
    b: str
    periods_added: tuple[str, ...]
    periods_removed: tuple[str, ...]
    rows: tuple[int, int]
    files: tuple[FileChange, ...]
    keys: dict[str, Keys]
    schema: tuple[ColumnType, ...]
    distributions: tuple[Distribution, ...]


def diff(a: Version, b: Version) -> Diff:
    """Compare two versions; only what differs is read in full.

    Raises:
        EvergreenError: if a file that has to be read is damaged.
    """
    files = _files(a, b)
    kinds = sorted({kind_of(f.name) for f in files}, reverse=True)
    before, after = set(a.periods()), set(b.periods())
    tables = [(kind, _Table.of(a, kind), _Table.of(b, kind)) for kind in kinds]
    return Diff(
        a=a.name,
        b=b.name,
        periods_added=tuple(sorted(after - before)),
        periods_removed=tuple(sorted(before - after)),
        rows=(a.rows(), b.rows()),
        files=files,
        keys={
            title(kind): keys_of(a, b, [f for f in files if kind_of(f.name) == kind])
            for kind in kinds
        },
        schema=tuple(column for table in tables for column in _schema(*table)),
        distributions=tuple(d for table in tables for d in _distributions(*table)),
    )


def title(kind: str) -> str:
    """What a kind of file is called."""
    return {ROWS: "rows", LABELS: "labels"}.get(kind, kind.removesuffix(".parquet").strip("."))


def _files(a: Version, b: Version) -> tuple[FileChange, ...]:
    found = []
    for name in sorted({*a.manifest, *b.manifest}):
        old, new = a.manifest.get(name), b.manifest.get(name)
        if old and new and old["sha256"] == new["sha256"]:
            continue
        change = "changed" if old and new else "added" if new else "removed"
        rows = (int(old["rows"]) if old else None, int(new["rows"]) if new else None)
        found.append(FileChange(name, change, rows))
    return tuple(found)


def _schema(kind: str, old: _Table, new: _Table) -> list[ColumnType]:
    before, after = old.types(), new.types()
    if not before or not after:
        return []
    return [
        ColumnType(title(kind), name, before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _distributions(kind: str, old: _Table, new: _Table) -> list[Distribution]:
    columns = [name for name in {**old.types(), **new.types()} if name != KEY]
    found = [_distribution(kind, name, old.column(name), new.column(name)) for name in columns]
    return sorted(found, key=lambda d: -(d.psi if d.psi is not None else -1.0))


def _distribution(kind: str, name: str, old: _Values, new: _Values) -> Distribution:
    return Distribution(
        title(kind),
        name,
        None if old is None else _summary(old),
        None if new is None else _summary(new),
        None if old is None or new is None else _psi(old, new),
    )


def _is_number(values: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(values)


def _summary(values: "pd.Series[Any]") -> Summary:
    rows, nulls = len(values), float(values.isna().mean()) if len(values) else 0.0
    known = values.dropna()
    if not len(known):
        return Summary(rows, nulls)
    if _is_number(values):
        numbers = known.astype(float)
        quantiles = tuple(f"{q:.4g}" for q in numbers.quantile(list(QUANTILES)))
        return Summary(rows, nulls, float(numbers.mean()), quantiles)
    if pd.api.types.is_datetime64_any_dtype(values):
        moments = known.quantile(list(QUANTILES), interpolation="nearest")
        return Summary(rows, nulls, None, tuple(f"{m:%Y-%m-%d %H:%M}" for m in moments))
    counts = known.astype(str).value_counts().head(TOP)
    return Summary(rows, nulls, top=tuple((str(k), float(n / rows)) for k, n in counts.items()))


def _psi(old: "pd.Series[Any]", new: "pd.Series[Any]") -> float | None:
    """PSI of new against old; bins of equal weight in old for numbers, one per text."""
    if _is_number(old) and _is_number(new):
        x, y = old.to_numpy(float, na_value=np.nan), new.to_numpy(float, na_value=np.nan)
        bins = Histogram("", bin_edges(x, BINS), ())
        return psi(bins.count(x), bins.count(y))
    if _is_text(old) and _is_text(new):
        before, after = old.value_counts(dropna=False), new.value_counts(dropna=False)
        every = before.index.union(after.index, sort=False)
        counts = [c.reindex(every, fill_value=0).to_numpy() for c in (before, after)]
        return psi(counts[0], counts[1])
    return None


def _is_text(values: "pd.Series[Any]") -> bool:
    return not _is_number(values) and not pd.api.types.is_datetime64_any_dtype(values)
