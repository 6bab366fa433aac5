"""Make a registered version again in a temporary checkout, and compare it with the record.

Only what was recorded goes in: the commit, the parameters, the snapshot of the data, the moment. So
it works with a dirty work tree and without a local DVC cache, and needs no server.
"""

import json
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

import pandas as pd
import yaml
from filelock import FileLock, Timeout
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data.contracts import to_columns
from data.digests import digest_of, sha256_file
from data.errors import EvergreenError
from data.features import Columns
from data.partitions import ROWS, Partitions
from data.periods import Period
from data.windows import fingerprint
from flows.dossier import PARAMS, STUDY
from flows.lineage import tags_of
from flows.packages import environment, installed, other_versions
from flows.project import Project
from models import artifact, reproduce
from models.artifact import Artifact
from models.reproduce import Check, Comparison
from models.tracking import flatten
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


def run_reproduce(project: Project, number: str, python: Path | None = None) -> Comparison:
    """Train a version again from its record and compare digest, metrics and predictions.

    Args:
        python: an interpreter with the recorded packages; without it this one if it has them, or
            an environment made from the recorded lock.

    Raises:
        EvergreenError: if something that was recorded cannot be brought back.
    """
    version = project.registry.get(number)
    tags = tags_of(project, version)
    _refuse_if_lost(version, tags)
    stored, whole = _stored(project, version)
    with _site(project, tags["git_sha"], python) as site:
        checks = [
            whole,
            _lock(site, version, tags),
            _params(project, site, version, tags),
            _data(project, site, tags["snapshot"], stored),
        ]
        study = _study(project, site, version)
        site.run("models.train", "--params", PARAMS, "--raw", site.raw, "--out", site.out, *study)
        held, evaluation = site.out / "holdout.parquet", site.out / "evaluation"
        site.run("models.evaluate", "--holdout", held, "--out", evaluation)
        rebuilt = artifact.load(site.out / "model")
        checks.append(reproduce.identity(version.digest, rebuilt, stored))
        checks.append(_metrics(project, version, evaluation))
        checks.append(_predictions(site, stored, rebuilt))
    return Comparison(number, tuple(checks))


def _refuse_if_lost(version: Version, tags: Mapping[str, str]) -> None:
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


def _stored(project: Project, version: Version) -> tuple[Artifact | None, Check]:
    """The registered artefact, if it is as it was signed and the one that was registered."""
    try:
        stored = artifact.load(project.registry.folder(version))
    except EvergreenError as error:
        return None, Check("stored artefact", False, version.digest, str(error))
    same = stored.digest == version.digest
    return stored if same else None, Check("stored artefact", same, version.digest, stored.digest)


@contextmanager
def _site(project: Project, commit: str, python: Path | None) -> Iterator[Site]:
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


def _lock(site: Site, version: Version, tags: Mapping[str, str]) -> Check:
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


def _params(project: Project, site: Site, version: Version, tags: Mapping[str, str]) -> Check:
    """params.yaml as it was recorded, with the recorded moment."""
    path = site.checkout / PARAMS
    text = project.registry.text(version, PARAMS) or path.read_text()
    content = yaml.safe_load(text)
    digest = digest_of(content)[:16]
    content["train"]["as_of"] = tags["as_of"]
    path.write_text(yaml.safe_dump(content))
    return Check("params.yaml", digest == tags["params"], tags["params"], digest)


def _study(project: Project, site: Site, version: Version) -> tuple[object, ...]:
    """The recorded study of a tuned version: a new one might stop elsewhere."""
    text = project.registry.text(version, STUDY)
    if text is None:
        return ()
    path = site.checkout / STUDY
    path.write_text(text)
    return "--study", path


def _data(project: Project, site: Site, md5: str, stored: Artifact | None) -> Check:
    """The snapshot's partitions, every byte of which is what the artefact says it saw.

    A cache that was damaged is left aside for the remote.

    Raises:
        EvergreenError: naming the partition that is not.
    """
    with suppress(EvergreenError):
        return _restored(project, site.raw, md5, stored, trust_cache=True)
    shutil.rmtree(site.raw, ignore_errors=True)
    return _restored(project, site.raw, md5, stored, trust_cache=False)


def _restored(
    project: Project, raw: Path, md5: str, stored: Artifact | None, *, trust_cache: bool
) -> Check:
    project.snapshots.restore(md5, raw, trust_cache=trust_cache)
    if stored is None:
        return Check("data", True, f"snapshot {md5}", "restored; the artefact cannot vouch for it")
    training: Mapping[str, Any] = stored.training
    partitions = Partitions(raw)
    periods = [Period.parse(name) for name in (*training["train"], *training["holdout"])]
    for period in periods:
        partitions.verify(period, ROWS)
    found = fingerprint(partitions, periods, datetime.fromisoformat(training["as_of"]))
    recorded = training["partitions"]
    for name, digest in recorded.items():
        if found.get(name) != digest:
            raise EvergreenError(
                f"{name} of the snapshot is not what the model was trained on (sha256 "
                f"{found.get(name, 'none')[:16]}, recorded {digest[:16]}): bring the remote back"
            )
    text = f"{len(recorded)} files, {digest_of(recorded)[:16]}"
    return Check("data", True, text, f"{len(found)} files, {digest_of(found)[:16]}")


def _metrics(project: Project, version: Version, evaluation: Path) -> Check:
    found = flatten(json.loads((evaluation / "metrics.json").read_text()))
    rebuilt = {name: float(value) for name, value in found.items() if value is not None}
    return reproduce.metrics(project.registry.run(version).data.metrics, rebuilt)


def _predictions(site: Site, stored: Artifact | None, rebuilt: Artifact) -> Check:
    if stored is None:
        return Check("predictions", False, "the stored artefact cannot be asked", "")
    return reproduce.predictions(stored, rebuilt, _sample(site, rebuilt))


def _sample(site: Site, rebuilt: Artifact) -> Columns:
    """Up to 10,000 raw rows: the holdout's first, then the newest that were trained on."""
    training, frames, rows = rebuilt.training, [], 0
    for name in (*training["holdout"], *reversed(training["train"])):
        if rows < reproduce.ROWS:
            frames.append(Partitions(site.raw).rows(Period.parse(name)))
            rows += len(frames[-1])
    return to_columns(pd.concat(frames).head(reproduce.ROWS), rebuilt.fields)


def render(found: Comparison) -> RenderableType:
    """The comparison as a table."""
    table = Table("")
    table.add_column("recorded", overflow="fold")
    table.add_column("made again", overflow="fold")
    table.add_column("")
    for check in found.checks:
        mark = Text("equal", style="green") if check.equal else Text("differs", style="bold red")
        table.add_row(check.name, Text(check.recorded), Text(check.rebuilt), mark)
    return Group(table, Text(found.message, style="green" if found.equal else "bold red"))
