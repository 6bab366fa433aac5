"""Where a version, a snapshot or one answer comes from, and what came of it."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bento import history, predictions
from bento.history import Served
from data.digests import digest_of
from data.errors import EvergreenError
from data.partitions import Partitions
from data.snapshots import Snapshot
from flows.project import Project
from models.version import Version

GATE = "gate."


@dataclass(frozen=True)
class VersionLineage:
    """All that a model version was made from, how it was judged, and when it served.

    Attributes:
        code: commit, whether the tree was dirty, and the files that differed.
        snapshot: tag and md5 of the DVC snapshot that holds the data.
        partitions: sha256 of every file that it was trained on or judged on.
        labels: how many were known, missing and corrected as of then.
        params, lock: digests of the parameters and of requirements.lock.
        packages: whether those installed were as locked, or which were not.
        author: who asked for the training.
        gates: each gate's verdict and reason.
        served: when all traffic was its, and in which slot.
    """

    version: str
    digest: str
    aliases: list[str]
    as_of: str
    cause: str
    code: dict[str, Any]
    snapshot: dict[str, str]
    partitions: dict[str, str]
    labels: str
    params: str
    lock: str
    packages: str
    python: str
    author: str
    prefect_run: str
    mlflow_run: str
    verdict: str
    reason: str
    gates: dict[str, str]
    bento: str
    served: list[Served]
    rolled_back: str | None


@dataclass(frozen=True)
class SnapshotLineage:
    """What a snapshot of data/raw holds, and which versions come from it.

    Attributes:
        trained: versions that were trained from this very snapshot.
        contained: versions all of whose partitions it holds, so that it could make them again.
        disagrees: versions one of whose partitions it holds with other content.
    """

    tag: str
    md5: str
    partitions: dict[str, str]
    trained: list[str]
    contained: list[str]
    disagrees: list[str]


@dataclass(frozen=True)
class AnswerLineage:
    """One answer of the endpoint, and the version that gave it."""

    request_id: str
    answer: dict[str, Any]
    model: VersionLineage


Lineage = VersionLineage | SnapshotLineage | AnswerLineage


def trace(project: Project, text: str) -> Lineage:
    """The lineage of a version's number, a snapshot's tag or md5, or an answer's request id.

    Raises:
        EvergreenError: if it is none of them.
    """
    versions = {version.number: version for version in project.registry.versions()}
    if found := versions.get(text):
        return of_version(project, found)
    looks_so = text.startswith("data-") or re.fullmatch("[0-9a-f]{6,32}", text)
    if looks_so and project.snapshots.matching(text):
        snapshot = project.snapshots.find(text)
        return of_snapshot(project, snapshot, list(versions.values()))
    if record := predictions.find(project.settings.serving.folder, text):
        return _of_answer(project, record, versions)
    raise EvergreenError(
        f"{text!r} is no version (there are: {', '.join(versions) or 'none'}), no snapshot's tag "
        "or md5 (`git tag --list 'data-*'`), and no request id in the prediction log"
    )


def tags_of(project: Project, version: Version) -> dict[str, str]:
    """A version's tags, over those of the run that it came from."""
    return {**project.registry.run(version).data.tags, **version.tags}


def training_of(project: Project, version: Version) -> dict[str, Any]:
    """What the artefact says of its own training; empty if it is not as it was signed."""
    try:
        content = (project.registry.folder(version) / "training.json").read_text()
        return dict(json.loads(content))
    except (EvergreenError, OSError, ValueError):
        return {}


def files_of(training: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of every file that a model learned from, its level too, or was judged on."""
    level = training.get("recalibration", {})
    return {**training.get("partitions", {}), **level.get("partitions", {})}


def of_version(project: Project, version: Version) -> VersionLineage:
    """The lineage of a registered version; `unknown` where nothing was recorded."""
    tags = tags_of(project, version)
    folder = project.settings.serving.folder

    def said(name: str) -> str:
        return tags.get(name, "unknown")

    return VersionLineage(
        version=version.number,
        digest=version.digest,
        aliases=project.registry.aliases(version),
        as_of=said("as_of"),
        cause=said("cause"),
        code={
            "git_sha": said("git_sha"),
            "git_dirty": said("git_dirty") == "true",
            "changed": tags.get("git_changed", "").splitlines(),
        },
        snapshot={"tag": said("snapshot_tag"), "md5": said("snapshot")},
        partitions=files_of(training_of(project, version)),
        labels=said("labels"),
        params=said("params"),
        lock=said("lock"),
        packages=said("packages"),
        python=said("python"),
        author=said("author"),
        prefect_run=said("prefect_run"),
        mlflow_run=version.run_id,
        verdict=said("gates"),
        reason=said("reason"),
        gates={k.removeprefix(GATE): v for k, v in tags.items() if k.startswith(GATE)},
        bento=tags.get("bento", "none"),
        served=history.served(folder, version.number),
        rolled_back=tags.get("rolled_back"),
    )


def of_snapshot(project: Project, snapshot: Snapshot, versions: list[Version]) -> SnapshotLineage:
    """What a snapshot holds and which of the versions come from it."""
    held = contents(project, snapshot)
    trained = [v for v in versions if tags_of(project, v).get("snapshot") == snapshot.md5]
    used = {v.number: files_of(training_of(project, v)) for v in versions}
    return SnapshotLineage(
        tag=snapshot.tag,
        md5=snapshot.md5,
        partitions=held,
        trained=[version.number for version in trained],
        contained=[
            number for number, files in used.items() if files and files.items() <= held.items()
        ],
        disagrees=[
            number
            for number, files in used.items()
            if any(held.get(name, digest) != digest for name, digest in files.items())
        ],
    )


def contents(project: Project, snapshot: Snapshot) -> dict[str, str]:
    """sha256 of every partition file in a snapshot."""
    home = project.settings.home
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        raw = Path(scratch) / "raw"
        project.snapshots.restore(snapshot.md5, raw)
        manifest = Partitions(raw).manifest()
    return {name: entry["sha256"] for name, entry in manifest.items()}


def _of_answer(
    project: Project, record: dict[str, Any], versions: dict[str, Version]
) -> AnswerLineage:
    number, digest = record["model_version"], record["digest"]
    version = versions.get(number)
    if version is None or version.digest != digest:
        raise EvergreenError(
            f"{record['request_id']} was answered by version {number} ({digest[:16]}), which the "
            "registry does not have: restore var/mlflow from the backup of that time"
        )
    return AnswerLineage(record["request_id"], record, of_version(project, version))


def to_json(lineage: Lineage) -> dict[str, Any]:
    """Plain JSON, with its kind: version, snapshot or answer."""
    kind = {VersionLineage: "version", SnapshotLineage: "snapshot", AnswerLineage: "answer"}
    content: dict[str, Any] = json.loads(json.dumps(asdict(lineage), default=str))
    return {"kind": kind[type(lineage)], **content}


def partitions_digest(lineage: VersionLineage) -> str:
    """One digest for all partitions, as the version's tag `partitions` has it."""
    return digest_of(lineage.partitions)
