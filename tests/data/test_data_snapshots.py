"""Snapshots in a real repository: a tag for each state, and the user's work untouched."""

import os
import subprocess
import sys

import pytest

from data.errors import EvergreenError
from data.snapshots import Snapshots

CONFIG = """[core]
    analytics = false
    check_update = false
    remote = local
[cache]
    dir = ../var/cache
['remote "local"']
    url = ../var/remote
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "someone")
        monkeypatch.setenv(f"{name}_EMAIL", "someone@localhost")
    path = tmp_path / "checkout"
    (path / ".dvc").mkdir(parents=True)
    (path / ".dvc" / "config").write_text(CONFIG)
    (path / ".gitignore").write_text("/var/\n/data/raw/\n")
    (path / "work.txt").write_text("as committed\n")
    git(path, "init", "-q")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "first")
    return path


def git(path, *arguments) -> str:
    done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state(path) -> list[str]:
    """Everything of the user's: branch, commit, index, work tree, stash."""
    asked = ("status --porcelain=v1 --ignored", "rev-parse HEAD", "symbolic-ref HEAD",
             "ls-files --stage", "diff", "diff --cached", "for-each-ref refs/heads")  # fmt: skip
    return [git(path, *question.split()) for question in asked]


def snapshots(checkout) -> Snapshots:
    return Snapshots(checkout, checkout / "data" / "raw", checkout / "var" / "snapshots")


def test_snapshots_are_tags_that_leave_the_users_work_alone(checkout, filled, contents, tmp_path):
    raw = checkout / "data" / "raw"
    filled(raw, "2024-W01", "2024-W02")
    (checkout / "work.txt").write_text("staged\n")
    git(checkout, "add", "work.txt")
    (checkout / "work.txt").write_text("staged, then changed\n")
    (checkout / "new.txt").write_text("untracked\n")
    (checkout / "var").mkdir()
    first_bytes = contents(raw)

    store = snapshots(checkout)
    assert store.latest() is None
    (checkout / "var" / "any").write_text("so that git names var among the ignored")
    before = state(checkout)
    first = store.record("2024-W02")
    assert state(checkout) == before and contents(raw) == first_bytes
    assert first.tag == f"data-2024-W02-{first.md5[:8]}"
    assert store.record("2024-W02") == first == store.record("another name, same content")
    assert store.list() == [first]

    filled(raw, "2024-W03", "2024-W03")
    second = store.record("2024-W03")
    assert state(checkout) == before
    assert second.md5 != first.md5
    assert {s.tag for s in store.list()} == {first.tag, second.tag}

    out = tmp_path / "old"
    command = [sys.executable, "-m", "dvc", "get", str(checkout), "data/raw", "--rev", first.tag]
    done = subprocess.run([*command, "-o", str(out)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(out) == first_bytes


def test_a_repository_without_a_commit_and_a_folder_without_git(checkout, filled, tmp_path):
    (checkout / ".git").rename(tmp_path / "was-git")
    raw = checkout / "data" / "raw"
    filled(raw, "2024-W01", "2024-W01")
    with pytest.raises(EvergreenError, match="not a git repository"):
        snapshots(checkout).record("2024-W01")
    git(checkout, "init", "-q")
    made = snapshots(checkout).record("2024-W01")
    assert snapshots(checkout).latest() == made
    assert not git(checkout, "ls-files")
    assert os.listdir(raw)
