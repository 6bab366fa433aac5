"""Every command and deployment has a role; a token opens what its role may do, and nothing more."""

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from data.errors import EvergreenError
from data.params import load_params
from flows import doctor_access, door_mlflow, door_rules, guard, service, users
from flows.access import COMMANDS, DEPLOYMENTS, Role
from flows.approval import Decision, decide
from flows.cli import app
from flows.finding import Level
from flows.project import Project
from flows.settings import PORTS, Settings
from models.version import Version
from tests import planted
from tests.conftest import ROOT

AT = datetime(2024, 5, 1, tzinfo=UTC)
CLI = guard.commands(typer.main.get_command(app))
RUN = "0e1a09b5-2992-405f-bc62-3d07fe501c11"
PEOPLE = {"ann": Role.APPROVER, "oli": Role.OPERATOR, "vic": Role.VIEWER}


@pytest.fixture
def tokens(tmp_path, monkeypatch) -> dict[str, str]:
    """By name; their home is that of this process, whose environment is as before afterwards."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    for name in ("EVERGREEN_TOKEN", "EVERGREEN_USER", "EVERGREEN_SIGN_IN", "EVERGREEN_PROBLEM"):
        monkeypatch.delenv(name, raising=False)
    known, made = (), {}
    for name, role in PEOPLE.items():
        known, made[name] = users.add(known, name, role, AT)
    users.save(tmp_path, known)
    return made


def test_every_command_and_every_deployment_has_a_role():
    assert set(CLI) == set(COMMANDS)
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {each["name"] for each in declared} == set(DEPLOYMENTS)


@pytest.mark.parametrize("name", PEOPLE)
def test_a_token_opens_the_commands_of_its_role_and_no_other(name, tokens, monkeypatch):
    for path, needed in COMMANDS.items():
        monkeypatch.setenv("EVERGREEN_TOKEN", tokens[name])
        monkeypatch.delenv("EVERGREEN_USER", raising=False)
        if PEOPLE[name].includes(needed):
            guard.admit(path)
            continue
        with pytest.raises(EvergreenError) as refused:
            CLI[path].callback()
        assert str(refused.value).endswith(f"but `evergreen {path}` takes the role {needed}")
    monkeypatch.setenv("EVERGREEN_TOKEN", tokens[name])
    with pytest.raises(EvergreenError, match="no role does"):
        guard.admit("a command without a role")


def test_without_users_nobody_signs_in_and_with_them_everybody(tmp_path, tokens, monkeypatch):
    with pytest.raises(EvergreenError, match="EVERGREEN_TOKEN is not set"):
        guard.admit("status")
    monkeypatch.setenv("EVERGREEN_TOKEN", tokens["vic"][:-1])
    with pytest.raises(EvergreenError, match="is nobody's, or was revoked"):
        guard.admit("status")
    (tmp_path / users.USERS).unlink()
    guard.admit("clean")
    assert not Settings.read({"EVERGREEN_HOME": str(tmp_path)}).sign_in


def test_a_revoked_token_opens_nothing_and_one_approver_stays(tmp_path, tokens, monkeypatch):
    users.save(tmp_path, users.revoke(users.load(tmp_path), "oli", AT))
    monkeypatch.setenv("EVERGREEN_TOKEN", tokens["oli"])
    with pytest.raises(EvergreenError, match="was revoked"):
        guard.admit("status")
    with pytest.raises(EvergreenError, match="ann is the only approver"):
        users.revoke(users.load(tmp_path), "ann", AT)
    with pytest.raises(EvergreenError, match="vic has a token"):
        users.add(users.load(tmp_path), "Vic", Role.APPROVER, AT)
    with pytest.raises(EvergreenError, match="is no name for a user"):
        users.add(users.load(tmp_path), "monitor", Role.VIEWER, AT)
    (tmp_path / users.USERS).write_text('[{"name": "ann"}]')
    with pytest.raises(EvergreenError, match="holds no users"):
        guard.admit("status")


def test_who_signed_in_acts_in_their_own_name(tokens, monkeypatch):
    monkeypatch.setenv("EVERGREEN_TOKEN", tokens["oli"])
    monkeypatch.setenv("EVERGREEN_USER", "ann")
    with pytest.raises(
        EvergreenError, match="EVERGREEN_USER says 'ann', but the token is that of 'oli'"
    ):
        guard.admit("train")
    monkeypatch.setenv("EVERGREEN_TOKEN", tokens["oli"])
    monkeypatch.delenv("EVERGREEN_USER")
    with pytest.raises(EvergreenError, match="--by says 'ann'"):
        guard.admit("ab start", "ann", keep_token=True)
    guard.admit("train")
    settings = Settings.read(os.environ)
    assert settings.user == "oli" and settings.identities and settings.sign_in
    assert "EVERGREEN_TOKEN" not in os.environ, "no child process has it"
    assert os.environ["PREFECT_API_AUTH_STRING"] == service.prefect(settings)
    assert (settings.root / service.SECRET).stat().st_mode & 0o077 == 0


def test_on_the_command_line(tokens):
    """A viewer's group call does not open the group's commands; a token is shown once only."""
    run = CliRunner()
    refused = run.invoke(app, ["alerts", "test"], env={"EVERGREEN_TOKEN": tokens["vic"]})
    assert isinstance(refused.exception, EvergreenError), refused.output
    assert "takes the role operator" in str(refused.exception)
    env = {"EVERGREEN_TOKEN": tokens["ann"], "EVERGREEN_USER": ""}
    added = run.invoke(app, ["users", "add", "bob", "--role", "viewer"], env=env)
    assert added.output.splitlines()[-1].startswith(users.PREFIX)
    found = doctor_access.sign_in(Settings.read(os.environ))
    assert found.level is Level.OK and "vic (viewer)" in found.found
    (Settings.read(os.environ).root / users.USERS).chmod(0o644)
    assert doctor_access.sign_in(Settings.read(os.environ)).level is Level.FAIL
    listed = run.invoke(app, ["users", "list"], env=env).output
    assert "bob" in listed and users.PREFIX not in listed
    assert run.invoke(app, ["users", "revoke", "bob"], env=env).output == "bob is revoked\n"


def test_the_author_of_a_version_cannot_approve_it(tmp_path):
    settings = Settings(ROOT, tmp_path, PORTS, identities=True, sign_in=True)
    project = Project(settings, load_params(ROOT / "params.yaml"), planted.PROBLEM)
    version = Version("2", "d" * 64, "run", "source", {"author": "ann"})
    with pytest.raises(EvergreenError, match="ann cannot approve version 2, which is their own"):
        decide(project, version, Decision.APPROVE, "", "ann")
    with pytest.raises(EvergreenError, match="no author on record"):
        decide(project, replace(version, tags={}), Decision.APPROVE, "", "ann")


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/api/flow_runs/x", Role.VIEWER),
        ("POST", "/api/flow_runs/filter", Role.VIEWER),
        ("POST", "/api/events/count-by/day", Role.VIEWER),
        ("POST", f"/api/deployments/{RUN}/create_flow_run", Role.OPERATOR),
        ("POST", f"/api/flow_runs/{RUN}/set_state", Role.OPERATOR),
        ("POST", f"/api/flow_runs/{RUN}/resume", Role.APPROVER),
        ("POST", f"/api/flow_runs/{RUN}/input", None),
        ("POST", "/api/flow_runs/", None),
        ("POST", f"/api/deployments/{RUN}/create_flow_run/bulk", None),
        ("POST", f"/api/work_queues/{RUN}/get_runs", None),
        ("POST", "/api/flow_runs/bulk_set_state", None),
        ("POST", "/api/block_documents/filter", None),
        ("GET", f"/api/block_documents/{RUN}", None),
        ("GET", "/api/block_types/slug/secret/block_documents", None),
        ("POST", "/api/automations/", None),
        ("PATCH", f"/api/deployments/{RUN}", Role.OPERATOR),
        ("PATCH", f"/api/deployments/{RUN}/schedules/{RUN}", Role.OPERATOR),
        ("DELETE", f"/api/deployments/{RUN}/schedules/{RUN}", None),
        ("PATCH", f"/api/work_pools/{RUN}", None),
        ("DELETE", f"/api/flow_runs/{RUN}", None),
        ("POST", f"/api/flow_runs/{RUN}/resume/x/filter\n", None),
    ],
)
def test_what_prefect_s_door_takes(method, path, needed):
    assert door_rules.needed(method, path) is needed


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/api/2.0/mlflow/registered-models/get", Role.VIEWER),
        ("POST", "/ajax-api/2.0/mlflow/runs/search", Role.VIEWER),
        ("POST", "/graphql", Role.VIEWER),
        ("POST", "/api/2.0/mlflow/runs/set-tag", Role.OPERATOR),
        ("POST", "/api/2.0/mlflow/experiments/create", None),
        ("POST", "/api/2.0/mlflow/registered-models/alias", None),
        ("DELETE", "/api/2.0/mlflow/registered-models/alias", None),
        ("POST", "/api/2.0/mlflow/model-versions/create", None),
        ("POST", "/api/2.0/mlflow/model-versions/set-tag", None),
        ("POST", "/api/2.0/mlflow/model-versions/transition-stage", None),
        ("PATCH", "/api/2.0/mlflow/users/update-password", None),
        ("GET", "/api/2.0/mlflow/users/list", None),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a", None),
    ],
)
def test_what_mlflow_s_door_takes(method, path, needed):
    assert door_mlflow.needed(method, path) is needed


def test_a_run_is_run_as_prefect_yaml_says_and_in_the_name_of_who_starts_it():
    oli = users.User("oli", Role.OPERATOR, "", "")
    retrain = {"name": "retrain", "parameter_openapi_schema": {"properties": {"by": {}}}}
    sent = door_rules.run_of(oli, {"parameters": {"as_of": "2013-W10"}}, retrain)
    assert sent["parameters"] == {"as_of": "2013-W10", "by": "oli"}
    for body, said in (
        ({"parameters": {"by": "ann"}}, "you are oli"),
        ({"parameters": {"by": {"__prefect_kind": "jinja", "template": "ann"}}}, "you are oli"),
        ({"job_variables": {"command": "id"}}, "job_variables cannot be set"),
        ({"state": {"type": "COMPLETED"}}, "does not begin as COMPLETED"),
        ({"enforce_parameter_schema": False}, "cannot be off"),
    ):
        with pytest.raises(EvergreenError, match=said):
            door_rules.run_of(oli, body, retrain)
    vic = users.User("vic", Role.VIEWER, "", "")
    for name, needed in DEPLOYMENTS.items():
        with pytest.raises(EvergreenError, match=f"starting `{name}` takes the role {needed}"):
            door_rules.run_of(vic, {}, {"name": name})
    for unknown in ({}, {"name": "evil"}):
        with pytest.raises(EvergreenError, match="no role does"):
            door_rules.run_of(oli, {}, unknown)
    queue = {"work_queue_name": "default"}
    assert door_rules.run_of(oli, queue, {**retrain, **queue})["parameters"] == {"by": "oli"}
    with pytest.raises(EvergreenError, match="not set to RUNNING by hand"):
        door_rules.state_of({"state": {"type": "RUNNING"}})
    path = f"/api/deployments/{RUN}"
    assert door_rules.switch_of(path, {"paused": True, "entrypoint": None}) == {"paused": True}
    for body in ({}, {"paused": True, "entrypoint": "evil.main"}, {"paused": {"a": 1}}):
        with pytest.raises(EvergreenError, match="says the rest"):
            door_rules.switch_of(path, body)


def test_the_page_on_security_has_the_table_of_the_code():
    page = (ROOT / "docs" / "security.md").read_text()
    for role in Role:
        (row,) = re.findall(rf"^\| {role} \| (.*) \|$", page, re.MULTILINE)
        own = [command for command, needed in COMMANDS.items() if needed is role]
        assert row.split(" | ")[0] == ", ".join(f"`{command}`" for command in own), role


def test_what_is_kept_of_users_is_no_token(tmp_path, tokens):
    path = tmp_path / users.USERS
    assert path.stat().st_mode & 0o077 == 0
    assert not any(token in path.read_text() for token in tokens.values())
    assert {entry["name"] for entry in json.loads(path.read_text())} == set(PEOPLE)
