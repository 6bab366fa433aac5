"""Promotion, approval, rollback and verify with the whole stack up, in the order of a life.

Each test goes on from the state that the last one left.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
import requests
import yaml

from models.ledger import Kind, Ledger
from tests.conftest import fill
from tests.e2e.conftest import TEAM
from tests.e2e.world import GIT, World

ANN = {"EVERGREEN_IDENTITIES": "on", "EVERGREEN_USER": "Ann"}


def _set(world: World, **changes: dict) -> None:
    """Change sections of params.yaml and commit them: a model made from it may serve."""
    path = world.checkout / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for section, values in changes.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params))
    subprocess.run([*GIT, "-C", str(world.checkout), "commit", "-qam", "set"], check=True)


def _must(world: World, *arguments: str, code: int = 0) -> str:
    done = world.run(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _verify(world: World, code: int = 0) -> dict[str, dict]:
    checks = json.loads(_must(world, "verify", "--json", code=code))
    return {check["name"]: check for check in checks}


def _serves(world: World) -> str:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{world.url('gateway')}/version", timeout=10).json()["model_version"]


def _ledger(world: World) -> list[tuple[str, str]]:
    entries = Ledger(world.home / "ledger.jsonl").read()
    return [(str(entry.kind), entry.version) for entry in entries]


def _start(world: World, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=world.checkout,
        env={**world.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _paused(world: World, process: subprocess.Popen[str], forms: int) -> tuple[str, str]:
    """The run that waits with its `forms`-th form: its id, and what the form says."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        runs = world.prefect(
            "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["PAUSED"]}}}
        )
        for run in runs:
            inputs = world.prefect(f"flow_runs/{run['id']}/input/filter", prefix="", limit=50)
            said = [i["value"] for i in inputs if i["key"].endswith("-description")]
            if len(said) == forms:
                newest = max(inputs, key=lambda i: i["created"])
                return run["id"], newest["value"]
        time.sleep(1)
    pytest.fail("no run waits")


def _resume(world: World, run: str, **form: str) -> None:
    said = world.prefect(f"flow_runs/{run}/resume", run_input=form)
    assert said["status"] == "ACCEPT", said


def test_the_first_version_is_promoted_and_everything_agrees(world: World) -> None:
    _set(world, gates={"champion_margin": 0.5, "log_loss_margin": 1.0})
    fill(world.checkout / "data" / "raw", "2024-W01", "2024-W10")
    _must(world, "up")
    assert all(check["ok"] for check in _verify(world).values())
    _must(world, "retrain", "--as-of", "2024-W08")
    checks = _verify(world)
    assert all(check["ok"] for check in checks.values()) and len(checks) == 7
    assert _ledger(world) == [("promoted", "1"), ("released", "1")]


def test_a_run_waits_for_somebody_else_than_its_author(world: World) -> None:
    _set(world, approval={"required": True, "timeout_hours": 0.2})
    process = _start(world, "retrain", "--as-of", "2024-W09", **ANN)
    run, form = _paused(world, process, forms=1)
    assert "| beats_logistic | passed" in form and "May version 2 serve?" in form
    (waits,) = json.loads(_must(world, "status", "--json"))["waiting"]
    assert waits["url"].endswith(run) and "2024-W09" in waits["what"]
    _resume(world, run, decision="approve", by="Ann", note="mine")
    run, form = _paused(world, process, forms=2)
    assert "Ann cannot approve version 2, which is their own" in form
    assert _serves(world) == "1"
    _resume(world, run, decision="approve", by="Bob", note="looks right")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert _serves(world) == "2"
    assert _ledger(world)[2:] == [("approved", "2"), ("promoted", "2"), ("released", "2")]
    (approved,) = (e for e in Ledger(world.home / "ledger.jsonl").read() if e.kind is Kind.APPROVED)
    assert (approved.by, approved.reason, approved.run) == ("Bob", "looks right", run)


