"""What the image is made of, installed alone: it serves, and nothing is missing or too much.

No Docker engine is needed: the file set, the environment and the command are those of the
Dockerfile, in folders of this test's own.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from bento import client
from bento.package import REQUIREMENTS
from data.errors import EvergreenError
from tests.serving_stack import free_ports, golden, wait_for

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
sys.path.insert(0, str(IMAGE))
from supply import pins  # noqa: E402

UV = Path(sys.executable).with_name("uv")
CRUDE = ("pandas", "sklearn", "xgboost", "scipy", "mlflow", "prefect", "dvc", "pip")


def dockerfile(name: str) -> list[tuple[str, str]]:
    """Its instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (IMAGE / f"{name}.Dockerfile").read_text())
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [tuple(line.split(" ", 1)) for line in lines]


def last(found: list[tuple[str, str]], word: str) -> str:
    return [text for name, text in found if name == word][-1]


def test_the_serving_lock_is_a_part_of_the_lock_and_has_what_is_packed() -> None:
    text = (IMAGE / "serving.lock").read_text()
    serving, whole = pins(text), pins((ROOT / "requirements.lock").read_text())
    versions = {(name, version): set(hashes) for name, version, hashes in whole}
    assert "://" not in text
    for name, version, hashes in serving:
        assert hashes and set(hashes) <= versions[name, version], f"{name}: run `make lock`"
    assert {*REQUIREMENTS, "uvloop"} <= {name for name, _, _ in serving}
    assert len(serving) < len(whole) / 3


@pytest.fixture(scope="module")
def image(first, tmp_path_factory) -> Path:
    """The root of a file system as service.Dockerfile makes it."""
    root = tmp_path_factory.mktemp("image")
    context = root / "context"
    made = ["make", "-s", "image-context", f"BENTO={first.path}", f"CONTEXT={context}"]
    subprocess.run(made, cwd=ROOT, check=True)
    assert {path.name for path in context.iterdir()} == {"bento", "serving.lock"}
    (root / "srv").mkdir()
    (context / "bento").rename(root / "srv" / "bento")
    venv = root / "opt" / "venv"
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, str(venv)], check=True)
    install = [UV, "pip", "install", "-q", "--python", str(venv), "--require-hashes", "--no-build"]
    lock = ["-r", str(context / "serving.lock")]
    if subprocess.run([*install, "--offline", *lock], capture_output=True).returncode:
        subprocess.run([*install, *lock], check=True)
    return root


def command(image: Path, port: int) -> tuple[list[str], dict[str, str], str]:
    """CMD, ENV and WORKDIR of the Dockerfile with the image's root before each path."""

    def inside(text: str) -> str:
        return re.sub(r"(?<![\w.])/(?=(opt|srv|var|tmp)/)", f"{image}/", text)

    lines = dockerfile("service")
    environment = dict(text.split("=", 1) for name, text in lines if name == "ENV")
    words = [inside(word) for word in json.loads(last(lines, "CMD"))]
    words[0] = str(image / "opt" / "venv" / "bin" / words[0])
    words = ["127.0.0.1" if w == "0.0.0.0" else str(port) if w == "3000" else w for w in words]
    return (
        words,
        {name: inside(value) for name, value in environment.items()},
        inside(last(lines, "WORKDIR")),
    )


@pytest.fixture(scope="module")
def served(image) -> Iterator[tuple[str, psutil.Process]]:
    (port,) = free_ports(1)
    words, environment, folder = command(image, port)
    log = image / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=environment, cwd=folder, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return client.get(f"{url}/readyz").status == 200
        except EvergreenError:
            return False

    try:
        wait_for(answers, 60)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def test_the_image_serves_from_its_own_files_alone(image, served, artefact) -> None:
    url, process = served
    _, rows, scores = golden(artefact)
    with requests.Session() as session:
        session.trust_env = False
        reply = session.post(f"{url}/predict", json=rows, timeout=30)
    told = [answer["probability"] for answer in reply.json()]
    assert reply.status_code == 200 and max(map(abs, map(float.__sub__, told, scores))) < 1e-6
    assert len((image / "var/lib/evergreen/log/predictions.jsonl").read_text().splitlines()) == 1
    opened = {Path(each.path) for each in process.memory_maps() if each.path.endswith(".so")}
    packages = {path for path in opened if "site-packages" in path.parts}
    assert packages and all(path.is_relative_to(image) for path in packages)
    check = json.loads(last(dockerfile("service"), "HEALTHCHECK").split("CMD ", 1)[1])
    check[0], check[2] = sys.executable, check[2].replace("http://127.0.0.1:3000", url)
    assert subprocess.run(check, env={}).returncode == 0


