"""Shadow and canary with real slots, a real gateway and real traffic; faults are planted in one.

The tests run in the order in which they stand: each goes on from the state that the last one left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from bento import experiment, gateway, rollout
from bento.package import Package
from data.contracts import to_columns
from data.digests import sha256_file
from data.errors import EvergreenError
from data.params import load_params
from data.periods import Period
from flows import ab, back, release, shelf
from flows.approval import NotPromotedError
from flows.image import run_image
from flows.overview import Overview, gather
from flows.project import Project
from flows.rollback import settle, settle_ended
from flows.settings import Settings
from flows.train import run_train
from flows.verify import run_verify
from models.artifact import to_requests
from models.registry import CHAMPION
from tests import cluster, planted
from tests.conftest import fill
from tests.e2e.world import SERVICES, World, make_world
from tests.flows.conftest import git
from tests.serving_stack import Load, running_at, wait_for

CANARY = {
    "steps": [30, 50],
    "minimum_requests": 40,
    "maximum_wait": 8.0,
    "poll": 0.4,
    "early_margin": 0.1,
}
# Every request but a probe meets what the file says.
FAULTS = """

import os, random, time
_answer = Predictor.score

def _planted(self, requests):
    word = open({flag!r}).read() if os.path.exists({flag!r}) else ""
    if word == "slow":
        time.sleep(0.02)
    if word == "errs" and random.random() < 0.3:
        raise MemoryError("planted")
    found = _answer(self, requests)
    if word == "shifted":
        return [Scores([min(1.0, p + 0.5) for p in each.values], False) for each in found]
    return [Scores(each.values, word == "degraded" or each.degraded) for each in found]

