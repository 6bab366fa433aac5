"""A model's life in team mode, thin: PostgreSQL and S3 keep everything, and a second host sees it.

The tests run in the order in which they stand. With EVERGREEN_TEST_TEAM=on the whole cycle of
`test_e2e_cycle` runs so, too.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from models.ledger import Ledger
from tests import stores
from tests.conftest import fill
from tests.e2e.world import World, make_world, processes_of


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A host with the data up to the change."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-team-"))
    with stores.team() as told:
        made = make_world(folder, told)
        fill(folder / "data" / "raw", "2024-W01", "2024-W13")
        try:
            yield made
        finally:
            made.run("down")
            for process in processes_of(made):
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def other(world: World) -> Iterator[World]:
    """A second host: a clone with a home of its own, and the same public key."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-other-"))
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(world.checkout), str(clone)], check=True)
    (clone / "var" / "keys").mkdir(parents=True)
    shutil.copy(world.home / "keys" / "signing.pub", clone / "var" / "keys")
    told = {"PYTHONPATH": str(clone), "EVERGREEN_SITE": "other"}
    yield replace(world, checkout=clone, environment={**world.environment, **told})
    shutil.rmtree(folder, ignore_errors=True)


def done(world: World, *arguments: str) -> str:
    found = world.run(*arguments)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def aliases(world: World) -> dict:
    return json.loads(done(world, "status", "--json"))["aliases"]


def serving(world: World) -> str:
    with requests.Session() as session:
        session.trust_env = False
        reply = session.get(f"{world.url('gateway')}/version", timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()["model_version"]


def test_up_and_a_period_comes_in(world: World) -> None:
    done(world, "up", "--team")
    done(world, "ingest", "2024-W14")


def test_a_first_champion_serves(world: World) -> None:
    done(world, "retrain", "--as-of", "2024-W09")
    assert serving(world) == "1"


def test_its_successor_is_promoted(world: World) -> None:
    done(world, "retrain", "--as-of", "2024-W14")
    assert aliases(world) == {"champion": "2", "challenger": None, "previous": "1"}
    assert serving(world) == "2"


def test_and_taken_back(world: World) -> None:
    done(world, "rollback", "--reason", "a test")
    assert aliases(world)["champion"] == serving(world) == "1"
    done(world, "verify")


def test_nothing_is_kept_on_the_host_and_no_secret_is_seen(world: World) -> None:
    assert not (world.home / "mlflow" / "mlflow.db").exists()
    assert not (world.home / "mlflow" / "artifacts").exists()
    assert not (world.home / "prefect" / "prefect.db").exists()
    assert not list((world.home / "dvc" / "remote").rglob("*.dir"))
    endpoint = world.environment["EVERGREEN_S3_ENDPOINT"]
    pages = stores.bucket_client(endpoint).get_paginator("list_objects_v2")
    keys = [
        each["Key"] for page in pages.paginate(Bucket=stores.BUCKET) for each in page["Contents"]
    ]
    folders = {key.split("/")[1] for key in keys}
    assert folders == {"mlflow", "dvc", "bentos"}
    secrets = (stores.PASSWORD, stores.SECRET)
    for process in processes_of(world):
        with contextlib.suppress(psutil.Error):
            assert not any(secret in " ".join(process.cmdline()) for secret in secrets)
            if "bento" in " ".join(process.cmdline()):
                assert not set(secrets) & set(process.environ().values())
    for path in world.home.rglob("*"):
        if path.suffix in (".log", ".conf", ".json", ".jsonl", ".toml") or path.name == "config":
            text = path.read_text(errors="replace")
            assert not any(secret in text for secret in secrets), path


def test_another_host_sees_the_same(world: World, other: World) -> None:
    assert "version 2" in done(other, "card", "2")
    found = json.loads(done(other, "lineage", "2", "--json"))
    assert found["rolled_back"] == "a test"
    refused = other.run("retrain", "--as-of", "2024-W99")
    assert refused.returncode == 1 and len(refused.stderr.strip().splitlines()) == 1
    done(other, "data", "pull")
    assert (other.checkout / "data" / "raw" / "2024-W14.parquet").exists()
    looked = other.run("doctor")
    assert "PostgreSQL 1" in looked.stdout and f"s3://{stores.BUCKET}/shared/" in looked.stdout


def test_without_its_stores_the_champion_serves_on_and_every_command_says_so(world: World) -> None:
    lines = Ledger(world.home / "ledger.jsonl").read()
    (port,) = stores.free_ports(1)
    database = world.environment["EVERGREEN_DATABASE_URL"]
    host, _, name = database.rpartition("/")
    gone = f"{host.rpartition(':')[0]}:{port}/{name}"
    away = replace(world, environment={**world.environment, "EVERGREEN_DATABASE_URL": gone})
    for command in (["verify"], ["train"], ["rollback", "--reason", "a test"]):
        refused = away.run(*command)
        assert refused.returncode == 1
        (line,) = refused.stderr.strip().splitlines()
        assert "PostgreSQL does not open" in line and stores.PASSWORD not in line
    assert serving(world) == "1"
    assert Ledger(world.home / "ledger.jsonl").read() == lines
