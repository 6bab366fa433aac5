"""Rollouts in a cluster: what they promise on one machine, and what only an API can do wrong."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests
import uvicorn
from prometheus_client import CollectorRegistry

from bento import experiment, rollout, target
from bento.answerer import Answerer, Identity
from bento.endpoint import Endpoint
from bento.kubernetes_target import KubernetesTarget
from bento.prediction_log import PredictionLog
from bento.predictor import Predictor
from bento.slots import Cluster as Where
from bento.slots import Serving
from bento.target import Image, Packed
from data.errors import EvergreenError
from tests import fake_kubernetes
from tests.fake_kubernetes import Cluster, Pod
from tests.kustomized import render
from tests.rollouts import Place, a_refusal_and_a_way_back, two_releases
from tests.serving_stack import CHECKOUT, free_ports, golden

ROLE = "evergreen-rollout"
OVERLAY = CHECKOUT / "deploy" / "k8s" / "overlays" / "laptop"


@dataclass(frozen=True)
class World:
    """A fake cluster, and a rollout that happens there."""

    cluster: Cluster
    place: Place

    @property
    def serving(self) -> Serving:
        return self.place.serving

    def refuses(self, words: str, package: Packed) -> None:
        """A release fails with one clear error, and the champion has all traffic."""
        before = target.load(self.serving)
        with pytest.raises(EvergreenError, match=words) as refused:
            self.place.deploy(package)
        assert "\n" not in str(refused.value)
        after = target.load(self.serving)
        assert (after.active, after.weights) == (before.active, before.weights)
        assert self.served() == {before.slots[before.active].version}

    def served(self) -> set[str]:
        answers = (requests.get(f"{self.serving.url}/version", timeout=5) for _ in range(8))
        return {answer.json()["model_version"] for answer in answers}


def reference(letter: str) -> str:
    return f"registry.example.org/evergreen/service@sha256:{letter * 64}"


def pods_of(folder: Path, version: str, logs: Path) -> Callable[[str], Pod]:
    """What starts a pod of an artefact: the endpoint itself, in a thread."""
    predictor = Predictor.load(folder)

    def start(name: str) -> Pod:
        log = PredictionLog(logs / name / "predictions.jsonl")
        identity = Identity(version, f"parcels:{version}", name.split("-")[1])
        answerer = Answerer(predictor, log, identity, CollectorRegistry())
        (port,) = free_ports(1)
        endpoint = Endpoint(nothing, lambda: answerer)
        server = uvicorn.Server(
            uvicorn.Config(endpoint, port=port, log_level="error", lifespan="off")
        )
        threading.Thread(target=server.run, daemon=True).start()
        url = f"http://127.0.0.1:{port}"
        return Pod(url, lambda: setattr(server, "should_exit", True), lambda: server.started)

    return start


async def nothing(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def a_cluster(artefact: Path, second_artefact: Path, folder: Path, row: dict) -> Iterator[World]:
    """What deploy/k8s renders for a laptop, in a fake cluster."""
    objects = [*render(OVERLAY), *render(OVERLAY / "slots")]
    (role,) = [x["rules"] for x in objects if (x["kind"], x["metadata"]["name"]) == ("Role", ROLE)]
    made = Cluster({}, {}, role)
    for each in objects:
        made.store(f"{each['kind'].lower()}s", each["metadata"]["name"], each)
    packages = []
    for version, home, letter in (("1", artefact, "a"), ("2", second_artefact, "b")):
        made.images[reference(letter)] = pods_of(home, version, folder / "log")
        digest = Predictor.load(home).digest
        packages.append(Image(f"parcels:{version}", digest, version, reference(letter)))
    with fake_kubernetes.running(made) as (api, network):
        where = Where("evergreen", network, f"{network}/{{slot}}", api)
        serving = Serving(folder, 1, 2, 3, folder / "s.sock", cluster=where)
        place = Place(serving, *packages, golden(artefact), golden(second_artefact), row)
        yield World(made, place)


@pytest.fixture
def world(artefact, second_artefact, row, tmp_path, monkeypatch) -> Iterator[World]:
    monkeypatch.setattr(KubernetesTarget, "pause", 0.02)
    monkeypatch.setattr(KubernetesTarget, "patience", 5.0)
    with a_cluster(artefact, second_artefact, tmp_path, row) as made:
        yield made


@pytest.fixture
def serves(world) -> World:
    """Version 1 serves."""
    rollout.switch(world.serving, world.place.deploy(world.place.first))
    return world


def test_a_cluster_keeps_what_a_rollout_promises(world):
    two_releases(world.place)
    a_refusal_and_a_way_back(world.place)
    running = sorted(pod.image for pod in world.cluster.pods.values())
    assert running == [reference("a"), reference("b")], "both run: a way back"
    granted = {
        (group, kinds, verb)
        for rule in world.cluster.rules
        for group in rule["apiGroups"]
        for kinds in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = {(group, kinds, verb) for verb, group, kinds, _ in world.cluster.asked}
    assert asked == granted, "the Role allows what is used, and nothing else"


def test_a_rollback_is_one_change_of_the_route(serves):
    rollout.switch(serves.serving, serves.place.deploy(serves.place.second))
    del serves.cluster.asked[:]
    rollout.switch(serves.serving, "blue")
    changed = [(kinds, name) for verb, _, kinds, name in serves.cluster.asked if verb == "patch"]
    assert [each for each in changed if each[0] != "leases"] == [("httproutes", "evergreen")]
    assert serves.cluster.weights() == {"evergreen-blue": 100, "evergreen-green": 0}


def test_an_image_that_never_gets_ready_leaves_the_champion(serves):
    missing = replace(serves.place.second, reference=reference("c"))
    serves.refuses("slot green: pod .* is ImagePullBackOff: no such image", missing)
    other = replace(serves.place.second, reference=reference("a"))
    serves.refuses("serves parcels:1, not parcels:2", other)


def planted(verb: str, kinds: str, what: int | str, times: int, after: int = 0) -> Callable:
    """A fault of the API: the first `times` requests of a kind, once `after` others are through."""
    seen = iter(range(10_000))

    def fault(asked: str, on: str, name: str) -> int | str | None:
        if (asked, on) != (verb, kinds):
            return None
        return what if after <= next(seen) < after + times else None

    return fault


@pytest.mark.parametrize("fault", [500, "lost"])
def test_a_request_without_an_answer_is_looked_into(serves, fault):
    """Carried out or not: the route says which, and a switch is done once."""
    slot = serves.place.deploy(serves.place.second)
    serves.cluster.faults.append(planted("patch", "httproutes", fault, 1))
    rollout.switch(serves.serving, slot)
    assert serves.served() == {"2"}


def test_an_api_that_is_down_moves_nothing(serves):
    slot = serves.place.deploy(serves.place.second)
    serves.cluster.faults.append(planted("patch", "httproutes", 500, 99))
    with pytest.raises(EvergreenError, match=r"the traffic was not moved: .* 500: planted"):
        rollout.switch(serves.serving, slot)
    assert serves.served() == {"1"}


def test_an_api_that_fails_midway_leaves_the_champion(serves):
    serves.cluster.faults.append(planted("patch", "deployments", 500, 99))
    serves.refuses("is not released: PATCH .* 500: planted", serves.place.second)
    serves.cluster.faults[:] = [planted("get", "deployments", 503, 3, after=4)]
    assert serves.place.deploy(serves.place.second) == "green", "while waiting it is asked again"


def test_a_conflict_is_read_again(serves):
    """The gateway's word in the status is no change of the weights; another's hand is."""
    slot = serves.place.deploy(serves.place.second)
    cluster = serves.cluster

    def others(weight: int | None) -> Callable:
        def write(verb: str, kinds: str, name: str) -> None:
            if (verb, kinds) == ("patch", "httproutes"):
                cluster.faults.remove(write)
                if weight is not None:
                    rules = cluster.objects[kinds, name]["spec"]["rules"]
                    rules[0]["backendRefs"][0]["weight"] = weight
                cluster.touch(kinds, name)

        return write

    cluster.faults.append(others(None))
    rollout.switch(serves.serving, slot)
    assert serves.served() == {"2"}
    cluster.faults.append(others(7))
    with pytest.raises(EvergreenError, match="changed by others meanwhile, and nothing of this"):
        rollout.switch(serves.serving, "blue")
    assert cluster.weights() == {"evergreen-blue": 7, "evergreen-green": 100}


def test_one_release_at_a_time_in_the_whole_cluster(serves):
    serving, words = serves.serving, "another release or rollback is on its way"
    with rollout.one_release(serving):
        assert target.of(serving).alive(0)
        with pytest.raises(EvergreenError, match=words), rollout.one_release(serving):
            pass
    assert not target.of(serving).alive(0)
    long_ago = "2024-01-01T00:00:00.000000+00:00"
    killed = {"holderIdentity": "x", "renewTime": long_ago, "leaseDurationSeconds": 30}
    serves.cluster.objects["leases", "evergreen-release"]["spec"] = killed
    with rollout.one_release(serving):
        pass


def test_an_ab_test_is_refused(serves):
    slot = serves.place.deploy(serves.place.second)
    with pytest.raises(EvergreenError, match="stay with their version"):
        experiment.begin(serves.serving, "ab", slot, 50)
