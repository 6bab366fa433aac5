"""What differs between two versions of `data/raw`: files, keys, schema, distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.contracts import KEY
from data.drift import psi
from data.partitions import LABELS, ROWS, kind_of
from data.reference import Histogram, bin_edges
from data.versions import Version

BINS = 10
EXAMPLES = 5
TOP = 3
QUANTILES = (0.05, 0.5, 0.95)

_Values: TypeAlias = "pd.Series[Any] | None"


@dataclass(frozen=True)
class FileChange:
    """A file that only one version has, or that differs; `rows` as (in A, in B)."""

    name: str
    change: str
    rows: tuple[int | None, int | None]


@dataclass(frozen=True)
class Keys:
    """Keys of changed files; of files that came or went, all keys count."""

    added: int
    removed: int
    changed: int
    examples: dict[str, list[str]]


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
    """The verified files of one kind in one version, with their schemas, oldest period first."""

    schemas: Mapping[Path, pa.Schema]

    @classmethod
    def of(cls, version: Version, kind: str) -> "_Table":
        paths = [version.path(name) for name in sorted(version.manifest) if kind_of(name) == kind]
        return cls({path: pq.read_schema(path) for path in paths})

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
        parts = [pd.read_parquet(path, columns=[name])[name] for path in paths]
        known = [part for part in parts if part.notna().any()] or parts[:1]
        values = pd.concat(known, ignore_index=True)
        return values.reindex(range(sum(map(len, parts))))


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
            title(kind): _keys(a, b, [f for f in files if kind_of(f.name) == kind])
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


def _keys(a: Version, b: Version, files: Sequence[FileChange]) -> Keys:
    totals = {"added": 0, "removed": 0, "changed": 0}
    examples: dict[str, list[str]] = {name: [] for name in totals}
    for file in files:
        for change, keys in _keys_of(a, b, file).items():
            totals[change] += len(keys)
            examples[change] += [str(key) for key in keys[: EXAMPLES - len(examples[change])]]
    return Keys(**totals, examples={name: found for name, found in examples.items() if found})


def _keys_of(a: Version, b: Version, file: FileChange) -> dict[str, list[Any]]:
    """Keys of one file by what became of them, sorted."""
    if file.change != "changed":
        side = b if file.change == "added" else a
        return {file.change: pd.read_parquet(side.path(file.name), columns=[KEY])[KEY].tolist()}
    old = pd.read_parquet(a.path(file.name)).set_index(KEY)
    new = pd.read_parquet(b.path(file.name)).set_index(KEY)
    both = old.index.intersection(new.index)
    columns = [name for name in new.columns if name in old.columns]
    differs = np.zeros(len(both), dtype=bool)
    for name in columns:
        x, y = old.loc[both, name].astype(object), new.loc[both, name].astype(object)
        differs |= ~((x == y) | (x.isna() & y.isna())).to_numpy(dtype=bool)
    return {
        "added": sorted(new.index.difference(old.index)),
        "removed": sorted(old.index.difference(new.index)),
        "changed": sorted(both[differs]),
    }


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
