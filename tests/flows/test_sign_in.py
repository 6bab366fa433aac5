"""A viewer's token tried on everything, at the real servers; and no secret where it may be seen."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

import psutil
import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bento import auth
from flows import service, users
from flows.access import Role
from flows.settings import PORTS, Settings
from tests.browser import browser, needs_chromium
from tests.conftest import ROOT
from tests.serving_stack import free_ports, wait_for

AT = datetime(2024, 5, 1, tzinfo=UTC)
PEOPLE = {"ann": Role.APPROVER, "oli": Role.OPERATOR, "vic": Role.VIEWER}
QUICK = {"PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
# Whatever reads like a token, a key of the endpoint, or a private key.
SHAPED = re.compile(rb"evergreen_(user_)?[\w-]{43}|-----BEGIN [A-Z ]*PRIVATE KEY")
RECEIVED = "Network.responseReceived"
LATER = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2040-01-01T00:00:00Z"}}
FORM = {
    "type": "object",
    "properties": {"decision": {"type": "string"}, "by": {"type": "string"}},
}


@dataclass(frozen=True)
class Office:
    """Prefect, MLflow and the board of a home where people sign in."""

    settings: Settings
    tokens: dict[str, str]
    processes: tuple[subprocess.Popen[bytes], ...]

    def ask(self, who: str, method: str, service: str, path: str, **sent) -> requests.Response:
        """As somebody, by name and token; as nobody, or with the secret of the installation."""
        own = tuple(service_secret(self).split(":")) if who == "installation" else None
        known = (who, self.tokens[who]) if who in self.tokens else own
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self.settings.url(service)}{path}"
            return session.request(method, url, auth=known, timeout=60, **sent)


def service_secret(office: Office) -> str:
    return service.prefect(office.settings)


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    home = Path(tempfile.mkdtemp(prefix="eg", dir="/tmp"))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    named = {f"EVERGREEN_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    known, tokens = (), {}
    for name, role in PEOPLE.items():
        known, tokens[name] = users.add(known, name, role, AT)
    users.save(home, known)
    keys, _, tokens["endpoint"] = auth.create((), "shop", "predict", AT)
    auth.save(home / "serving", keys)
    settings = Settings.read({"EVERGREEN_HOME": str(home), **named})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))  # what `make` tells stays in here
        service.make(settings)
        _models(settings)
        started = tuple(_start(settings, *each) for each in _programs(settings))
        made = Office(settings, tokens, started)
        try:
            for name, path in (("prefect", "/api/health"), ("mlflow", "/health"),
                               ("board", "/healthz")):  # fmt: skip
                wait_for(lambda n=name, p=path: _answers(made, n, p), 240)
            yield made
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
            rmtree(home)


def _programs(settings: Settings) -> list[tuple[str, list[str]]]:
    uri, mlflow, board = settings.tracking_uri, settings.ports["mlflow"], settings.ports["board"]
    server = ["server", "--backend-store-uri", uri, "--workers", "1", "--port", str(mlflow)]
    return [
        ("prefect", service.prefect_server(settings, [])),
        ("mlflow", service.mlflow_server(settings, server)),
        ("board", ["-m", "uvicorn", "--factory", "flows.board:served", "--port", str(board)]),
    ]


def _models(settings: Settings) -> None:
    """A registered model with a version, as the flows write it: to the database."""
    from models.tracking import Tracking

    client = Tracking(settings.tracking_uri, settings.home / "mlflow" / "artifacts", "m").client()
    client.create_registered_model("m")
    client.create_model_version("m", "file:///nowhere", tags={"author": "oli"})


def _start(settings: Settings, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    (settings.home / "logs").mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN", "PREFECT"))}
    with (settings.home / "logs" / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**kept, **settings.child_environment(), **QUICK},
            stdout=log,
            stderr=log,
        )


def _answers(office: Office, name: str, path: str) -> bool:
    try:
        return office.ask("nobody", "GET", name, path).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def deployment(office) -> str:
    """The id of a deployment, made as `evergreen up` makes it."""
    flow = office.ask("installation", "POST", "prefect", "/api/flows/", json={"name": "retrain"})
    assert flow.status_code == 201, flow.text
    said = {
        "name": "retrain",
        "flow_id": flow.json()["id"],
        "parameter_openapi_schema": {"type": "object", "properties": {"by": {"type": "string"}}},
    }
    made = office.ask("installation", "POST", "prefect", "/api/deployments/", json=said)
    assert made.status_code in (200, 201), made.text
    return made.json()["id"]


@pytest.fixture(scope="module")
def run(office, deployment) -> str:
    """The id of a run that the operator started."""
    path = f"/api/deployments/{deployment}/create_flow_run"
    said = {"state": LATER, "parameters": {}}
    made = office.ask("oli", "POST", "prefect", path, json=said)
    assert made.status_code == 201, made.text
    assert made.json()["parameters"] == {"by": "oli"}
    assert made.json()["created_by"]["display_value"] == "oli"
    return made.json()["id"]


def test_nobody_is_let_in_without_a_token(office):
    for name, path in (("prefect", "/api/flow_runs/filter"), ("board", "/"),
                       ("mlflow", "/api/2.0/mlflow/experiments/search")):  # fmt: skip
        method = "POST" if name == "prefect" else "GET"
        for who in ("nobody", "endpoint"):
            reply = office.ask(who, method, name, path, json={})
            assert reply.status_code == 401 and "sign in with your name" in reply.text, reply.text
        other = {"authorization": "Bearer " + office.tokens["vic"][:-1] + "x"}
        assert office.ask("nobody", method, name, path, headers=other).status_code == 401
    with requests.Session() as session:
        session.trust_env = False
        url = office.settings.url("board")
        assert session.get(url, auth=("ann", office.tokens["vic"])).status_code == 401


def test_a_viewer_sees_everything(office, run):
    assert office.ask("vic", "GET", "board", "/").status_code == 200
    assert office.ask("vic", "GET", "prefect", f"/api/flow_runs/{run}").status_code == 200
    told = office.ask("vic", "GET", "prefect", "/api/admin/settings").text
    assert "auth_string" in told and service_secret(office).partition(":")[2] not in told
    found = office.ask("vic", "POST", "prefect", "/api/flow_runs/filter", json={})
    assert [each["id"] for each in found.json()] == [run]
    model = office.ask("vic", "GET", "mlflow", "/api/2.0/mlflow/registered-models/get?name=m")
    assert model.json()["registered_model"]["name"] == "m"
    said = {"experiment_ids": ["0"]}
    assert office.ask("vic", "POST", "mlflow", "/api/2.0/mlflow/runs/search", json=said).ok


def test_a_viewer_changes_nothing_in_prefect(office, deployment, run):
    tried = {
        f"POST /api/deployments/{deployment}/create_flow_run": "operator",
        f"POST /api/flow_runs/{run}/set_state": "operator",
        f"POST /api/deployments/{deployment}/pause_deployment": "operator",
        f"PATCH /api/deployments/{deployment}": "operator",
        f"POST /api/flow_runs/{run}/resume": "approver",
    }
    only_us = ["POST /api/flow_runs/", f"DELETE /api/flow_runs/{run}", "POST /api/variables/"]
    only_us += [f"DELETE /api/deployments/{deployment}", f"POST /api/flow_runs/{run}/input"]
    only_us += ["POST /api/automations/", "POST /api/block_documents/filter", "POST /api/events"]
    for what, role in tried.items():
        reply = office.ask("vic", *what.split()[:1], "prefect", what.split()[1], json={})
        assert reply.status_code == 403, what
        said = reply.json()["detail"]
        assert said == f"vic is a viewer, but {what} takes the role {role}"
    for what in only_us:
        for who in PEOPLE:
            reply = office.ask(who, *what.split()[:1], "prefect", what.split()[1], json={})
            assert reply.status_code == 403 and "no role does" in reply.text, (who, what)


def test_who_did_what_and_who_may_not_is_in_the_log_a_line_each(office, deployment, run):
    forged = office.ask("vic", "POST", "prefect", "/api/x%0aoli, operator", json={})
    assert forged.status_code == 403
    lines = (office.settings.home / "logs" / "prefect.log").read_text().splitlines()
    assert f"POST /api/deployments/{deployment}/create_flow_run: oli, operator" in lines
    refused = [line for line in lines if line.startswith("POST /api/x")]
    assert len(refused) == 1 and "refused, vic is a viewer" in refused[0]
    assert "oli, operator" not in lines


def test_a_viewer_changes_nothing_in_mlflow_and_nobody_moves_an_alias(office):
    version = {"name": "m", "version": "1"}
    alias, tag = {**version, "alias": "champion"}, {**version, "key": "author", "value": "vic"}
    moved = [
        ("POST", "registered-models/alias", alias),
        ("DELETE", "registered-models/alias", alias),
        ("POST", "model-versions/create", {"name": "m", "source": "file:///etc"}),
        ("POST", "model-versions/set-tag", tag),
        ("POST", "model-versions/transition-stage", {**version, "stage": "Production"}),
        ("DELETE", "model-versions/delete", version),
        ("DELETE", "registered-models/delete", {"name": "m"}),
        ("POST", "experiments/create", {"name": "e", "artifact_location": "file:///etc"}),
        ("PATCH", "users/update-admin", {"username": "vic", "is_admin": True}),
    ]
    for api in ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow"):
        for method, path, said in moved:
            for who in PEOPLE:
                reply = office.ask(who, method, "mlflow", f"{api}/{path}", json=said)
                assert reply.status_code == 403 and "no role does" in reply.text, (who, path)
        path, body = f"{api}/runs/create", {"experiment_id": "0"}
        reply = office.ask("vic", "POST", "mlflow", path, json=body)
        assert reply.text == f"vic is a viewer, but POST {path} takes the role operator\n"
        made = office.ask("oli", "POST", "mlflow", path, json=body)
        assert made.status_code == 200, made.text
        number = made.json()["run"]["info"]["run_id"]
        gone = office.ask("oli", "POST", "mlflow", f"{api}/runs/delete", json={"run_id": number})
        assert gone.status_code == 403
    found = office.ask("vic", "GET", "mlflow", "/api/2.0/mlflow/registered-models/get?name=m")
    assert "aliases" not in found.json()["registered_model"]


def test_mlflow_itself_lets_nobody_write_versions_should_the_door_be_open(office):
    """Its own permissions, as `sign-in.ini` and the grants have them."""
    import sqlite3

    assert office.ask("oli", "GET", "mlflow", "/api/2.0/mlflow/experiments/get?experiment_id=0").ok
    with sqlite3.connect(office.settings.home / service.MLFLOW_USERS) as database:
        granted = database.execute(
            "SELECT users.username, resource_type, permission FROM users"
            " JOIN user_role_assignments ON users.id = user_role_assignments.user_id"
            " JOIN role_permissions USING (role_id)"
        ).fetchall()
        admins = database.execute("SELECT username FROM users WHERE is_admin").fetchall()
    assert {kind for _, kind, _ in granted} <= {"experiment", "run"}
    assert "vic" not in {name for name, *_ in granted} and ("oli", "run", "EDIT") in granted
    assert admins == [("installation",)]
    assert (
        "default_permission = READ"
        in (office.settings.home / service.MLFLOW_CONFIGURATION).read_text()
    )


def test_a_form_is_answered_in_one_s_own_name_by_an_approver(office, run):
    """As a paused release waits: the answer that it reads has the name of who signed in."""
    keys = {"schema": "pause-schema", "response": "pause-response", "description": "pause-words"}
    value = {"key": keys["schema"], "value": json.dumps(FORM)}
    path = f"/api/flow_runs/{run}"
    assert office.ask("installation", "POST", "prefect", f"{path}/input", json=value).ok
    paused = {"type": "PAUSED", "name": "Paused"}
    paused["state_details"] = {"run_input_keyset": keys, "pause_timeout": "2040-01-01T00:00:00Z"}
    body = {"state": paused, "force": True}
    assert office.ask("installation", "POST", "prefect", f"{path}/set_state", json=body).ok
    yes = {"run_input": {"decision": "approve"}}
    refused = office.ask("oli", "POST", "prefect", f"{path}/resume", json=yes)
    assert refused.status_code == 403 and "takes the role approver" in refused.text
    twice = '{"run_input": {"by": "ann"}, "run_input": {"decision": "approve", "by": "bob"}}'
    forged = office.ask("ann", "POST", "prefect", f"{path}/resume", data=twice)
    assert forged.status_code == 403 and "you are ann" in forged.text
    taken = office.ask("ann", "POST", "prefect", f"{path}/resume", json=yes)
    assert taken.json()["status"] == "ACCEPT", taken.text
    kept = office.ask("installation", "GET", "prefect", f"{path}/input/{keys['response']}")
    assert kept.json() == {"decision": "approve", "by": "ann"}


@pytest.mark.parametrize(("path", "opens"), [("/events/out", True), ("/events/in", False)])
def test_a_viewer_follows_the_feed_and_writes_none(office, path, opens):
    url = f"ws://127.0.0.1:{office.settings.ports['prefect']}/api{path}"
    for token, known in ((f"vic:{office.tokens['vic']}", True), ("vic:nothing", False)):
        with connect(url, subprotocols=["prefect"], proxy=None) as socket:
            socket.send(json.dumps({"type": "auth", "token": token}))
            if opens and known:
                assert json.loads(socket.recv(20)) == {"type": "auth_success"}
            else:
                with pytest.raises(ConnectionClosed):
                    socket.recv(20)


@needs_chromium
def test_prefect_s_own_pages_sign_a_viewer_in_and_work(office, deployment):
    """Its login page keeps `NAME:TOKEN` in that place, and sends it along."""
    url, sent = office.settings.url("prefect"), f"vic:{office.tokens['vic']}"
    with browser() as page:
        page.open(f"{url}/deployments")
        wait_for(lambda: page.run("location.pathname") == "/login", 60)
        page.run(f"localStorage.setItem('prefect-password', btoa('{sent}'))")
        page.open(f"{url}/deployments")
        wait_for(lambda: "retrain" in page.run("document.body.innerText"), 60)
        got = [said["response"] for name, said in page.events if name == RECEIVED]
        asked = [each for each in got if "/api/" in each["url"]]
        assert len(asked) > 3 and {each["status"] for each in asked} == {200}


def test_revoked_is_revoked_at_once(office):
    root, path = office.settings.root, "/api/2.0/mlflow/experiments/get?experiment_id=0"
    before = users.load(root)
    added, token = users.add(before, "tim", Role.VIEWER, AT)
    users.save(root, added)
    office.tokens["tim"] = token
    asked = (("board", "/"), ("prefect", "/api/admin/version"), ("mlflow", path))
    assert [office.ask("tim", "GET", *each).status_code for each in asked] == [200] * 3
    users.save(root, users.revoke(added, "tim", AT))
    assert [office.ask("tim", "GET", *each).status_code for each in asked] == [401] * 3


def test_no_secret_is_in_git_in_a_log_in_a_database_or_in_an_argument(office):
    """After all of the above; the file of the one secret is its owner's alone."""
    home, settings = office.settings.home, office.settings
    own = [service.prefect(settings), (home / service.SECRET).read_text()]
    own += [service.derived(settings, p) for p in ("reading", "mlflow admin", "mlflow forms")]
    secrets = {*own, *office.tokens.values(), own[0].partition(":")[2]}
    pairs = [f"{name}:{token}" for name, token in office.tokens.items()]
    secrets |= {base64.b64encode(each.encode()).decode() for each in (own[0], *pairs)}
    sought = [each.encode() for each in secrets]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    tracked = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    for path in filter(Path.is_file, tracked):
        assert not SHAPED.search(path.read_bytes()), path
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert len(kept) > 10 and {"prefect.log", "mlflow.log"} <= {path.name for path in kept}
    for path in [*tracked, *kept]:
        if path != home / service.SECRET and path.is_file():
            content = path.read_bytes()
            assert not [each for each in sought if each in content], path
    for name in (service.SECRET, users.USERS, service.MLFLOW_USERS, service.MLFLOW_CONFIGURATION):
        assert (home / name).stat().st_mode & 0o077 == 0, name
    for started in office.processes:
        process = psutil.Process(started.pid)
        for each in (process, *process.children(recursive=True)):
            said = " ".join(each.cmdline())
            assert not [secret for secret in secrets if secret in said]
