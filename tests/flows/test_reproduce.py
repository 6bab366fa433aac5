"""Any version is made again bit for bit from its record, or what differs is named."""

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from data.errors import EvergreenError
from flows.packages import environment, installed, other_versions
from flows.release import run_release
from flows.reproduce import run_reproduce
from models.ledger import Act
from models.version import Version
from tests.flows.conftest import git, train


def differing(found) -> set[str]:
    return {check.name for check in found.checks if not check.equal}


def left_behind(project) -> list[Path]:
    return list((project.settings.home / "reproduce").glob("made-*"))


@pytest.fixture
def altered(first):
    """Change a file of the version's run for one test."""
    kept = {}

    def change(name: str, old: str, new: str) -> None:
        path = Path(first.source.removeprefix("file://")).parent / name
        kept[path] = path.read_bytes()
        assert kept[path].count(old.encode())
        path.write_bytes(kept[path].replace(old.encode(), new.encode(), 1))

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.mark.usefixtures("tidy")
def test_without_the_cache_in_a_dirty_tree_and_on_another_commit(world, project, first, capfd):
    """By the command, as a person does it; the tree, the index and the branch stay as they are."""
    checkout = world.checkout
    (checkout / "data" / "features.py").write_text("raise RuntimeError('not this code')\n")
    git(checkout, "commit", "-qam", "broken")
    (checkout / "models" / "train.py").write_text("raise RuntimeError('nor this')\n")
    params = checkout / "params.yaml"
    params.write_text(params.read_text().replace("max_depth: 6", "max_depth: 2"))
    shutil.rmtree(world.home / "dvc" / "cache")
    before = git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")
    assert "models/train.py" in before[0] and "params.yaml" in before[0]

    found = run_reproduce(project, first.number)
    assert found.equal, found.message
    checks = {check.name: check for check in found.checks}
    assert checks["model digest"].rebuilt == first.digest
    assert checks["holdout metrics"].rebuilt == "52 metrics"
    assert (checks["predictions"].recorded, checks["predictions"].rebuilt) == (
        "4000 rows", "all equal"
    )  # fmt: skip
    assert checks["data"].rebuilt.startswith("16 files")
    assert (git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")) == before
    assert left_behind(project) == []


@pytest.fixture
def damaged(world):
    """Size and time are kept, so that DVC itself would deliver the changed bytes."""
    cache = world.home / "dvc" / "cache"
    kept = shutil.copytree(cache, world.home / "dvc" / "kept")
    paths = [path for path in (cache / "files").rglob("*") if path.is_file()]
    assert len(paths) > 16
    for path in paths:
        content, times = bytearray(path.read_bytes()), path.stat()
        content[len(content) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(bytes(content))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield
    shutil.rmtree(cache)
    kept.rename(cache)


@pytest.mark.usefixtures("damaged")
def test_other_parameters_are_named_with_what_follows_from_them(world, first, altered):
    """The data is as it was, though the cache is damaged: that is left aside for the remote."""
    altered("params.yaml", "n_estimators: 60", "n_estimators: 61")
    done = world.run("reproduce", first.number, "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert "data" in {check["name"] for check in found["checks"]}
    wrong = {check["name"]: check for check in found["checks"] if not check["equal"]}
    assert set(wrong) == {"params.yaml", "model digest", "holdout metrics", "predictions"}
    assert "model.onnx" in wrong["model digest"]["rebuilt"]
    assert "training.json" in wrong["model digest"]["rebuilt"]
    assert found["message"].startswith(f"version {first.number} differs: params.yaml")


@pytest.mark.usefixtures("damaged")
def test_with_a_tampered_artefact_and_a_damaged_cache_the_model_comes_back_all_the_same(
    project, first, altered
):
    altered("registered/artefact/contract.json", '"threshold":0.3', '"threshold":0.9')
    found = run_reproduce(project, first.number)
    assert differing(found) == {"stored artefact", "predictions"}
    assert "is not as it was signed" in found.checks[0].rebuilt
    assert "Hash mismatch for 'artefact/contract.json'" in found.checks[0].rebuilt


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"git_sha": "0" * 40}, "commit 0000"),
        ({"git_sha": "none", "snapshot": "none"}, "no record of its git_sha, snapshot"),
        ({"snapshot": "0" * 32}, "neither in the DVC cache nor in the default remote"),
        (
            {"git_changed": "data/features.py\nparams.yaml"},
            "dirty tree: data/features.py as it was",
        ),
    ],
)
def test_what_was_lost_is_one_error_and_nothing_is_left(project, first, tags, said):
    kept = {name: first.tags[name] for name in tags}
    project.registry.tag(first, tags)
    try:
        with pytest.raises(EvergreenError, match=said) as error:
            run_reproduce(project, first.number)
        assert "\n" not in str(error.value)
    finally:
        project.registry.tag(first, kept)
    assert left_behind(project) == []


