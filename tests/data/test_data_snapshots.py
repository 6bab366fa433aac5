"""Snapshots in a real repository: a tag for each state, and the user's work untouched."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from filelock import FileLock

from data.errors import EvergreenError
from data.partitions import Partitions
from data.periods import Period
from data.snapshots import writing
from data.versions import of_snapshot
from tests.planted import NOON, ROWS


def state(git, path) -> list[str]:
    """Everything of the user's: branch, commit, index, work tree, stash."""
    asked = ("status --porcelain=v1 --ignored", "rev-parse HEAD", "symbolic-ref HEAD",
             "ls-files --stage", "diff", "diff --cached", "for-each-ref refs/heads")  # fmt: skip
    return [git(path, *question.split()) for question in asked]


def test_snapshots_are_tags_that_leave_the_users_work_alone(
    checkout, filled, contents, git, opened, tmp_path
):
    raw = checkout / "data" / "raw"
    filled(raw, "2024-W01", "2024-W02")
    (checkout / "work.txt").write_text("staged\n")
    git(checkout, "add", "work.txt")
    (checkout / "work.txt").write_text("staged, then changed\n")
    (checkout / "new.txt").write_text("untracked\n")
    (checkout / "var").mkdir()
    first_bytes = contents(raw)

    store = opened(checkout)
    assert store.latest() is None
    (checkout / "var" / "any").write_text("so that git names var among the ignored")
    before = state(git, checkout)
    first = store.record("2024-W02", NOON)
    assert state(git, checkout) == before and contents(raw) == first_bytes
    assert first.tag == f"data-2024-W02-{first.md5[:8]}"
    assert (
        store.record("2024-W02", NOON) == first == store.record("another name, same content", NOON)
    )
    assert store.latest() == first
    assert store.list() == [first]

    filled(raw, "2024-W03", "2024-W03")
    second = store.record("2024-W03", NOON)
    assert state(git, checkout) == before
    assert second.md5 != first.md5
    assert store.list() == [first, second], "also within one second"

    out = tmp_path / "old"
    command = [sys.executable, "-m", "dvc", "get", str(checkout), "data/raw", "--rev", first.tag]
    done = subprocess.run([*command, "-o", str(out)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(out) == first_bytes


def test_a_repository_without_a_commit_and_a_folder_without_git(
    checkout, filled, git, opened, tmp_path
):
    (checkout / ".git").rename(tmp_path / "was-git")
    raw = checkout / "data" / "raw"
    filled(raw, "2024-W01", "2024-W01")
    with pytest.raises(EvergreenError, match="not a git repository"):
        opened(checkout).record("2024-W01", NOON)
    git(checkout, "init", "-q")
    made = opened(checkout).record("2024-W01", NOON)
    assert opened(checkout).latest() == made
    assert not git(checkout, "ls-files")
    assert os.listdir(raw)


def test_what_is_no_snapshot_is_not_listed_and_short_hashes_do_not_count(store, git):
    first, second = store.list()
    git(store.checkout, "tag", "data-of-my-own")
    git(store.checkout, "tag", "-m", "data-2024-W09: mine", "data-2024-W09")
    assert store.list() == [first, second]
    # Another content whose md5 begins alike, under the name that would be next.
    git(store.checkout, "tag", "--delete", second.tag)
    other = second.md5[:8] + "0" * 24
    tree = git(store.checkout, "rev-parse", "HEAD^{tree}").strip()
    message = f"2024-W03: data/raw {other}"
    commit = git(store.checkout, "commit-tree", tree, "-m", message).strip()
    git(store.checkout, "tag", second.tag, commit)
    made = store.record("2024-W03", NOON)
    assert (made.tag, made.md5) == (f"data-2024-W03-{second.md5}", second.md5)
    assert store.record("2024-W03", NOON) == made == store.latest()


def test_a_snapshot_is_found_by_the_beginning_of_its_tag_or_md5(store):
    first, second = store.list()
    for reference in (first.tag, first.md5, first.md5[:5], "2024-W02", "data-2024-W02"):
        assert store.find(reference) == first
    with pytest.raises(EvergreenError, match=f"fits 2 .*{first.tag} and {second.tag}"):
        store.find("2024")
    with pytest.raises(EvergreenError, match=r"no snapshot is called '2031'.*evergreen data list"):
        store.find("2031")


def test_damage_is_never_recorded_and_neither_is_what_the_manifest_does_not_name(store, filled):
    second = store.latest()
    (store.raw / "2024-W09.parquet").write_bytes(b"half written")
    (store.raw / "notes").mkdir()
    assert store.record("2024-W03", NOON) == second
    filled(store.raw, "2024-W04", "2024-W04")
    (store.raw / "2024-W01.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        EvergreenError, match=r"W01\.parquet is lost or damaged.*data repair 2024-W01"
    ):
        store.record("2024-W04", NOON)
    assert store.latest() == second


def test_links_of_the_cache_never_share_bytes_with_the_partitions(checkout, opened, filled):
    config = checkout / ".dvc" / "config"
    config.write_text(config.read_text().replace("[cache]", "[cache]\n    type = hardlink"))
    raw = checkout / "data" / "raw"
    filled(raw, "2024-W01", "2024-W01")
    before = {path.name: path.stat().st_mode for path in raw.iterdir()}
    opened(checkout).record("2024-W01", NOON)
    assert {path.name: path.stat().st_mode for path in raw.iterdir()} == before
    assert {path.stat().st_nlink for path in raw.iterdir()} == {1}


def test_two_processes_record_one_content_once(store, filled):
    filled(store.raw, "2024-W04", "2024-W04")
    script = (
        "import sys; from pathlib import Path; from data.snapshots import Snapshots;"
        "from tests.planted import NOON;"
        "print(Snapshots(*map(Path, sys.argv[1:4])).record(sys.argv[4], NOON).tag)"
    )
    given = [str(store.checkout), str(store.raw), str(store.workspace)]
    racing = [
        subprocess.Popen([sys.executable, "-c", script, *given, name], stdout=subprocess.PIPE)
        for name in ("here", "there")
    ]
    said = {process.communicate()[0] for process in racing}
    assert len(said) == 1 and len(store.list()) == 3


def test_a_lock_that_is_held_is_one_error(store):
    with (
        Partitions(store.raw).lock(),
        pytest.raises(EvergreenError, match="Another process works on it"),
        writing(SimpleNamespace(lock=lambda: FileLock(store.raw / ".lock", timeout=0.1))),
    ):
        pass


def test_garbage_collection_of_all_commits_keeps_every_snapshot(store):
    shutil.rmtree(store.checkout / "var" / "remote")
    cache = store.checkout / "var" / "cache"
    before = [path for path in cache.rglob("*") if path.is_file()]
    orphan = cache / "files" / "md5" / "00" / ("0" * 30)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_text("named by nothing")
    command = [sys.executable, "-m", "dvc", "--cd", str(store.checkout), "gc", "-A", "-f"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not orphan.exists() and all(path.exists() for path in before)
    with store.objects() as objects:
        for snapshot in store.list():
            version = of_snapshot(snapshot, objects)
            assert len(version.read(Period.parse("2024-W01"))) == ROWS
