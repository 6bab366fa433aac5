"""Damaged data is found by hashing and replaced by a sound copy; snapshots travel by the remote."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.digests import MANIFEST, canonical_json, write_atomically
from data.errors import EvergreenError
from data.objects import Objects, UnsoundError
from data.partitions import Partitions, period_of
from data.periods import Period
from data.snapshots import Snapshot, Snapshots, fits, writing
from data.versions import Version, of_snapshot

Source = Literal["cache", "remote", "work tree"]


@dataclass(frozen=True)
class Mended:
    """A file or an object that was wrong.

    Attributes:
        name: the partition, or the object of the cache.
        was: damaged or missing.
        source: where the sound bytes came from.
    """

    name: str
    was: str
    source: Source


@dataclass(frozen=True)
class Repair:
    """What was hashed, and what was mended."""

    checked: int
    mended: tuple[Mended, ...]


@dataclass(frozen=True)
class Pulled:
    """What came into `data/raw`; `present` files were there and sound."""

    snapshot: Snapshot
    written: tuple[str, ...]
    present: int


@dataclass(frozen=True)
class Pushed:
    """Objects that went to the remote, and those that it had."""

    snapshots: int
    written: int
    present: int


def repair(snapshots: Snapshots, period: Period | None = None) -> Repair:
    """Hash every partition and its object, and replace what is wrong.

    Without a period all objects of the cache that any snapshot names are hashed, too, and an
    unreadable manifest is restored from the newest snapshot.

    Raises:
        EvergreenError: naming what has no sound copy; everything else is mended.
    """
    partitions = Partitions(snapshots.raw)
    mended: list[Mended] = []
    broken: list[str] = []
    with writing(partitions), snapshots.objects() as objects:
        history = list(_history(snapshots, objects, broken if period is None else []))
        mended += [Mended(f"cache object {md5}", "damaged", "remote") for md5 in objects.mended]
        mended += _mend_manifest(snapshots, history)
        names = _chosen(partitions, period)
        holders = {name: _holder(name, sha256, history) for name, sha256 in names.items()}
        for name, sha256 in names.items():
            try:
                mended += _mend(snapshots.raw / name, sha256, holders[name], objects)
            except UnsoundError as error:
                broken.append(str(error))
        done = {version.files[name] for name, version in holders.items() if version}
        others = {md5 for version in history for md5 in version.files.values()} - done
        if period is None:
            mended += _mend_objects(sorted(others), objects, broken)
    if broken:
        also = f"; mended: {', '.join(m.name for m in mended)}" if mended else ""
        raise EvergreenError(f"no sound copy: {'; '.join(broken)}{also}")
    return Repair(len(names) + len(done) + (0 if period else len(others)), tuple(mended))


def pull(snapshots: Snapshots, reference: str | None = None) -> Pulled:
    """Bring a snapshot's partitions into `data/raw` where they are missing or damaged.

    Args:
        snapshots: where from, and where to.
        reference: see `Snapshots.find`; the newest without one.

    Raises:
        EvergreenError: if a partition is there with other content (then nothing is written), or no
            sound copy is to be had.
    """
    snapshot = snapshots.find(reference) if reference else snapshots.latest()
    if snapshot is None:
        raise EvergreenError("there is no snapshot: `git fetch --tags` brings those of others")
    partitions = Partitions(snapshots.raw)
    with writing(partitions), snapshots.objects() as objects:
        version = of_snapshot(snapshot, objects)
        _refuse_conflicts(partitions, version)
        written = []
        for name, entry in version.manifest.items():
            if not fits(snapshots.raw / name, entry["sha256"]):
                _place(version.path(name), snapshots.raw / name)
                written.append(name)
        known = partitions.manifest()
        merged = {**known, **version.manifest}
        if merged != known:
            write_atomically(snapshots.raw / MANIFEST, canonical_json(merged))
    return Pulled(snapshot, tuple(written), len(version.manifest) - len(written))


def push(snapshots: Snapshots, *, check: bool = False) -> Pushed:
    """Copy every object of every snapshot to the default remote.

    Args:
        snapshots: what is sent.
        check: hash what the remote has, and replace what is damaged there; reads all of it.

    Raises:
        EvergreenError: if the remote refuses, or an object is nowhere whole (the others are sent).
    """
    known, done, lost = snapshots.list(), dict[str, bool](), list[str]()
    with snapshots.objects() as objects:
        for snapshot in known:
            try:
                # The listing last: what a listing at the remote names is there.
                for md5 in (*of_snapshot(snapshot, objects).files.values(), f"{snapshot.md5}.dir"):
                    if md5 not in done:
                        done[md5] = objects.push(md5, check=check)
            except UnsoundError as error:
                lost.append(str(error))
    written = sum(done.values())
    if lost:
        raise EvergreenError(f"{written} objects pushed, but no sound copy: {'; '.join(lost)}")
    return Pushed(len(known), written, len(done) - written)


def _history(snapshots: Snapshots, objects: Objects, broken: list[str]) -> Iterator[Version]:
    """Every version that is at hand, newest first; reading mends listings and manifests."""
    for snapshot in reversed(snapshots.list()):
        try:
            yield of_snapshot(snapshot, objects)
        except UnsoundError as error:
            # A tag may come without its data; what was here and is damaged is another matter.
            if objects.state(f"{snapshot.md5}.dir") != "missing":
                broken.append(str(error))


def _mend_manifest(snapshots: Snapshots, history: list[Version]) -> list[Mended]:
    """Restore the manifest from the newest snapshot if it is unreadable or lost."""
    path, was = snapshots.raw / MANIFEST, "missing"
    if path.exists():
        try:
            Partitions(snapshots.raw).manifest()
            return []
        except EvergreenError:
            was = "damaged"
    if not history:
        return []
    write_atomically(path, canonical_json(dict(history[0].manifest)))
    return [Mended(MANIFEST, was, "cache")]


def _chosen(partitions: Partitions, period: Period | None) -> dict[str, str]:
    """File name -> sha256 of the partitions to look at."""
    known = {name: str(entry["sha256"]) for name, entry in partitions.manifest().items()}
    names = {n: d for n, d in known.items() if period is None or period_of(n) == period.name}
    if not names:
        what = period or "anything"
        raise EvergreenError(
            f"{partitions.folder} does not have {what}: run `evergreen data pull` or "
            f"`evergreen ingest {period or 'PERIOD'}`"
        )
    return names


def _holder(name: str, sha256: str, history: list[Version]) -> Version | None:
    """The newest version that has this very file."""
    same = (v for v in history if v.manifest.get(name, {}).get("sha256") == sha256)
    return next(same, None)


def _mend(path: Path, sha256: str, version: Version | None, objects: Objects) -> list[Mended]:
    """Mend a partition and its object of the cache, each by the other or by the remote."""
    name = path.name
    sound, was = fits(path, sha256), "damaged" if path.exists() else "missing"
    if version is None:
        if sound:
            return []
        raise UnsoundError(
            f"{path} is {was}, and no snapshot at hand has it: "
            f"run `evergreen ingest {period_of(name)}`"
        )
    md5 = version.files[name]
    state = objects.state(md5)
    if sound:
        return _refill(path, md5, state, objects)
    try:
        good = version.path(name)
    except UnsoundError as error:
        raise UnsoundError(
            f"{path} is {was}; {error}: run `evergreen ingest {period_of(name)}`"
        ) from error
    _place(good, path)
    source: Source = "cache" if state == "sound" else "remote"
    again = [] if state == "sound" else [Mended(f"cache object {md5}", state, "remote")]
    return [*again, Mended(name, was, source)]


def _refill(path: Path, md5: str, state: str, objects: Objects) -> list[Mended]:
    """A partition is sound, its object may not be."""
    if state == "sound":
        return []
    source: Source = "remote"
    try:
        objects.path(md5)
    except UnsoundError:
        source = "work tree"
        objects.put(md5, path)
    return [Mended(f"cache object {md5}", state, source)]


def _mend_objects(oids: list[str], objects: Objects, broken: list[str]) -> list[Mended]:
    """Replace objects that are damaged; one that the cache does not have is no damage."""
    mended = []
    for md5 in oids:
        if objects.state(md5) != "damaged":
            continue
        try:
            objects.path(md5)
        except UnsoundError as error:
            broken.append(str(error))
        else:
            mended.append(Mended(f"cache object {md5}", "damaged", "remote"))
    return mended


def _refuse_conflicts(partitions: Partitions, version: Version) -> None:
    """A partition of other content is never overwritten, and neither is one without an entry."""
    known = partitions.manifest()
    other = []
    for name, entry in version.manifest.items():
        path = partitions.folder / name
        if name in known:
            differs = known[name]["sha256"] != entry["sha256"]
        else:
            differs = path.exists() and not fits(path, entry["sha256"])
        if differs:
            other.append(path)
    if other:
        names = ", ".join(path.name for path in other[:3])
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise EvergreenError(
            f"{partitions.folder} has {names}{more} with other content than {version.name}: "
            f"nothing was written; `evergreen data open {version.name} {period_of(other[0].name)} "
            "--out FILE` reads the old one, or move yours away first"
        )


def _place(source: Path, target: Path) -> None:
    """Copy a verified file to where it belongs, whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
