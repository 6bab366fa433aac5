"""Is a model that was made again the one that was registered? A pure comparison."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.digests import MANIFEST
from data.features import Columns
from models.artifact import Artifact

ROWS = 10_000


@dataclass(frozen=True)
class Check:
    """One thing that was recorded, and the same thing of the model made again."""

    name: str
    equal: bool
    recorded: str
    rebuilt: str


@dataclass(frozen=True)
class Comparison:
    """All checks of one version."""

    version: str
    checks: tuple[Check, ...]

    @property
    def equal(self) -> bool:
        return all(check.equal for check in self.checks)

    @property
    def message(self) -> str:
        """The outcome in a sentence; what differs is named."""
        if self.equal:
            return f"version {self.version} is reproduced: {len(self.checks)} checks are equal"
        names = ", ".join(check.name for check in self.checks if not check.equal)
        return f"version {self.version} differs: {names}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "equal": self.equal, "message": self.message}


def identity(digest: str, rebuilt: Artifact, stored: Artifact | None) -> Check:
    """The digests; if they differ, the files of the artefact that do, where it can be read."""
    if rebuilt.digest == digest:
        return Check("model digest", True, digest, rebuilt.digest)
    names = ", ".join(_differing(stored.folder, rebuilt.folder)) if stored else ""
    return Check("model digest", False, digest, f"{rebuilt.digest} ({names or 'all files'})")


def _differing(stored: Path, rebuilt: Path) -> list[str]:
    """Names of files whose manifest entries differ."""
    one, other = (json.loads((f / MANIFEST).read_text())["files"] for f in (stored, rebuilt))
    return sorted(n for n in {*one, *other} if one.get(n) != other.get(n))


def metrics(recorded: Mapping[str, float], rebuilt: Mapping[str, float]) -> Check:
    """Every candidate's metrics on the holdout, compared exactly."""
    wrong = sorted(n for n in {*recorded, *rebuilt} if recorded.get(n) != rebuilt.get(n))
    same = not wrong and bool(recorded)
    if same:
        text = f"{len(recorded)} metrics"
        return Check("holdout metrics", True, text, text)
    name = wrong[0] if wrong else "none"
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    one, other = (_say(name, found) for found in (recorded, rebuilt))
    return Check("holdout metrics", False, one, f"{other}{more}")


def _say(name: str, found: Mapping[str, float]) -> str:
    return f"{name} {found[name]!r}" if name in found else f"{name} is not there"


def predictions(stored: Artifact, rebuilt: Artifact, columns: Columns) -> Check:
    """Probabilities of both models for raw columns of shape (n,); equal means bit for bit."""
    one, other = stored.score(columns), rebuilt.score(columns)
    gap, unequal = float(np.abs(one - other).max()), int((one != other).sum())
    said = "all equal" if not unequal else f"{unequal} differ, by up to {gap:.2g}"
    return Check("predictions", not unequal, f"{len(one)} rows", said)
