"""What HAProxy is told for each state, and the folders around it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bento import experiment, gateway, pidfile, rollout
from bento.contract import Contract
from bento.package import Package
from bento.slots import Serving, programs
from bento.target import Experiment, Release, State
from data.errors import EvergreenError

SERVED = Release("1", "d" * 64, "parcels:a", since="2024-04-01T00:00:00+00:00")
NEW = Release("2", "e" * 64, "parcels:b")


@pytest.fixture
def serving() -> Serving:
    return Serving(Path("/tmp/s"), 8080, 8081, 8082, Path("/tmp/s/sup.sock"))


def lines(serving: Serving, state: State) -> list[str]:
    return [line.strip() for line in gateway.render(serving, state).splitlines()]


def test_haproxy_takes_the_configuration(serving, tmp_path):
    path = tmp_path / "gateway.cfg"
    path.write_text(gateway.render(serving, State()))
    (tmp_path / "keys.map").write_text("keys off")
    command = [gateway.binary(), "-c", "-C", str(tmp_path), "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weights_and_backups_follow_the_state(serving):
    state = State({"blue": SERVED, "green": NEW}, "blue", {"blue": 100, "green": 0})
    found = lines(serving, state)
    assert "server blue 127.0.0.1:8081 weight 100" in found
    assert "server green 127.0.0.1:8082 weight 0" in found
    assert "server blue-backup 127.0.0.1:8081 no-check track serving/blue backup" in found
    unproven = "server green-backup 127.0.0.1:8082 no-check track serving/green backup disabled"
    assert unproven in found, "what never served does not stand in"
    proven = state.with_slot("green", replace(NEW, since=SERVED.since))
    assert unproven.removesuffix(" disabled") in lines(serving, proven)


def test_only_loopback_is_bound(serving):
    binds = [line for line in lines(serving, State()) if line.startswith("bind")]
    assert binds == ["bind 127.0.0.1:8080"]


def test_the_state_survives_the_disk(tmp_path, monkeypatch):
    serving = Serving(tmp_path, 1, 2, 3, Path("/tmp/x"))
    assert gateway.load(serving) == State()
    tried = Experiment("canary", "green", 5, "2024-04-01T00:00:00+00:00", 7)
    state = State({"blue": SERVED, "green": NEW}, "blue", {"blue": 95, "green": 5}, tried)
    with pytest.raises(EvergreenError, match="bring the stack up"):
        gateway.apply(serving, state)
    assert gateway.load(serving) == State(), "nothing is recorded that is not in force"
    monkeypatch.setattr(gateway, "command", lambda serving, text: "")
    gateway.apply(serving, state)
    assert gateway.load(serving) == state
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(EvergreenError, match="not a state"):
        gateway.load(serving)


def test_a_canary_that_nobody_watches_is_told_from_one_that_is_watched():
    plain = State({"blue": SERVED, "green": NEW}, "blue", {"blue": 100, "green": 0})
    tried = Experiment("canary", "green", 5, "2024-04-01T00:00:00+00:00", 7)
    shared = replace(plain, weights={"blue": 95, "green": 5})
    watched = replace(shared, experiment=tried)
    assert experiment.abandoned(watched, alive=lambda pid: pid != 7)
    assert not experiment.abandoned(watched, alive=lambda pid: pid == 7)
    assert experiment.abandoned(shared) and not experiment.abandoned(plain)
    test = replace(shared, experiment=replace(tried, kind="ab"))
    assert not experiment.abandoned(test, alive=lambda _: False), "it needs nobody"
    assert experiment.describe(test).startswith("version 2 is B of an A/B test with 5 % since 2024")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_slots_listen_on_loopback_only(host):
    with pytest.raises(EvergreenError, match="not loopback"):
        Serving(Path("/tmp/s"), 1, 2, 3, Path("/tmp/x"), host)


def test_a_rollout_without_golden_rows_is_refused(serving, artefact, tmp_path):
    package = Package("parcels:a", "d", "1", tmp_path, "s")
    contract = Contract.load(artefact)
    with pytest.raises(EvergreenError, match="no golden rows"):
        rollout.deploy(serving, package, contract, [], [], smoke_rows=20, tolerance=1e-6)


def test_long_socket_paths_are_refused():
    with pytest.raises(EvergreenError, match="too long for a unix socket"):
        Serving(Path("/tmp/s"), 1, 2, 3, Path("/tmp") / ("x" * 100))


def test_programs_name_every_process(serving, tmp_path):
    text = programs(replace(serving, folder=tmp_path / "100%"), Path("."))
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[program:gateway]",
        "[program:blue]",
        "[program:green]",
    ]
    assert "100%%" in text, "supervisord expands %"


def test_a_stranger_with_the_old_pid_is_left_alone(tmp_path):
    stranger = subprocess.Popen(["sleep", "30"])
    try:
        (tmp_path / "pid").write_text(str(stranger.pid))
        pidfile.hold(tmp_path / "pid", "bento.server")
        assert stranger.poll() is None
        assert pidfile.holder(tmp_path / "pid") != stranger.pid
    finally:
        stranger.kill()
        stranger.wait()