def test_packages_of_another_version_are_named():
    lock = (
        "numpy==2.3.0 ; python_version < '3.12' \\\n    --hash=sha256:0\n"
        "numpy==2.4.6 \\\n    --hash=sha256:1\nA_b.c==1\n"
    )
    assert other_versions(lock, {"numpy": "2.4.6", "a-b-c": "1", "more": "9"}) == []
    assert other_versions(lock, {"NumPy": "1.0", "a.b.c": "2"}) == [
        "a-b-c 1, here 2",
        "numpy 2.3.0 or 2.4.6, here 1.0",
    ]


def test_an_interpreter_without_the_packages_is_refused(project, first, tmp_path):
    with pytest.raises(EvergreenError, match="does not run"):
        run_reproduce(project, first.number, tmp_path / "no-python")
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\necho '{json.dumps({**installed(), 'xgboost': '0.1'})}'\n")
    other.chmod(0o755)
    with pytest.raises(EvergreenError, match=r"other packages than .* \(xgboost 3.*, here 0\.1\)"):
        run_reproduce(project, first.number, other)


def test_an_environment_is_made_once_from_a_lock_that_this_one_does_not_follow(tmp_path, root):
    """One pure package of our own lock, with its hashes; a pin beside it is of another platform."""
    lines = (root / "requirements.lock").read_text().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("iniconfig=="))
    stop = next(i for i in range(start, len(lines)) if not lines[i].endswith("\\"))
    lock, homes = tmp_path / "lock", tmp_path / "homes"
    lock.write_text("\n".join(lines[start : stop + 1]) + "\n")
    assert environment(lock, homes) == Path(sys.executable)

    elsewhere = "pytest==0.1 ; sys_platform == 'elsewhere' \\\n    --hash=sha256:" + "0" * 64
    lock.write_text(lock.read_text() + elsewhere + "\n")
    made = environment(lock, homes)
    assert set(installed(made)) == {"iniconfig"}
    assert environment(lock, homes) == made
    lock.write_text(lock.read_text().replace("sha256:", "sha256:f"))
    with pytest.raises(EvergreenError, match="recorded packages cannot be installed") as error:
        environment(lock, homes)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("tidy")
def test_code_that_no_commit_holds_never_serves_until_it_is_committed(world, project, first):
    drift = world.checkout / "data" / "drift.py"
    drift.write_text(f"{drift.read_text()}\n# an idea\n")
    dirty = train(world.checkout, "2024-W07")
    assert not dirty.passed
    assert dirty.version.tags["git_dirty"] == "true"
    assert dirty.version.tags["gates"] == "rejected"
    assert "no commit holds data/drift.py as trained: commit or stash" in dirty.reason
    assert dirty.version.tags["gate.git_clean"].startswith("failed: ")
    refused(project, dirty.version)
    forged = {"gates": "passed", "judged_against": "none"}
    project.registry.tag(dirty.version, forged)
    refused(project, project.registry.get(dirty.version.number))

    git(world.checkout, "commit", "-qam", "an idea")
    clean = train(world.checkout, "2024-W07")
    assert clean.passed, clean.reason
    assert clean.version.number != dirty.version.number
    assert clean.version.digest == dirty.version.digest
    assert train(world.checkout, "2024-W07").version.number == clean.version.number


def refused(project, version: Version) -> None:
    with pytest.raises(EvergreenError, match=r"trained from a dirty tree \(data/drift.py"):
        run_release(project, version.number)
    act = Act(datetime(2024, 3, 1, tzinfo=UTC), "a test", "why")
    with pytest.raises(EvergreenError, match="trained from a dirty tree"):
        project.registry.promote(version, None, act)


@pytest.mark.usefixtures("tidy")
def test_a_tuned_version_of_uncommitted_parameters_is_made_again(world, project, first):
    """From its record: the studies are gone by then, and a new one might stop elsewhere.

    It is rejected for the parameters that no commit holds, but what it was can still be shown.
    """
    path = world.checkout / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["tune"] |= {"enabled": True, "trials": 3}
    content["rolling"] |= {"minimum_periods": 2, "selection_periods": 1}
    content["calibration"]["periods"] = 2
    path.write_text(yaml.safe_dump(content))
    judged = train(world.checkout, "2024-W06")
    assert not judged.passed and judged.version.tags["git_changed"] == "params.yaml"
    git(world.checkout, "checkout", "-q", "params.yaml")
    shutil.rmtree(world.home / "tune")
    study = json.loads(project.registry.text(judged.version, "study.json"))
    assert study["trials"] == 3
    assert judged.version.tags["candidate"] == study["kind"] in judged.version.tags["choice"]
    client = project.registry.tracking.client()
    below = client.search_runs(
        [project.registry.tracking.experiment()],
        f"tags.mlflow.parentRunId = '{judged.version.run_id}'",
    )
    assert len(below) == 3
    found = run_reproduce(project, judged.version.number)
    assert found.equal, found.message
