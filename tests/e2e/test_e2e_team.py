"""A model's life in team mode, thin: PostgreSQL and S3 keep everything, and a second host sees it.

The tests run in the order in which they stand.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import stores
from tests.conftest import fill
from tests.e2e.world import World, make_world, processes_of


@pytest.fixture(scope="module")
def life() -> Iterator[tuple[World, contextlib.ExitStack]]:
    """A host with the data up to the change, and what ends its stores."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-team-"))
    with contextlib.ExitStack() as running:
        made = make_world(folder, running.enter_context(stores.team()))
        fill(folder / "data" / "raw", "2024-W01", "2024-W13")
        try:
            yield made, running
        finally:
            made.run("down")
            for process in processes_of(made):
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def world(life) -> World:
    return life[0]


def done(world: World, *arguments: str) -> str:
    found = world.run(*arguments)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def aliases(world: World) -> dict:
    return json.loads(done(world, "status", "--json"))["aliases"]


def asked(world: World) -> dict:
    rows = fill(world.checkout / "data" / "raw", "2024-W13", "2024-W13").rows
    del rows
    with requests.Session() as session:
        session.trust_env = False
        reply = session.get(f"{world.url('gateway')}/version", timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_up_ingest_retrain_release_and_back(world: World) -> None:
    done(world, "up")
    done(world, "ingest", "2024-W14")
    done(world, "retrain", "--as-of", "2024-W09")
    done(world, "retrain", "--as-of", "2024-W14")
    assert aliases(world) == {"champion": "2", "challenger": None, "previous": "1"}
    assert asked(world)["model_version"] == "2"
    done(world, "rollback", "--reason", "a test")
    assert aliases(world)["champion"] == asked(world)["model_version"] == "1"
    done(world, "verify")
