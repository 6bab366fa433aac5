"""A model's life in team mode, thin: PostgreSQL and S3 keep everything, and a second host sees it.

People sign in: one operates, one approves, and what is refused to whom is tried along the way. The
tests run in the order in which they stand. With EVERGREEN_TEST_TEAM=on the whole cycle of
`test_e2e_cycle` runs in team mode, too.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import requests
import yaml

from flows import roster, users
from flows.access import Role
from flows.settings import Settings
from models.ledger import Kind, Ledger
from tests import stores
from tests.conftest import fill
from tests.e2e.world import GIT, World, make_world, processes_of
from tests.serving_stack import wait_for

pytestmark = pytest.mark.team
PEOPLE = {"ann": Role.APPROVER, "bob": Role.APPROVER, "oli": Role.OPERATOR, "vic": Role.VIEWER}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A host with the data up to the change, where a person has to approve."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-team-"))
    with stores.team() as told:
        made = make_world(folder, told)
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params["approval"] |= {"required": True, "timeout_hours": 0.2}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        subprocess.run([*GIT, "-C", str(folder), "commit", "-qam", "approval"], check=True)
        fill(folder / "data" / "raw", "2024-W01", "2024-W13")
        try:
            yield made
        finally:
            for process in processes_of(made):
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tokens(world: World) -> dict[str, str]:
    """By name."""
    settings, made = Settings.read({**world.environment, "EVERGREEN_HOME": str(world.home)}), {}
    with roster.one_writer(settings) as (known, keep):
        for name, role in PEOPLE.items():
            known, made[name] = users.add(known, name, role, datetime(2024, 5, 1, tzinfo=UTC))
        keep(known)
    return made


@pytest.fixture(scope="module")
def ann(world: World, tokens: dict[str, str]) -> World:
    return signed_in(world, tokens["ann"])


@pytest.fixture(scope="module")
def oli(world: World, tokens: dict[str, str]) -> World:
    return signed_in(world, tokens["oli"])


def signed_in(world: World, token: str) -> World:
    return replace(world, environment={**world.environment, "EVERGREEN_TOKEN": token})


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


def ask(world: World, token: str, service: str, path: str, **body: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"authorization": f"Bearer {token}"}
        method = "POST" if body else "GET"
        url = f"{world.url(service)}{path}"
        return session.request(method, url, json=body or None, headers=headers, timeout=60)


def form(world: World, token: str, forms: int) -> tuple[str, str]:
    """The run that waits with its `forms`-th form: its path, and what the form says."""
    found: list[tuple[str, str]] = []

    def waits() -> bool:
        paused = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        for run in ask(world, token, "prefect", "/api/flow_runs/filter", **paused).json():
            path = f"/api/flow_runs/{run['id']}"
            given = ask(world, token, "prefect", f"{path}/input/filter", prefix="", limit=50).json()
            said = [each for each in given if each["key"].endswith("-description")]
            if len(said) == forms:
                newest = max(said, key=lambda each: each["created"])
                found.append((path, newest["value"]))
        return bool(found)

    wait_for(waits, 240)
    return found[0]


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


def begun(world: World, period: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "retrain", "--as-of", period],
        cwd=world.checkout,
        env=world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said


def test_up_and_a_period_comes_in(oli: World) -> None:
    done(oli, "up", "--team")
    done(oli, "ingest", "2024-W14")


def test_a_first_champion_serves_once_somebody_approves(oli: World, tokens: dict[str, str]) -> None:
    process = begun(oli, "2024-W09")
    path, _ = form(oli, tokens["oli"], 1)
    yes = {"run_input": {"decision": "approve", "note": "looks right"}}
    for name, words in (("vic", "vic is a viewer"), ("oli", "oli is an operator")):
        refused = ask(oli, tokens[name], "prefect", f"{path}/resume", **yes)
        assert refused.status_code == 403 and words in refused.json()["detail"]
    assert ask(oli, tokens["ann"], "prefect", f"{path}/resume", **yes).json()["status"] == "ACCEPT"
    ended(process)
    assert serving(oli) == "1"


def test_its_successor_is_promoted_by_somebody_else_than_its_author(
    ann: World, tokens: dict[str, str]
) -> None:
    process = begun(ann, "2024-W14")
    path, _ = form(ann, tokens["ann"], 1)
    yes = {"run_input": {"decision": "approve", "note": "mine"}}
    ask(ann, tokens["ann"], "prefect", f"{path}/resume", **yes)
    path, said = form(ann, tokens["bob"], 2)
    assert "ann cannot approve version 2, which is their own" in said and serving(ann) == "1"
    ask(ann, tokens["bob"], "prefect", f"{path}/resume", **yes)
    ended(process)
    assert aliases(ann) == {"champion": "2", "challenger": None, "previous": "1"}
    assert serving(ann) == "2"
    approved = [e for e in Ledger(ann.home / "ledger.jsonl").read() if e.kind is Kind.APPROVED]
    assert [(entry.version, entry.by) for entry in approved] == [("1", "ann"), ("2", "bob")]
    for page in ("card.html", "gates.html"):
        assert ask(ann, tokens["vic"], "board", f"/versions/2/{page}").status_code == 200


def test_a_viewer_moves_nothing_at_any_server(world: World, tokens: dict[str, str]) -> None:
    alias = {"name": "parcels", "alias": "champion", "version": "1"}
    path = "/api/2.0/mlflow/registered-models/alias"
    for name in ("vic", "ann"):
        refused = ask(world, tokens[name], "mlflow", path, **alias)
        assert refused.status_code == 403 and "no role does" in refused.text
    deployments = ask(world, tokens["vic"], "prefect", "/api/deployments/filter", limit=50).json()
    for each in deployments:
        start = f"/api/deployments/{each['id']}/create_flow_run"
        refused = ask(world, tokens["vic"], "prefect", start, parameters={})
        assert refused.status_code == 403 and "takes the role operator" in refused.text
    assert len(deployments) == 8 and ask(world, "", "board", "/").status_code == 401


def test_and_taken_back(oli: World) -> None:
    done(oli, "rollback", "--reason", "a test")
    assert aliases(oli)["champion"] == serving(oli) == "1"
    done(oli, "verify")


def test_nothing_is_kept_on_the_host_and_no_secret_is_seen(
    world: World, tokens: dict[str, str]
) -> None:
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
    secrets = (stores.PASSWORD, stores.SECRET, *tokens.values())
    for process in processes_of(world):
        with contextlib.suppress(psutil.Error):
            assert not any(secret in " ".join(process.cmdline()) for secret in secrets)
            if "bento" in " ".join(process.cmdline()):
                assert not set(secrets) & set(process.environ().values())
    for path in world.home.rglob("*"):
        if path.suffix in (".log", ".conf", ".json", ".jsonl", ".toml") or path.name == "config":
            text = path.read_text(errors="replace")
            assert not any(secret in text for secret in secrets), path


def test_another_host_sees_the_same_and_knows_everybody(
    other: World, tokens: dict[str, str]
) -> None:
    vic, oli = (signed_in(other, tokens[name]) for name in ("vic", "oli"))
    assert "As of 2024-W14" in done(vic, "card", "2")
    found = json.loads(done(vic, "lineage", "2", "--json"))
    assert found["rolled_back"] == "a test"
    refused = vic.run("rollback", "--reason", "a test")
    (line,) = refused.stderr.strip().splitlines()
    assert refused.returncode == 1 and "vic is a viewer, but `evergreen rollback` takes" in line
    done(oli, "data", "pull")
    assert (other.checkout / "data" / "raw" / "2024-W14.parquet").exists()
    looked = oli.run("doctor")
    assert "PostgreSQL 1" in looked.stdout and f"s3://{stores.BUCKET}/shared" in looked.stdout


def test_without_its_stores_the_champion_serves_on_and_every_command_says_so(ann: World) -> None:
    lines = Ledger(ann.home / "ledger.jsonl").read()
    (port,) = stores.free_ports(1)
    database = ann.environment["EVERGREEN_DATABASE_URL"]
    host, _, name = database.rpartition("/")
    gone = f"{host.rpartition(':')[0]}:{port}/{name}"
    away = replace(ann, environment={**ann.environment, "EVERGREEN_DATABASE_URL": gone})
    for command in (["verify"], ["train"], ["rollback", "--reason", "a test"]):
        refused = away.run(*command)
        assert refused.returncode == 1
        (line,) = refused.stderr.strip().splitlines()
        assert "PostgreSQL does not open" in line and stores.PASSWORD not in line
    assert serving(ann) == "1"
    assert Ledger(ann.home / "ledger.jsonl").read() == lines
    done(ann, "down")
