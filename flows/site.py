"""A temporary checkout of what a version was made from: commit, parameters, packages and data."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from data.digests import digest_of, sha256_file
from data.errors import EvergreenError
from data.partitions import ROWS, Partitions, period_of
from data.periods import Period
from data.windows import fingerprint
from flows.dossier import PARAMS
from flows.packages import environment, installed, other_versions
from flows.project import Project
from models import artifact
from models.artifact import Artifact
from models.reproduce import Check
from models.shifted import RECORD
from models.version import Version

NEEDED = ("git_sha", "snapshot", "as_of", "params", "lock")


@dataclass(frozen=True)
class Site:
    """A temporary checkout of the commit that a version was trained at."""

    checkout: Path
    out: Path
    python: Path

    @property
    def raw(self) -> Path:
        return self.checkout / "data" / "raw"

    def run(self, module: str, *arguments: object) -> None:
        """`python -m module` with the code of this checkout.

        Raises:
            EvergreenError: with the last line that it said.
        """
        done = subprocess.run(
            [str(self.python), "-m", module, *map(str, arguments)],
            cwd=self.checkout,
            env={**os.environ, "PYTHONPATH": str(self.checkout)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise EvergreenError(f"{module} of the recorded commit failed: {said}")


def refuse_if_lost(version: Version, tags: Mapping[str, str]) -> None:
    """A version whose record is not enough to make it again."""
    missing = [name for name in NEEDED if tags.get(name, "none") == "none"]
    if missing:
        raise EvergreenError(
            f"version {version.number} has no record of its {', '.join(missing)}, so that it "
            "cannot be made again: train it anew from a commit, with a snapshot of its data"
        )
    lost = [name for name in tags.get("git_changed", "").splitlines() if name != PARAMS]
    if lost:
        raise EvergreenError(
            f"version {version.number} was trained from a dirty tree: {', '.join(lost)} as it was "
            "then is in no commit, so that it cannot be made again"
        )


def stored(project: Project, version: Version) -> tuple[Artifact | None, Check]:
    """The registered artefact, if it is as it was signed and the one that was registered."""
    try:
        stored = artifact.load(project.registry.folder(version))
    except EvergreenError as error:
        return None, Check("stored artefact", False, version.digest, str(error))
    same = stored.digest == version.digest
    return stored if same else None, Check("stored artefact", same, version.digest, stored.digest)


@contextmanager
def opened(project: Project, commit: str, python: Path | None) -> Iterator[Site]:
    """A clone at a commit that borrows the repository's objects; gone afterwards, come what may."""
    home = project.settings.home / "reproduce"
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / ".lock", timeout=0):
            for left in home.glob("made-*"):  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="made-", dir=home) as scratch:
                checkout = Path(scratch) / "checkout"
                _clone(project.settings.checkout, commit, checkout)
                lock, made = checkout / "requirements.lock", project.settings.home / "environments"
                chosen = python or environment(lock, made)
                yield Site(checkout, Path(scratch) / "out", chosen.absolute())
    except Timeout as error:
        raise EvergreenError(
            "another version is being reproduced: wait until it is done"
        ) from error


def _clone(checkout: Path, commit: str, into: Path) -> None:
    clone = ["git", "clone", "--quiet", "--shared", "--no-checkout", "--no-tags"]
    for command in (
        [*clone, str(checkout), str(into)],
        ["git", "-C", str(into), "-c", "advice.detachedHead=false", "checkout", "-q", commit],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or "git said nothing").splitlines()[-1]
            raise EvergreenError(
                f"commit {commit} cannot be checked out ({said}): fetch it from where the code is "
                "kept"
            )


def lock_check(site: Site, version: Version, tags: Mapping[str, str]) -> Check:
    """The recorded lock, which the interpreter's packages have to follow.

    Raises:
        EvergreenError: naming the packages that are of another version.
    """
    path = site.checkout / "requirements.lock"
    wrong = other_versions(path.read_text(), installed(site.python))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise EvergreenError(
            f"version {version.number} was made with other packages than {site.python} has "
            f"({'; '.join(wrong[:3])}{more}): leave --python out, and they are installed"
        )
    digest = sha256_file(path)[:16]
    return Check("requirements.lock", digest == tags["lock"], tags["lock"], digest)


def params_check(project: Project, site: Site, version: Version, tags: Mapping[str, str]) -> Check:
    """params.yaml as it was recorded, with the recorded moment."""
    path = site.checkout / PARAMS
    text = project.registry.text(version, PARAMS) or path.read_text()
    content = yaml.safe_load(text)
    digest = digest_of(content)[:16]
    content["train"]["as_of"] = tags["as_of"]
    path.write_text(yaml.safe_dump(content))
    return Check("params.yaml", digest == tags["params"], tags["params"], digest)


def data_check(project: Project, site: Site, md5: str, stored: Artifact | None) -> Check:
    """The snapshot's partitions, every byte of which is what the artefact says it saw.

    A cache that was damaged is left aside for the remote.

    Raises:
        EvergreenError: naming the partition that is not.
    """
    with suppress(EvergreenError):
        return _restored(project, site.raw, md5, stored, trust_cache=True)
    shutil.rmtree(site.raw, ignore_errors=True)
    return _restored(project, site.raw, md5, stored, trust_cache=False)


@dataclass(frozen=True)
class _Seen:
    """What a model, or its level, was learned from."""

    periods: list[Period]
    as_of: datetime
    files: Mapping[str, str]


def _seen(training: Mapping[str, Any]) -> _Seen:
    level = training.get(RECORD)
    names = [level["period"]] if level else [*training["train"], *training["holdout"]]
    said = level or training
    moment = datetime.fromisoformat(said["as_of"])
    return _Seen([Period.parse(name) for name in names], moment, said["partitions"])


def _restored(
    project: Project, raw: Path, md5: str, stored: Artifact | None, *, trust_cache: bool
) -> Check:
    project.snapshots.restore(md5, raw, trust_cache=trust_cache)
    partitions = Partitions(raw)
    if stored is None:
        for name in partitions.manifest():
            suffix = name.removeprefix(period_of(name))
            partitions.verify(Period.parse(period_of(name)), suffix)
        return Check("data", True, f"snapshot {md5}", "as its manifest says; no artefact to ask")
    seen = _seen(stored.training)
    for period in seen.periods:
        partitions.verify(period, ROWS)
    found, recorded = fingerprint(partitions, seen.periods, seen.as_of), seen.files
    for name, digest in recorded.items():
        if found.get(name) != digest:
            raise EvergreenError(
                f"{name} of the snapshot is not what the model was trained on (sha256 "
                f"{found.get(name, 'none')[:16]}, recorded {digest[:16]}): bring the remote back"
            )
    text = f"{len(recorded)} files, {digest_of(recorded)[:16]}"
    return Check("data", True, text, f"{len(found)} files, {digest_of(found)[:16]}")
