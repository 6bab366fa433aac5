"""Versions of `data/raw` that can be read: a snapshot, or the work tree.

A snapshot is read from DVC's objects without touching the work tree. Whatever the version, a file
is handed out only after its sha256 is the one in that version's own manifest.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.digests import MANIFEST, md5_file, sha256_file
from data.errors import EvergreenError
from data.objects import Objects, UnsoundError
from data.partitions import LABELS, ROWS, Partitions, joined, kind_of, label_files, period_of
from data.periods import Period
from data.snapshots import Snapshot, Snapshots

WORK_TREE = "the work tree"
# A snapshot may come from others: its names never lead out of data/raw.
FILE_NAME = re.compile(r"[0-9W-]+(\.[a-z0-9-]+)*\.parquet")
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Version:
    """What one version holds.

    Attributes:
        name: the snapshot's tag, or the work tree.
        manifest: file name -> sha256 and number of rows.
        files: file name -> md5; empty for the work tree.
        source: the objects of a snapshot, the folder of the work tree.
    """

    name: str
    manifest: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, str]
    source: Objects | Path

    def path(self, name: str) -> Path:
        """A file whose bytes are those of the manifest.

        Raises:
            EvergreenError: if the version does not have it, or not whole.
        """
        if name not in self.manifest:
            raise EvergreenError(f"{self.name} has no {name}: it has {_range(self.periods())}")
        if isinstance(self.source, Path):
            path = self.source / name
            mend = f"run `evergreen data repair {period_of(name)}`"
        else:
            path, mend = self._object(self.source, name), "its manifest and its data disagree"
        if not path.is_file() or sha256_file(path) != self.manifest[name]["sha256"]:
            raise EvergreenError(f"{name} of {self.name} is lost or damaged ({path}): {mend}")
        return path

    def _object(self, objects: Objects, name: str) -> Path:
        try:
            return objects.path(self.files[name])
        except UnsoundError as error:
            raise UnsoundError(
                f"{name} of {self.name}: {error} (a clone that has it whole can "
                "`evergreen data push --check`)"
            ) from error

    def read(self, period: Period, *, labels: bool = False) -> pd.DataFrame:
        """A period's rows, or its labels with every correction; verified before they are parsed."""
        names = [f"{period}{ROWS}"]
        if labels:
            names = label_files(self.manifest, period) or [f"{period}{LABELS}"]
        return joined([pd.read_parquet(self.path(name)) for name in names])

    def periods(self) -> list[str]:
        return sorted({period_of(name) for name in self.manifest})

    def rows(self) -> int:
        """Events of all periods."""
        return sum(int(e["rows"]) for n, e in self.manifest.items() if kind_of(n) == ROWS)


@dataclass(frozen=True)
class Entry:
    """A line of the list: a snapshot and what it holds; None where its data cannot be had.

    Attributes:
        change: what differs from the snapshot before.
        current: whether the work tree holds exactly this.
    """

    snapshot: Snapshot
    change: str
    periods: int | None
    rows: int | None
    current: bool


def work_tree(snapshots: Snapshots) -> Version:
    """The partitions as they are now, every one hashed.

    Raises:
        EvergreenError: if one is lost or damaged.
    """
    version = Version(WORK_TREE, Partitions(snapshots.raw).manifest(), {}, snapshots.raw)
    for name in version.manifest:
        version.path(name)
    return version


def of_snapshot(snapshot: Snapshot, objects: Objects) -> Version:
    """What a snapshot holds, from the cache or the default remote.

    Raises:
        UnsoundError: if neither has its listing or its manifest, or they are none.
    """
    try:
        listing = json.loads(objects.path(f"{snapshot.md5}.dir").read_text())
        files = {str(entry["relpath"]): _checked(str(entry["md5"])) for entry in listing}
        manifest = json.loads(objects.path(files[MANIFEST]).read_text())
        rows = {name: (entry["sha256"], int(entry["rows"])) for name, entry in manifest.items()}
        for name in rows:
            Period.parse(period_of(name))
    except EvergreenError as error:
        raise UnsoundError(f"{snapshot.tag}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsoundError(f"{snapshot.tag} holds no partitions of ours: {error!r}") from error
    if wrong := [name for name in rows if name not in files or not FILE_NAME.fullmatch(name)]:
        raise UnsoundError(f"{snapshot.tag}: its manifest names {wrong[0]!r}, no file of it")
    return Version(snapshot.tag, manifest, files, objects)


def entries(snapshots: Snapshots) -> list[Entry]:
    """Every snapshot with what changed, oldest first."""
    here = _manifest_md5(snapshots)
    found: list[Entry] = []
    before: Version | None = None
    with snapshots.objects() as objects:
        for snapshot in snapshots.list():
            try:
                version = of_snapshot(snapshot, objects)
            except UnsoundError as error:
                found.append(Entry(snapshot, f"not readable: {error}", None, None, False))
                continue
            change, current = _change(before, version), version.files[MANIFEST] == here
            found.append(Entry(snapshot, change, len(version.periods()), version.rows(), current))
            before = version
    return found


def _checked(md5: str) -> str:
    if not MD5.fullmatch(md5):
        raise ValueError(f"{md5!r} is no md5")
    return md5


def _manifest_md5(snapshots: Snapshots) -> str | None:
    path = snapshots.raw / MANIFEST
    return md5_file(path) if path.is_file() else None


def _change(before: Version | None, after: Version) -> str:
    """Such as `+2013-W10` or `+2013-W10 labels, changed 2013-W03`."""
    old = before.manifest if before else {}
    new = after.manifest
    changed = [n for n in new if n in old and new[n]["sha256"] != old[n]["sha256"]]
    parts = [
        *_named("+", [name for name in new if name not in old]),
        *_named("-", [name for name in old if name not in new]),
        *_named("changed ", changed),
    ]
    return ", ".join(parts) or "the same partitions"


def _named(sign: str, names: Sequence[str]) -> list[str]:
    rows = {period_of(name) for name in names if kind_of(name) == ROWS}
    rest = {period_of(name) for name in names if kind_of(name) != ROWS}
    parts = [f"{sign}{_range(sorted(rows))}"] if rows else []
    if alone := sorted(rest - rows):
        parts.append(f"{sign}{_range(alone)} labels")
    return parts


def _range(periods: Sequence[str]) -> str:
    if len(periods) < 2:
        return "".join(periods) or "nothing"
    return f"{periods[0]} … {periods[-1]} ({len(periods)})"
