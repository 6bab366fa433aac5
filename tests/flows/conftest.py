"""A project of the planted problem in a repository of its own, with one model; no server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.params import load_params
from flows.project import Project
from flows.settings import PORTS, Settings
from flows.train import Judged, run_train
from models.version import Version
from tests.conftest import fill
from tests.e2e.world import GIT, World, make_world
from tests.planted import PROBLEM


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Iterator[World]:
    """The checkout with the first eight weeks in it."""
    made = make_world(tmp_path_factory.mktemp("flows"))
    fill(made.checkout / "data" / "raw", "2024-W01", "2024-W08")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(made.home / "dvc" / "site"))
        yield made


@pytest.fixture(scope="session")
def project(world) -> Project:
    return opened(world.checkout)


@pytest.fixture(scope="session")
def first(project) -> Version:
    """The version trained from the clean tree, as of the last week."""
    judged = run_train(project, "2024-W08", "a test")
    assert judged.passed, judged.reason
    return judged.version


@pytest.fixture
def tidy(world):
    """The work tree goes back to the commit after the test, and so does the branch."""
    before = git(world.checkout, "rev-parse", "HEAD")
    yield
    git(world.checkout, "reset", "-q", "--hard", before)
    git(world.checkout, "clean", "-qfd", "data", "models")


def opened(checkout: Path) -> Project:
    """As `Project.open` does, without telling this process's environment."""
    settings = Settings(checkout, checkout / "var", PORTS)
    return Project(settings, load_params(checkout / "params.yaml"), PROBLEM)


def git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*GIT, "-C", str(checkout), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def train(checkout: Path, as_of: str) -> Judged:
    """Train with the parameters that the checkout has now."""
    return run_train(opened(checkout), as_of, "a test")