def test_nobody_in_time_and_a_no_are_not_promoted(world: World) -> None:
    _set(world, approval={"timeout_hours": 0.002})
    said = _must(world, "retrain", "--as-of", "2024-W10", code=3)
    assert "version 3 is not promoted: nobody decided within 0.002 h" in said
    assert _ledger(world)[-1] == ("not_promoted", "3")
    status = json.loads(_must(world, "status", "--json"))
    assert status["aliases"] == {"champion": "2", "challenger": "3", "previous": "1"}
    assert [each["command"] for each in status["waiting"]] == [
        "evergreen approve 3 --by NAME --note WHY"
    ]
    _must(world, "reject", "3", "--by", "Bob", "--note", "not in spring")
    assert "Bob refused it (not in spring)" in _must(world, "release", "3", code=3)
    _must(world, "approve", "3", "--by", "Bob", "--note", "spring is over")
    _must(world, "release", "3")
    assert _serves(world) == "3" and all(check["ok"] for check in _verify(world).values())


def test_back_to_what_served_and_further_back_not_forth(world: World) -> None:
    _must(world, "rollback", "--reason", "a test")
    assert _serves(world) == "2"
    said = _must(world, "rollback", "--reason", "still bad")  # no slot holds it any more
    assert "version 1 serves again" in said and _serves(world) == "1"
    assert "nothing to roll back to" in _must(world, "rollback", "--reason", "x", code=1)
    assert _ledger(world)[-2:] == [("rolled_back", "2"), ("rolled_back", "1")]
    assert all(check["ok"] for check in _verify(world).values())


def test_a_release_cut_off_before_its_switch_is_named_and_completed(world: World) -> None:
    """As a kill -9 leaves it: deployed and promoted, but the traffic is the old one's."""
    _set(world, approval={"required": False}, train={"seed": 5})
    _must(world, "train", "--as-of", "2024-W10")
    cut_off = (
        "from flows.project import Project; from flows import release, owner\n"
        "p = Project.open(); v = p.registry.alias('challenger'); release.slot_for(p, v)\n"
        "p.registry.promote(v, v.judged_against, owner.act(p.settings, 'cut off'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", cut_off],
        cwd=world.checkout,
        env=world.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    traffic = _verify(world, code=1)["traffic"]
    assert traffic["reason"] == ("alias champion is 4, but 1 serves: run `evergreen release 4`"), (
        traffic
    )
    _must(world, "release", "4")
    assert _serves(world) == "4" and all(check["ok"] for check in _verify(world).values())
    assert _ledger(world)[-2:] == [("promoted", "4"), ("released", "4")]


def test_a_waiver_lets_a_rejected_version_serve_until_it_expires(world: World) -> None:
    _set(world, gates={"log_loss_margin": 0.0, "champion_margin": 0.0}, train={"seed": 6})
    _must(world, "train", "--as-of", "2024-W09", code=3)
    assert "did not pass its gates" in _must(world, "release", "5", code=1)
    today = datetime.now(UTC).date().isoformat()
    words = ["--by", "Bob", "--reason", "a known season", "--expires", today]
    assert "failed no gate 'n'" in _must(world, "waive", "5", "n", *words, code=1)
    lineage = json.loads(_must(world, "lineage", "5", "--json"))
    for gate, verdict in lineage["gates"].items():
        if not verdict.startswith("passed"):
            _must(world, "waive", "5", gate, *words)
    _must(world, "release", "5")
    assert _serves(world) == "5" and ("waiver", "5") in _ledger(world)


def test_verify_names_what_was_touched(world: World) -> None:
    path = world.home / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"looks right", b"looks wrong"))
    found = "line 3 differs" if TEAM else "line 3 was edited"  # the copy, or the ledger itself
    assert found in _verify(world, code=1)["ledger"]["reason"]
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    if TEAM:  # a copy only lags behind its table
        assert all(check["ok"] for check in _verify(world).values())
    else:
        assert "lines were cut off" in _verify(world, code=1)["ledger head"]["reason"]
    path.write_bytes(whole)
    (model,) = (world.home / "serving" / "slots" / "blue" / "bento").glob("models/*/*/*/model.onnx")
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    artefacts = _verify(world, code=1)["artefacts"]
    assert "slot blue" in artefacts["reason"] and "model.onnx differs" in artefacts["reason"]
    model.write_bytes(content)
    _must(world, "down")
    assert "not checked" in _verify(world, code=1)["endpoint"]["reason"]
    _must(world, "verify", "--offline")
