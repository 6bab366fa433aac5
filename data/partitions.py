"""The raw partitions on disk, and the sha256 that is checked before one is parsed.

`data/raw/` holds, for each period, `<period>.parquet` (key and request fields of every event),
`<period>.labels.parquet` (what became of them, delivered later; `<period>.labels.2.parquet` and so
on hold what was told after that), and one manifest.json for all.
"""

import io
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from data.contracts import KEY
from data.digests import MANIFEST, canonical_json, sha256_file, write_atomically
from data.errors import EvergreenError, RefusedError
from data.periods import Period

ROWS, LABELS = ".parquet", ".labels.parquet"
SKETCH = 64  # hashes
APPEND = re.compile(r"\.labels(?:\.([0-9]+))?\.parquet")


def period_of(name: str) -> str:
    return name.split(".")[0]


def kind_of(name: str) -> str:
    """What a file holds: `ROWS`, `LABELS` for every append, or what follows the period's name."""
    rest = name.removeprefix(period_of(name))
    return LABELS if APPEND.fullmatch(rest) else rest


def label_files(names: Iterable[str], period: Period) -> list[str]:
    """Those of a period that hold labels: the first delivery, then the appends in order."""
    mine = [name for name in names if period_of(name) == period.name and kind_of(name) == LABELS]
    return sorted(mine, key=_turn)


def append(turn: int) -> str:
    """The suffix of a period's first, second, … delivery of labels."""
    return LABELS if turn == 1 else f".labels.{turn}.parquet"


def _turn(name: str) -> int:
    """Which delivery of labels a file holds; the first carries no number."""
    found = APPEND.fullmatch(name.removeprefix(period_of(name)))
    return int(found[1] or 1) if found else 0


def to_bytes(frame: pd.DataFrame) -> bytes:
    """A partition's file; equal frames give equal bytes."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def joined(appends: list[pd.DataFrame]) -> pd.DataFrame:
    """The deliveries of a period's labels in one frame, in their order."""
    return appends[0] if len(appends) == 1 else pd.concat(appends, ignore_index=True)


def sketch(frame: pd.DataFrame) -> list[int]:
    """The smallest hashes of what rows say beside their key and their moments (Broder 1997).

    So a period that comes again under another name is found without reading those before it.
    """
    said = frame.drop(columns=KEY).select_dtypes(exclude="datetime")
    hashes = np.unique(pd.util.hash_pandas_object(said, index=False))
    return [int(value) for value in hashes[:SKETCH]]


def common_share(mine: Sequence[int], theirs: Sequence[int]) -> float:
    """Estimated share of the rows of one sketch that another has, too; 0 if that is not known."""
    below = [value for value in mine if value <= max(theirs, default=0)]
    return len(set(below) & set(theirs)) / len(below) if len(below) >= SKETCH // 4 else 0.0


@lru_cache(maxsize=4)
def _parsed(manifest: bytes) -> dict[str, Any]:
    """Read again at every look, parsed only when it changed: it grows with every period."""
    content = json.loads(manifest)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


