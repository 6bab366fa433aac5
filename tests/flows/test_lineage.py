"""From a version, a snapshot or one answer to everything that it comes from."""

import getpass
import json
import platform
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from bento import history
from bento.history import Switch
from bento.prediction_log import Entry, PredictionLog, slot_file
from data.digests import digest_of
from data.errors import EvergreenError
from data.snapshots import Snapshots
from flows.lineage import to_json, trace
from flows.lineage_view import render
from tests.conftest import fill
from tests.flows.conftest import git
from tests.planted import NOON, PROBLEM, outcomes


@pytest.fixture
def served(project, first):
    """Blue took the traffic, another version after it, and blue again; one request was answered."""
    folder = project.settings.serving.folder
    log = PredictionLog(slot_file(folder, "blue"))
    moves = (
        ("10:00", first.number, "blue"),
        ("11:00", "99", "green"),
        ("12:00", first.number, "blue"),
    )
    for at, version, slot in moves:
        tag = f"parcels:v{version}"
        history.append(folder, Switch(f"2024-03-01T{at}:00+00:00", version, "d", tag, slot))
    row = {"key": "2024-W09-0007", "departs": datetime(2024, 3, 1, 9, 0), "route": "coast"}
    entry = Entry(
        logged_at=datetime(2024, 3, 1, 12, 30, tzinfo=UTC),
        request_id="abc0",
        model_version=first.number,
        digest=first.digest,
        event_time="departs",
        threshold=0.3,
        degraded=False,
        probe=False,
        many=True,
        probabilities=[0.25, 0.25],
        rows=[row, row],
    )
    other = msgspec.structs.replace(entry, request_id="abc1", digest="0" * 64)
    log.append([entry, other])
    log.close()
    yield
    slot_file(folder, "blue").unlink()
    (folder / history.FILE).unlink()


def shown(found) -> str:
    console = Console(width=200, soft_wrap=True)
    with console.capture() as capture:
        console.print(render(found))
    return capture.get()


def test_a_version_carries_its_lineage_itself(world, project, first):
    commit = git(world.checkout, "rev-parse", "HEAD")
    found = trace(project, first.number)
    assert found.code == {"git_sha": commit, "git_dirty": False, "changed": []}
    assert found.snapshot["md5"] in {snapshot.md5 for snapshot in project.snapshots.list()}
    assert git(world.checkout, "cat-file", "-t", found.snapshot["tag"]) == "commit"
    weeks = project.partitions.periods()[:8]
    assert found.partitions == project.partitions.fingerprint(weeks)
    assert first.tags["partitions"] == digest_of(found.partitions)
    assert found.as_of == "2024-W08" and found.cause == "a test"
    assert found.params == digest_of(project.params.model_dump())[:16]
    assert found.packages == "as locked" or ", here " in found.packages
    assert found.verdict == "passed" and {"git_clean", "importance_shift"} < set(found.gates)
    assert all(verdict.startswith("passed: ") for verdict in found.gates.values())
    assert found.python == platform.python_version() and found.author == getpass.getuser()
    recorded = {"git_sha", "git_dirty", "snapshot", "snapshot_tag", "params", "lock", "digest"}
    recorded |= {"mlflow_run", "prefect_run", "as_of", "cause", "author", "python", "gates"}
    assert recorded <= set(first.tags), "on the version, not only on its run"
    assert found.prefect_run == "none" and found.bento == "none" and found.served == []
    for value in (commit, found.snapshot["tag"], found.mlflow_run, "git_clean", "never"):
        assert value in shown(found)


@pytest.mark.usefixtures("served")
def test_when_and_where_it_served(project, first):
    spans = trace(project, first.number).served
    assert [(s.slot, s.since[11:16], s.until and s.until[11:16]) for s in spans] == [
        ("blue", "10:00", "11:00"),
        ("blue", "12:00", None),
    ]


@pytest.mark.usefixtures("served")
def test_from_one_answer_to_all_of_that(project, first):
    found = trace(project, "abc0-1")
    assert found.answer["probability"] == 0.25 and found.answer["row"] == {
        "departs": "2024-03-01T09:00:00",
        "route": "coast",
    }
    assert found.model == trace(project, first.number)
    content = to_json(found)
    assert content["kind"] == "answer" and content["model"]["served"][0]["slot"] == "blue"
    assert "abc0-1" in shown(found) and first.digest in shown(found)
    with pytest.raises(EvergreenError, match="which the registry does not have"):
        trace(project, "abc1-1")


def test_from_a_snapshot_to_its_versions(world, project, first, tmp_path):
    own = next(s for s in project.snapshots.list() if s.md5 == first.tags["snapshot"])
    found = trace(project, own.tag)
    assert first.number in found.trained and first.number in found.contained
    assert found.disagrees == []
    assert trace(project, own.md5[:8]) == found
    assert found.partitions == {
        name: entry["sha256"] for name, entry in project.partitions.manifest().items()
    }

    def recorded(name, first_week, last_week, problem=PROBLEM):
        raw = fill(tmp_path / name / "raw", first_week, last_week, problem).folder
        return Snapshots(world.checkout, raw, tmp_path / f"{name}-scratch").record(name, NOON)

    more = trace(project, recorded("more", "2024-W01", "2024-W09").tag)
    assert first.number in more.contained and more.trained == more.disagrees == []
    less = trace(project, recorded("less", "2024-W01", "2024-W04").tag)
    assert (less.trained, less.contained, less.disagrees) == ([], [], [])
    flipped = replace(PROBLEM, outcomes=lambda batch: outcomes(batch).assign(
        label=lambda found: 1 - found["label"]))  # fmt: skip
    other = trace(project, recorded("other", "2024-W01", "2024-W02", flipped).tag)
    assert other.contained == [] and first.number in other.disagrees
    assert "saw other content" in shown(other)


@pytest.mark.parametrize("text", ["77", "data-no-such", "deadbeef", "abc0-1", "", "…"])
def test_unknown_is_one_error(project, first, text):
    with pytest.raises(EvergreenError, match=r"is no version \(there are: ") as error:
        trace(project, text)
    assert "\n" not in str(error.value)


def test_the_command_speaks_json(world, first):
    done = world.run("lineage", first.number, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["kind"], content["digest"]) == ("version", first.digest)


def test_nothing_is_left_behind(world, project):
    assert not list(project.settings.home.glob("tmp*"))
    assert git(world.checkout, "status", "--porcelain") == ""
