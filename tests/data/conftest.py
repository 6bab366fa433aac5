"""A repository of its own with git, DVC, a cache, a remote, and two snapshots of planted data."""

import shutil
import subprocess

import pytest

from data.snapshots import Snapshots
from tests.planted import NOON

CONFIG = """[core]
    analytics = false
    check_update = false
    remote = local
[cache]
    dir = ../var/cache
['remote "local"']
    url = ../var/remote
"""


def run_git(path, *arguments) -> str:
    done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_checkout(path):
    (path / ".dvc").mkdir(parents=True)
    (path / ".dvc" / "config").write_text(CONFIG)
    (path / ".gitignore").write_text("/var/\n/data/raw/\n")
    (path / "work.txt").write_text("as committed\n")
    run_git(path, "init", "-q")
    run_git(path, "add", ".")
    run_git(path, "commit", "-q", "-m", "first")
    return path


def open_snapshots(checkout) -> Snapshots:
    return Snapshots(checkout, checkout / "data" / "raw", checkout / "var" / "snapshots")


@pytest.fixture(scope="session", autouse=True)
def identity(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            patch.setenv(f"{name}_NAME", "someone")
            patch.setenv(f"{name}_EMAIL", "someone@localhost")
        yield


@pytest.fixture(scope="session")
def git():
    return run_git


@pytest.fixture(scope="session")
def opened():
    """checkout -> its snapshots."""
    return open_snapshots


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit and no data."""
    return make_checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def two_snapshots(tmp_path_factory, filled):
    path = make_checkout(tmp_path_factory.mktemp("versions") / "checkout")
    filled(path / "data" / "raw", "2024-W01", "2024-W02")
    open_snapshots(path).record("2024-W02", NOON)
    filled(path / "data" / "raw", "2024-W03", "2024-W03")
    open_snapshots(path).record("2024-W03", NOON)
    return path


@pytest.fixture
def store(two_snapshots, tmp_path):
    """Snapshots in a copy of a repository: W01 and W02, then W03 as well."""
    shutil.copytree(two_snapshots, tmp_path / "own", symlinks=True)
    return open_snapshots(tmp_path / "own")