@dataclass(frozen=True)
class Partitions:
    """The folder of raw partitions, `data/raw`."""

    folder: Path

    def periods(self) -> list[Period]:
        """Every period whose rows are there, in order."""
        names = [name for name in self.manifest() if kind_of(name) == ROWS]
        return sorted(Period.parse(name.removesuffix(ROWS)) for name in names)

    def has_labels(self, period: Period) -> bool:
        """Whether any label of the period has arrived."""
        return bool(self.label_suffixes(period))

    def label_suffixes(self, period: Period) -> list[str]:
        """The files of a period's labels, in the order of their delivery."""
        return [name.removeprefix(period.name) for name in label_files(self.manifest(), period)]

    def next_append(self, period: Period) -> str:
        """The suffix of the file that the next delivery of labels makes."""
        known = label_files(self.manifest(), period)
        return append(_turn(known[-1]) + 1 if known else 1)

    def count(self, period: Period) -> int:
        """How many rows the manifest says a period has."""
        return int(self.manifest()[f"{period}{ROWS}"]["rows"])

    def rows(self, period: Period) -> pd.DataFrame:
        return self.read(period, ROWS)

    def labels(self, period: Period) -> pd.DataFrame:
        """Every label delivered, corrections included; `data.labels.known` says which count."""
        suffixes = self.label_suffixes(period) or [LABELS]
        return joined([self.read(period, suffix) for suffix in suffixes])

    def manifest(self) -> dict[str, Any]:
        """File name -> sha256 and number of rows."""
        try:
            return dict(_parsed((self.folder / MANIFEST).read_bytes()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EvergreenError(
                f"{self.folder / MANIFEST} is not readable ({error}): `evergreen data repair` "
                "restores it, as does `dvc get . data/raw --rev TAG`"
            ) from error

    def sketches(self, but: Period) -> dict[str, list[int]]:
        """Period -> sketch of its rows, for every other period."""
        entries = {name: e for name, e in self.manifest().items() if kind_of(name) == ROWS}
        others = {period_of(name): list(e.get("sketch", [])) for name, e in entries.items()}
        return {name: theirs for name, theirs in others.items() if name != but.name}

    def fingerprint(self, periods: list[Period]) -> dict[str, str]:
        """sha256 of every file of these periods: what a model was trained on."""
        manifest = self.manifest()
        wanted = {period.name for period in periods}
        names = sorted(name for name in manifest if period_of(name) in wanted)
        return {name: manifest[name]["sha256"] for name in names}

    def lock(self) -> AbstractContextManager[Any]:
        """Held while a partition is added; one writer at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock", timeout=60)

    def write(self, period: Period, frame: pd.DataFrame, suffix: str) -> bool:
        """Add a partition; True if it is new, False if the very same is there already.

        A damaged or lost file of the same content is restored. Call it under `lock`.

        Raises:
            RefusedError: if the period is there with other content: partitions are immutable.
        """
        self.refuse_other(period, frame, suffix)
        manifest, path = self.manifest(), self.folder / f"{period}{suffix}"
        content, known = to_bytes(frame), manifest.get(path.name)
        write_atomically(path, content)
        if known:
            return False
        manifest[path.name] = _entry(content, frame, suffix)
        write_atomically(self.folder / MANIFEST, canonical_json(manifest))
        return True

    def refuse_other(self, period: Period, frame: pd.DataFrame, suffix: str) -> None:
        """Raise the error of `write` without writing.

        Raises:
            RefusedError: if the period is there with other content.
        """
        known = self.manifest().get(f"{period}{suffix}")
        if known and not self.holds(period, frame, suffix):
            raise RefusedError(
                f"{self.folder / f'{period}{suffix}'} is there with other content ({known['rows']} "
                f"rows; this batch has {len(frame)}), and partitions are immutable: nothing was "
                "written"
            )

    def holds(self, period: Period, frame: pd.DataFrame, suffix: str) -> bool:
        """Whether this very content is the partition of that period."""
        known = self.manifest().get(f"{period}{suffix}")
        return bool(known and known["sha256"] == sha256(to_bytes(frame)).hexdigest())

    def is_sound(self, period: Period, suffix: str) -> bool:
        """Whether a file that the manifest names is there with its bytes."""
        path = self.folder / f"{period}{suffix}"
        return path.exists() and sha256_file(path) == self.manifest()[path.name]["sha256"]

    def restate(self, period: Period, frame: pd.DataFrame, suffix: str) -> None:
        """Replace a partition by a new version of it; only a release from quarantine does.

        The manifest keeps the sha256 of the versions before; their bytes are in the snapshots.
        Call it under `lock`.
        """
        manifest, name = self.manifest(), f"{period}{suffix}"
        content, known = to_bytes(frame), manifest.get(name, {})
        digest = sha256(content).hexdigest()
        if known.get("sha256") == digest:
            return
        before = [*known.get("before", []), *([known["sha256"]] if known else [])]
        write_atomically(self.folder / name, content)
        manifest[name] = {**_entry(content, frame, suffix), "before": before}
        write_atomically(self.folder / MANIFEST, canonical_json(manifest))

    def verify(self, period: Period, suffix: str) -> Path:
        """The path of a partition whose bytes are those that were ingested.

        Raises:
            EvergreenError: if it is absent, half-written or changed, with the way to mend it.
        """
        path, known = (
            self.folder / f"{period}{suffix}",
            self.manifest().get(f"{period}{suffix}"),
        )
        ingest = f"run `evergreen ingest {period}`"
        mend = f"{ingest} or `evergreen data repair {period}`"
        if known is None:
            state = "was never finished" if path.exists() else "has not been ingested"
            raise EvergreenError(f"{path} {state}: {ingest}")
        if not path.exists():
            raise EvergreenError(
                f"{path} is lost, though the manifest has it: {mend} to restore it"
            )
        if sha256_file(path) != known["sha256"]:
            raise EvergreenError(
                f"{path} is damaged: its sha256 is not the one in {MANIFEST} (truncated or changed "
                f"after ingest). Nothing was read from it; {mend} to restore it"
            )
        return path

    def read(self, period: Period, suffix: str) -> pd.DataFrame:
        """One file, verified before it is parsed."""
        return pd.read_parquet(self.verify(period, suffix))


def _entry(content: bytes, frame: pd.DataFrame, suffix: str) -> dict[str, Any]:
    """What the manifest says of a file."""
    entry = {"sha256": sha256(content).hexdigest(), "rows": len(frame)}
    return {**entry, "sketch": sketch(frame)} if suffix == ROWS else entry
