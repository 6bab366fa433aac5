"""Which events came, went or changed between two versions, and which labels were restated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.contracts import KEY
from data.labels import known
from data.partitions import LABELS, kind_of, label_files, period_of
from data.periods import Period
from data.versions import Version

EXAMPLES = 5


@dataclass(frozen=True)
class FileChange:
    """A file that only one version has, or that differs; `rows` as (in A, in B)."""

    name: str
    change: str
    rows: tuple[int | None, int | None]


@dataclass(frozen=True)
class Keys:
    """Keys of changed files; of files that came or went, all keys count.

    Of labels, the newest of each event is compared: `changed` are those that were restated.
    """

    added: int
    removed: int
    changed: int
    examples: dict[str, list[str]]


def keys_of(a: Version, b: Version, files: Sequence[FileChange]) -> Keys:
    """What became of the keys of these files from A to B."""
    totals = {"added": 0, "removed": 0, "changed": 0}
    examples: dict[str, list[str]] = {name: [] for name in totals}
    for found in _changes(a, b, files):
        for change, keys in found.items():
            totals[change] += len(keys)
            examples[change] += [str(key) for key in keys[: EXAMPLES - len(examples[change])]]
    return Keys(**totals, examples={name: found for name, found in examples.items() if found})


def _changes(a: Version, b: Version, files: Sequence[FileChange]) -> Iterator[dict[str, list[Any]]]:
    """Keys by what became of them, file by file; all files with labels of a period together."""
    for file in files:
        if kind_of(file.name) != LABELS:
            yield _keys_of(a, b, file)
    for period in sorted({period_of(f.name) for f in files if kind_of(f.name) == LABELS}):
        yield _compared(*(_newest(side, Period.parse(period)) for side in (a, b)))


def _newest(version: Version, period: Period) -> pd.DataFrame:
    """The label of each event that counts in a version; none if it has no labels."""
    if not label_files(version.manifest, period):
        return pd.DataFrame({KEY: []})
    return known(version.read(period, labels=True))


def _keys_of(a: Version, b: Version, file: FileChange) -> dict[str, list[Any]]:
    """Keys of one file by what became of them, sorted."""
    if file.change != "changed":
        side = b if file.change == "added" else a
        return {file.change: pd.read_parquet(side.path(file.name), columns=[KEY])[KEY].tolist()}
    return _compared(*(pd.read_parquet(side.path(file.name)) for side in (a, b)))


def _compared(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, list[Any]]:
    old, new = before.set_index(KEY), after.set_index(KEY)
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