Predictor.score = _planted
"""


@dataclass
class Life:
    world: World
    project: Project
    flag: Path
    rows: list[dict]

    @property
    def serving(self):
        return self.project.settings.serving

    def release(self, **changes) -> str:
        """What becomes of a release of version 2 with these settings; the reason if it is none."""
        params = self.project.params
        given = params.release.model_copy(update=changes)
        project = replace(self.project, params=params.model_copy(update={"release": given}))
        try:
            release.run_release(project, "2")
        except NotPromotedError as refusal:
            return str(refusal)
        return "promoted"

    @contextmanager
    def planted(self, word: str) -> Iterator[Load]:
        with Load(f"{self.serving.url}/predict", self.rows) as load:
            self.flag.write_text(word)
            yield load
            self.flag.unlink()


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    """Version 1 serves, version 2 has passed its gates."""
    folder = Path(tempfile.mkdtemp(prefix="eg", dir="/tmp"))
    world, environment = make_world(folder), dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        _configure(world)
        patch.setenv("DVC_SITE_CACHE_DIR", str(world.home / "dvc" / "site"))
        ports = {s: int(world.environment[f"EVERGREEN_{s.upper()}_PORT"]) for s in SERVICES}
        settings = Settings(world.checkout, world.home, ports)
        project = Project(settings, load_params(world.checkout / "params.yaml"), planted.PROBLEM)
        partitions = fill(world.checkout / "data" / "raw", "2024-W01", "2024-W08")
        settings.runtime.mkdir(parents=True, exist_ok=True)
        rows = partitions.rows(Period.parse("2024-W08"))
        bodies = to_requests(to_columns(rows, planted.FIELDS), planted.FIELDS)
        made = Life(world, project, world.home / "fault", bodies)
        patch.setattr(shelf, "build", _with_faults(shelf.build, made.flag))
        with running_at(settings.serving, settings.runtime, world.checkout):
            run_train(project, "2024-W07", "a test")
            release.run_release(project, "1")
            run_train(project, "2024-W08", "a test")
            yield made
    os.environ.clear()
    os.environ.update(environment)
    shutil.rmtree(folder)


def _configure(world: World) -> None:
    import yaml

    path = world.checkout / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["gates"] |= {"champion_margin": 0.5, "log_loss_margin": 1.0, "noise_retrains": 2}
    content["gates"] |= {"bootstrap_samples": 100, "past_rows": 2000, "yardstick_trees": 15}
    content["candidates"] = ["base_rate", "logistic", "xgboost"]
    content["train"] |= {"out_of_fold_blocks": 2}
    content["release"] |= {"strategy": "canary"}
    content["release"]["canary"] |= CANARY
    content["release"]["shadow"] |= {"rows": 60}
    path.write_text(yaml.safe_dump(content))
    git(world.checkout, "commit", "-qam", "set")


def _with_faults(build, flag: Path):
    """Version 2 is packaged with a predictor that has a fault where the flag says so."""

    def made(project: Project, version, artefact: Path) -> Package:
        package = build(project, version, artefact)
        if version.number != "2":
            return package
        folder = package.path.parent / "planted"
        with tarfile.open(package.path) as archive:
            archive.extractall(folder)
        with (folder / "src/bento/predictor.py").open("a") as file:
            file.write(FAULTS.format(flag=str(flag)))
        path = folder.with_suffix(".bento")
        with tarfile.open(path, "w") as archive:
            archive.add(folder, ".")
        return replace(package, path=path, sha256=sha256_file(path))

    return made


def seen(life: Life) -> Overview:
    return gather(life.project.settings, datetime.now(UTC))


def test_without_traffic_a_canary_is_no_promotion(life):
    said = life.release(canary=life.project.params.release.canary.model_copy(
        update={"maximum_wait": 0.5}))  # fmt: skip
    assert "no metrics: 0 requests to the canary" in said
    state = gateway.load(life.serving)
    assert state.experiment is None and state.weights[state.idle] == 0
    assert life.project.registry.alias(CHAMPION).number == "1"


@pytest.mark.parametrize(
    ("word", "cause"),
    [("slow", "latency"), ("errs", "errors"), ("shifted", "scores"), ("degraded", "degraded")],
)
def test_a_bad_version_takes_itself_back(life, word, cause):
    off = life.project.params.release.shadow.model_copy(update={"rows": 0})
    with life.planted(word):
        said = life.release(shadow=off)
    assert f"canary at 30 %: {cause}: " in said or f"canary at 50 %: {cause}: " in said, said
    state = gateway.load(life.serving)
    assert state.experiment is None and state.weights[state.idle] == 0
    version = life.project.registry.get("2")
    assert cause in version.tags["aborted"]
    assert life.project.ledger.read()[-1].kind == "aborted"
    assert life.project.registry.alias(CHAMPION).number == "1"
    assert rollout.status(life.serving).problem is None


def test_a_shadow_stops_what_a_canary_need_not_see(life):
    life.flag.write_text("degraded")
    said = life.release()
    life.flag.unlink()
    assert "shadow: degraded: " in said
    report = json.loads((life.world.home / "releases" / "2-shadow.json").read_text())
    assert report["rows"] >= 50 and len(report["largest"]) == 20
    assert not any(value in json.dumps(report) for value in ("coast", "river", "kilos"))


def test_a_canary_that_dies_is_no_canary(life):
    """Clients see nothing of it: their requests go to the champion."""
    with Load(f"{life.serving.url}/predict", life.rows) as load, ThreadPoolExecutor() as pool:
        running = pool.submit(life.release)
        wait_for(lambda: gateway.load(life.serving).experiment is not None, 60)
        slot = gateway.load(life.serving).idle
        psutil.Process(int(life.serving.pidfile(slot).read_text())).kill()
        said = running.result()
    assert "no metrics: " in said or "its process died" in said, said
    assert load.failures == []
    assert gateway.load(life.serving).experiment is None
    wait_for(lambda: rollout.status(life.serving).problem is None)


def test_a_rollback_ends_a_canary_at_once(life):
    with Load(f"{life.serving.url}/predict", life.rows) as load, ThreadPoolExecutor() as pool:
        running = pool.submit(life.release)
        wait_for(lambda: gateway.load(life.serving).experiment is not None, 60)
        assert "version 2 is canary with" in (seen(life).experiment or "")
        ended = back.wait_or_end(life.project.settings)
        said = settle_ended(life.project, ended, "a test").message
        assert "version 2 is canary" in said and ended.milliseconds < 1000
        print(f"canary ended in {ended.milliseconds:.0f} ms")
        assert "its canary was ended" in running.result()
    assert load.failures == []
    assert gateway.load(life.serving).experiment is None
    assert life.project.ledger.read()[-1].reason.endswith("ended: a test")


def test_a_killed_canary_leaves_the_champion_and_ends_in_one_promotion(life):
    before = len([e for e in life.project.ledger.read() if e.kind == "promoted"])
    with Load(f"{life.serving.url}/predict", life.rows) as load:
        with killed_later(life) as process:
            wait_for(lambda: gateway.load(life.serving).experiment is not None, 60)
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
        state = gateway.load(life.serving)
        assert state.experiment and experiment.abandoned(state)
        assert any("left behind" in said for said in seen(life).problems)
        assert rollout.status(life.serving).problem is None, "it serves all the same"
        (traffic,) = (c for c in run_verify(life.project.settings) if c.name == "traffic")
        assert traffic.ok is False and "left behind" in traffic.reason
        assert "was ended" in release.finish(life.project), "as `evergreen up` does"
        assert gateway.load(life.serving).weights[state.idle] == 0
        assert life.project.ledger.read()[-1].kind == "cut_off"
        assert life.release() == "promoted"
        print("seen", load.seen)
    assert load.failures == []
    promoted = [entry for entry in life.project.ledger.read() if entry.kind == "promoted"]
    assert len(promoted) == before + 1 and promoted[-1].version == "2"
    state = gateway.load(life.serving)
    assert state.experiment is None and state.weights[state.active] == 100
    assert rollout.status(life.serving).endpoint["model_version"] == "2"


@contextmanager
def killed_later(life: Life) -> Iterator[subprocess.Popen]:
    """A release in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "release", "2"],
        cwd=life.world.checkout,
        env=life.world.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_ab_test_keeps_clients_and_says_who_is_better(life):
    """Version 1 beside version 2, through a killed gateway."""
    assert "clients that send x-user-id stay" in ab.start(life.project, "1", 50, "a test")
    with pytest.raises(EvergreenError, match=r"is B of an A/B test with 50 %.*ab stop"):
        release.run_release(life.project, "2")
    before = assignments(life)
    pid = int(gateway.command(life.serving, "show info").partition("Pid: ")[2].split()[0])
    psutil.Process(pid).kill()
    wait_for(lambda: rollout.status(life.serving).problem is None)
    assert assignments(life) == before and 10 < list(before.values()).count("1") < 30
    found = ab.report(life.project)
    assert found["running"] and (found["a"]["version"], found["b"]["version"]) == ("2", "1")
    assert "unknown: " in found["reason"] and found["a"]["labelled"] > 20
    assert found["a"]["requests"] + found["b"]["requests"] == 2 * len(before)
    assert seen(life).problems == ()
    checks = {check.name: check for check in run_verify(life.project.settings)}
    assert checks["traffic"].ok and "is B of" in checks["traffic"].reason
    ended = ab.stop(life.project, "a test")
    assert ab.report(life.project) == ended and not ended["running"]
    assert set(assignments(life).values()) == {"2"}
    ab.start(life.project, "1", 10, "a test")
    settle_ended(life.project, back.wait_or_end(life.project.settings), "a rollback")
    kinds = [entry.kind for entry in life.project.ledger.read()]
    assert kinds[-4:] == 2 * ["ab_started", "ab_ended"]
    assert gateway.load(life.serving).experiment is None


