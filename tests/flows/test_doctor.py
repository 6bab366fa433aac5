"""`evergreen doctor` before real faults; a finding without a fix is none."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from flows import doctor_home, doctor_host, leftovers
from flows.finding import Level
from flows.settings import PORTS, Settings
from models.ledger import Act, Kind, Ledger
from models.signing import Keys

ROOT = Path(__file__).parents[2]
NOW = datetime(2024, 6, 1, tzinfo=UTC)
LINUX = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel shows no locks")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(tmp_path / "checkout", tmp_path / "home", PORTS)


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of one megabyte of its own."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)])
    if made.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@contextmanager
def sleeping(**environment: str):
    """A real process that does nothing."""
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def expect(finding, level: Level, *words: str) -> None:
    """Level and words, and a fix wherever something is wrong."""
    text = f"{finding.found} {finding.fix}"
    assert finding.level is level, text
    assert all(word in text for word in words), text
    assert (finding.level is Level.OK) == (not finding.fix), text


def package(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> None:
    made = folder / f"{name}-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (made / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")


def test_the_pythons_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (low, high) = (".".join(map(str, each)) for each in doctor_host.PYTHONS)
    assert project["requires-python"] == f">={low},<{high}"
    expect(doctor_host.python((3, 14, 0)), Level.FAIL, "3.14.0", "PYTHON=")
    expect(doctor_host.python((3, 12, 9)), Level.OK)


def test_a_package_that_is_not_as_locked_is_named_with_what_it_breaks(tmp_path):
    lock, path = tmp_path / "lock", tmp_path / "site"
    lock.write_text("fastapi==0.150.0 \\\n    --hash=sha256:0\nrich==1\nwin==2 ; os_name == 'nt'\n")
    expect(doctor_host.locked(lock, [str(path)]), Level.FAIL, "not installed: fastapi, rich")
    package(path, "fastapi", "0.150.0")
    package(path, "rich", "2")
    expect(doctor_host.locked(lock, [str(path)]), Level.WARN, "rich 1, here 2", "make setup")
    package(tmp_path / "before", "fastapi", "0.165.0")
    shadowed = doctor_host.locked(lock, [str(tmp_path / "before"), str(path)])
    expect(shadowed, Level.FAIL, "fastapi 0.150.0, here 0.165.0", "refuse its own requests")
    pins = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {*doctor_host.BREAKS, *doctor_host.NAMED} <= pins


def test_a_package_that_was_compiled_here_is_seen(tmp_path):
    package(tmp_path, "fine", "1", "cp311-cp311-manylinux_2_17_x86_64")
    expect(doctor_host.wheels([str(tmp_path)]), Level.OK)
    package(tmp_path, "built", "1", "cp311-cp311-linux_x86_64")
    expect(doctor_host.wheels([str(tmp_path)]), Level.WARN, "built")


def test_a_port_of_another_program_is_named_with_the_variable(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = replace(settings, ports={"gateway": other.getsockname()[1]})
        found = doctor_host.ports(taken, set())
        expect(found, Level.FAIL, f"pid {os.getpid()}", "EVERGREEN_GATEWAY_PORT")
        expect(doctor_host.ports(taken, {os.getpid()}), Level.OK)
    expect(doctor_host.ports(taken, set()), Level.OK)


def test_a_program_that_its_stack_left_behind_is_found(settings):
    with sleeping(EVERGREEN_STACK=str(settings.home)) as left:
        mine = leftovers.ours(settings)
        expect(doctor_host.processes(settings, mine), Level.WARN, f"sleep (pid {left.pid})")
        elsewhere = replace(settings, root=settings.home / "other")
        assert leftovers.ours(elsewhere) == []
    expect(doctor_host.processes(settings, leftovers.ours(settings)), Level.OK)


def test_a_full_disk_fails_and_a_read_only_home_too(tmpfs):
    home = tmpfs / "not" / "made"
    expect(doctor_host.disk("disk", home), Level.FAIL, "0.0 GiB", "EVERGREEN_HOME")
    expect(doctor_host.writable(home), Level.OK, "not made yet")
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    expect(doctor_host.writable(home), Level.FAIL, str(tmpfs), "EVERGREEN_HOME")


def test_the_clock_may_not_be_before_what_was_written(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Kind.PROMOTED, "1", "d" * 64, Act(NOW, "me", "why"))
    marks = doctor_home.past(ledger, tmp_path)
    expect(doctor_host.clock(NOW, marks, ""), Level.OK)
    early = doctor_host.clock(NOW - timedelta(days=1), marks, "")
    expect(early, Level.FAIL, "the ledger's last line")
    expect(doctor_host.clock(NOW, marks, "Mars/Olympus"), Level.WARN, "Mars/Olympus")
    assert "the last commit" in doctor_home.past(ledger, ROOT)


def test_variables_that_lead_elsewhere_are_named_and_their_values_are_not(settings):
    told = settings.child_environment()
    expect(doctor_host.variables(told, told), Level.OK)
    elsewhere = {**told, "MLFLOW_TRACKING_URI": "https://me:secret@far"}
    found = doctor_host.variables(elsewhere, told)
    expect(found, Level.WARN, "MLFLOW_TRACKING_URI", "unset")
    assert "secret" not in found.found + found.fix
    expect(doctor_host.variables({"GIT_DIR": "/x"}, told), Level.FAIL, "unset GIT_DIR")
    proxied = {"HTTP_PROXY": "http://proxy:3128"}
    expect(doctor_host.variables(proxied, told), Level.FAIL, "NO_PROXY=127.0.0.1")
    spared = {**proxied, "no_proxy": "localhost,127.0.0.1"}
    expect(doctor_host.variables(spared, told), Level.OK)


def test_an_edited_ledger_fails_and_an_unfinished_line_only_warns(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in ("1", "2"):
        ledger.append(Kind.PROMOTED, number, "d" * 64, Act(NOW, "me", "why"))
    expect(doctor_home.ledger(ledger), Level.OK, "2 lines")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-20])
    expect(doctor_home.ledger(ledger), Level.WARN, "sets it aside")
    first, second = whole.splitlines(keepends=True)
    ledger.path.write_bytes(first[:-20] + b"\n" + second)
    expect(doctor_home.ledger(ledger), Level.FAIL, "line 1", "backup")


@LINUX
def test_a_held_lock_names_who_holds_it(settings):
    place = settings.home / "serving" / "release.lock"
    place.parent.mkdir(parents=True)
    with FileLock(place):
        found = doctor_home.locks(doctor_home.lock_files(settings))
        expect(found, Level.WARN, str(place), f"pid {os.getpid()}")
    place.touch()
    expect(doctor_home.locks(doctor_home.lock_files(settings)), Level.OK, "1 lock file")


def test_a_list_of_dvc_that_was_cut_off_or_names_another_program_fails(tmp_path):
    path = tmp_path / "rwlock"
    expect(doctor_home.dvc_lock(path), Level.OK)
    with sleeping() as stranger:
        path.write_text(json.dumps({"write": {"x": {"pid": stranger.pid, "cmd": "dvc repro"}}}))
        expect(doctor_home.dvc_lock(path), Level.FAIL, f"pid {stranger.pid}", f"rm {path}")
    expect(doctor_home.dvc_lock(path), Level.OK)
    path.write_text('{"write": {"x": {"pi')
    expect(doctor_home.dvc_lock(path), Level.FAIL, "cut off")


def test_a_state_that_a_killed_release_left_is_found(settings):
    path = settings.serving.folder / "state.json"
    path.parent.mkdir(parents=True)
    expect(doctor_home.rollout(settings), Level.OK, "nothing serves yet")
    release = {"version": "1", "digest": "d", "tag": "t", "since": "2024"}
    canary = {"kind": "canary", "slot": "green", "percent": 5, "since": "2024", "pid": 2**22 + 1}
    state = {"slots": {"blue": release, "green": release}, "active": "blue"}
    state |= {"weights": {"blue": 95, "green": 5}, "experiment": canary}
    path.write_text(json.dumps(state))
    expect(doctor_home.rollout(settings), Level.WARN, "evergreen rollback")
    path.write_text(json.dumps(state)[:-9])
    expect(doctor_home.rollout(settings), Level.FAIL, str(path))


def test_the_signing_key_is_whole_and_its_owners(tmp_path):
    keys = Keys(tmp_path / "keys" / "signing.pem")
    expect(doctor_home.signing_key(keys.private), Level.OK, "none yet")
    assert not keys.private.parent.exists()
    keys.ensure()
    expect(doctor_home.signing_key(keys.private), Level.OK)
    keys.private.chmod(0o644)
    expect(doctor_home.signing_key(keys.private), Level.FAIL, "chmod 600")
    keys.public.unlink()
    expect(doctor_home.signing_key(keys.private), Level.FAIL, "signing.pub is missing")


def test_dvc_points_to_this_home_and_to_a_remote_that_answers(tmp_path):
    config, home = tmp_path / ".dvc" / "config", tmp_path / "var"
    config.parent.mkdir()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    head = "[core]\n    remote = far\n[cache]\n    dir = ../var/cache\n['remote \"far\"']\n"
    config.write_text(f"{head}    url = ../var/remote\n")
    expect(doctor_home.dvc_remote(tmp_path, home), Level.OK, "not made yet")
    expect(doctor_home.dvc_remote(tmp_path, tmp_path / "else"), Level.WARN, "evergreen up")
    config.write_text(f"{head}    url = ssh://127.0.0.1:{port}/data\n")
    expect(doctor_home.dvc_remote(tmp_path, home), Level.WARN, f"127.0.0.1:{port}", "data push")
    config.write_text("remote = far")
    expect(doctor_home.dvc_remote(tmp_path, home), Level.FAIL, "git checkout")


def test_a_problem_that_cannot_be_imported_and_parameters_that_cannot_be_read(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    content = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(content.replace("data/flights.py", "data/nowhere.py"))
    expect(doctor_home.parameters(tmp_path / "params.yaml"), Level.OK, "data/nowhere.py")
    found = doctor_home.problem(doctor_home.importing(tmp_path, tmp_path / "params.yaml"))
    expect(found, Level.FAIL, "data/nowhere.py", "PROBLEM")
    (tmp_path / "params.yaml").write_text(f"{content}\nspeed: 3\n")
    expect(doctor_home.parameters(tmp_path / "params.yaml"), Level.FAIL, "speed")
    expect(
        doctor_home.problem(doctor_home.importing(tmp_path, tmp_path / "params.yaml")),
        Level.WARN,
        "params.yaml",
    )
    expect(doctor_home.tree(tmp_path, tmp_path / "params.yaml"), Level.WARN, "never serves")


def test_the_command_writes_nothing_needs_little_and_fails_by_its_exit_code(tmp_path):
    home = tmp_path / "home"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN", "PREFECT"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), "EVERGREEN_HOME": str(home)}
    code = (
        "import sys; from typer.testing import CliRunner; from flows.cli import app\n"
        "print(CliRunner().invoke(app, ['doctor', '--json']).output, file=sys.stderr)\n"
        "print(sorted({'pandas', 'sklearn', 'mlflow', 'prefect', 'dvc'} & set(sys.modules)))"
    )
    done = run(["-c", code], environment)
    assert done.stdout.strip() == "[]"
    findings = json.loads(done.stderr)
    assert {each["level"] for each in findings} <= set(Level)
    assert len({each["name"] for each in findings}) == len(findings) > 15
    assert not any("could not be looked at" in each["found"] for each in findings)
    assert not home.exists()

    done = run(["-m", "flows.doctor"], {**environment, "EVERGREEN_GATEWAY_PORT": "80"})
    assert done.returncode == 1
    assert "EVERGREEN_GATEWAY_PORT='80' is not a port" in " ".join(done.stdout.split())


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