def test_nothing_heavy_is_in_it_and_nobody_is_root(image) -> None:
    (site,) = (image / "opt" / "venv" / "lib").glob("python*/site-packages")
    assert not [name for name in CRUDE if (site / name).exists()]
    assert not (image / "srv" / "bento" / "src" / "flows").exists()
    for name in ("service", "worker"):
        lines = dockerfile(name)
        assert last(lines, "USER") == "10001"
        assert lines[0][1] == "PYTHON=python:3.11.13-slim-bookworm"
        runs = " ".join(text for word, text in lines if word == "RUN")
        assert "--require-hashes" in runs and "gcc" not in runs and "build-essential" not in runs
        assert ("git" in shlex.split(runs)) == (name == "worker")
        assert last(lines, "HEALTHCHECK")
        sources = [
            text.split()[-2] for word, text in lines if word == "COPY" and "--from" not in text
        ]
        for source in sources:
            assert source in ("bento", "serving.lock") or (ROOT / source).exists()


@pytest.mark.parametrize("told", [True, False])
def test_the_stack_in_a_container_ends_with_it(tmp_path, told) -> None:
    """The command line is one that keeps a supervisor of its own; the script is the image's."""
    place, calls = tmp_path / "python", tmp_path / "calls"
    place.write_text(
        f"""#!/bin/sh
        echo "$@" >> {calls}; pid={tmp_path}/home/run/supervisord.pid
        case "$3" in
        up) mkdir -p {tmp_path}/home/run; sleep 60 & echo $! > $pid;;
        down) kill "$(cat $pid)";;
        esac
        """
    )
    place.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EVERGREEN_HOME": f"{tmp_path}/home"}
    script = ["sh", str(IMAGE / "stay.sh"), "--team"]
    process = subprocess.Popen(script, env=environment, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / "home" / "run" / "supervisord.pid"
    wait_for(lambda: pid.exists() and pid.read_text().strip())
    time.sleep(0.3)
    if told:
        process.terminate()
    else:
        psutil.Process(int(pid.read_text())).kill()
    _, said = process.communicate(timeout=20)
    assert calls.read_text().splitlines()[0] == "-m flows.cli up --team"
    assert process.returncode == (0 if told else 1)
    assert ("-m flows.cli down" in calls.read_text()) == told
    assert ("ended by itself" in said) != told


def supply(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(IMAGE / "supply.py"), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_the_bill_of_materials_lists_every_locked_package(tmp_path) -> None:
    lock, out = IMAGE / "serving.lock", tmp_path / "sbom.json"
    done = supply("sbom", str(lock), str(out))
    assert done.returncode == 0, done.stderr
    listed = json.loads(out.read_text())
    assert listed["bomFormat"] == "CycloneDX"
    found = {(each["name"], each["version"]) for each in listed["components"]}
    assert {(name, version) for name, version, _ in pins(lock.read_text())} == found


def test_an_audit_that_could_not_ask_is_no_pass(tmp_path) -> None:
    lock = tmp_path / "one.lock"
    lock.write_text(
        f"not-a-package-of-anybody==1.0 ; python_version < '3' \\\n    --hash=sha256:{'0' * 64}\n"
    )
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = supply("audit", str(lock), **nowhere)
    assert done.returncode == 1
    assert "1 of 1 packages were not audited, such as not-a-package-of-anybody 1.0" in done.stderr


def test_provenance_names_bytes_commit_and_builder(tmp_path, monkeypatch) -> None:
    import supply as module

    monkeypatch.setattr(module, "git", lambda *words: "" if words[0] == "status" else "c0ffee")
    (tmp_path / "a.bento").write_bytes(b"abc")
    made = {"GITHUB_SERVER_URL": "forge", "GITHUB_REPOSITORY": "team/model", "GITHUB_RUN_ID": "7"}
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    module.provenance(tmp_path / "p.json", [tmp_path / "a.bento"], module.datetime.now(module.UTC))
    said = json.loads((tmp_path / "p.json").read_text())
    assert said["subject"][0]["digest"]["sha256"].startswith("ba7816bf")
    built = said["predicate"]
    assert built["buildDefinition"]["resolvedDependencies"][0] == {
        "uri": "git+forge/team/model",
        "digest": {"gitCommit": "c0ffee"},
    }
    assert built["runDetails"]["builder"]["id"] == "forge/team/model/actions/runs/7"
    monkeypatch.setattr(module, "git", lambda *_: " M params.yaml")
    with pytest.raises(SystemExit, match="not as committed"):
        module.provenance(tmp_path / "p.json", [], module.datetime.now(module.UTC))