def assignments(life: Life) -> dict[str, str]:
    """Which version answers each of forty clients; their events have labels."""
    rows = life.project.partitions.rows(Period.parse("2024-W08"))
    found = {}
    for number, row in enumerate(life.rows[:40]):
        body, user = {**row, "key": rows["key"].iloc[number]}, f"client-{number}"
        reply = life.serving.door.call("POST", "/predict", body, {"x-user-id": user})
        found[user] = reply.value["model_version"]
    return found


def test_the_same_releases_in_a_cluster(life):
    """An image, a rollback, and a canary that is watched, over two Deployments and a route."""
    state, registry = gateway.load(life.serving), life.project.registry
    images = []
    for held, letter in zip(state.slots.values(), "ab", strict=True):
        folder = registry.folder(registry.get(held.version))
        images.append((cluster.image(folder, held.version, held.tag, letter), folder))
    with cluster.running(images, life.serving.folder / "log") as (made, where):
        settings = replace(life.project.settings, cluster=where)
        moved = replace(life, project=replace(life.project, settings=settings))
        with pytest.raises(EvergreenError, match="version 2 has no image: build one of"):
            moved.release()
        for image, _ in images:
            assert image.reference in run_image(moved.project, image.version, image.reference)
        assert moved.release() == "promoted"
        assert rollout.status(moved.serving).endpoint["model_version"] == "2"
        with rollout.one_release(moved.serving):
            assert (
                "version 1 serves again"
                in settle(moved.project, *back.move(settings), "a test").message
            )
        with Load(f"{moved.serving.url}/predict", life.rows) as load:
            assert moved.release() == "promoted"
        assert load.failures == [] and set(load.seen) == {"1", "2"}
        report = json.loads((life.world.home / "releases" / "2-canary.json").read_text())
        assert {v["name"] for v in report["verdicts"] if v["good"]} >= {"errors", "scores"}
        assert sorted(made.weights().values()) == [0, 100] and seen(moved).problems == ()
    assert gateway.load(life.serving) == state, "this machine's slots are none of its business"
