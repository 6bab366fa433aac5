"""Rollouts in a cluster: what they promise on one machine, and what only an API can do wrong."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from bento import experiment, observe, rollout, target
from bento.kubernetes_api import Api
from bento.slots import Serving
from bento.target import Packed
from data.errors import EvergreenError
from tests import cluster
from tests.cluster import reference
from tests.fake_kubernetes import Cluster
from tests.rollouts import Place, a_refusal_and_a_way_back, two_releases
from tests.serving_stack import golden, wait_for


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

    def scale(self, slot: str, replicas: int) -> None:
        """As an autoscaler does."""
        name = f"evergreen-{slot}"
        with self.cluster.lock:
            self.cluster.objects["deployments", name]["spec"]["replicas"] = replicas
        wait_for(lambda: len(self.cluster.ready(name)) == replicas)

    def served(self) -> set[str]:
        answers = (requests.get(f"{self.serving.url}/version", timeout=5) for _ in range(8))
        return {answer.json()["model_version"] for answer in answers}


@pytest.fixture
def world(artefact, second_artefact, row, tmp_path) -> Iterator[World]:
    first = cluster.image(artefact, "1", "parcels:1", "a")
    second = cluster.image(second_artefact, "2", "parcels:2", "b")
    images = ((first, artefact), (second, second_artefact))
    with cluster.running(images, tmp_path / "log") as (made, where):
        serving = Serving(tmp_path, 1, 2, 3, tmp_path / "s.sock", cluster=where)
        yield World(
            made, Place(serving, first, second, golden(artefact), golden(second_artefact), row)
        )


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
    serves.refuses("slot green: pod .* will not come up: ImagePullBackOff: no such", missing)
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
    held = serves.cluster

    def others(weight: int | None) -> Callable:
        def write(verb: str, kinds: str, name: str) -> None:
            if (verb, kinds) == ("patch", "httproutes"):
                held.faults.remove(write)
                if weight is not None:
                    rules = held.objects[kinds, name]["spec"]["rules"]
                    rules[0]["backendRefs"][0]["weight"] = weight
                held.touch(kinds, name)

        return write

    held.faults.append(others(None))
    rollout.switch(serves.serving, slot)
    assert serves.served() == {"2"}
    held.faults.append(others(7))
    with pytest.raises(EvergreenError, match="changed by others meanwhile, and nothing of this"):
        rollout.switch(serves.serving, "blue")
    assert held.weights() == {"evergreen-blue": 7, "evergreen-green": 100}


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


def test_a_canary_reads_what_all_pods_did(serves):
    """Counters are summed over the pods, rows read from the log that they share."""
    serving, began = serves.serving, datetime.now(UTC)
    serves.scale("blue", 2)
    before = observe.read(serving, began, ["blue"])
    for _ in range(12):
        requests.post(serves.place.predict, json=serves.place.row, timeout=5).raise_for_status()
    after = observe.read(serving, datetime.now(UTC), ["blue"])
    logged = observe.records(serving, before.at, after.at)
    contract = serves.place.golden[0]
    arm = observe.arm(before.slots["blue"], after.slots["blue"], logged, {}, contract)
    assert (arm.requests, arm.errors, arm.answered, len(arm.scores)) == (12, 0, 12, 12)
    assert not arm.restarted
    serves.scale("blue", 1)
    fewer = observe.read(serving, datetime.now(UTC), ["blue"])
    with pytest.raises(EvergreenError, match="a pod went while it was watched"):
        observe.arm(after.slots["blue"], fewer.slots["blue"], [], {}, contract)


def kubeconfig(path: Path, user: dict, **cluster: str) -> dict[str, str]:
    said = {"server": "https://api.example.org:6443/", **cluster}
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": said}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(content))
    return {"KUBECONFIG": str(path)}


def test_the_api_is_found_as_kubectl_finds_it(tmp_path):
    path, pem = tmp_path / "config", base64.b64encode(b"a certificate").decode()
    said = {"client-certificate-data": pem, "client-key": "key.pem"}
    found = Api.find(None, kubeconfig(path, said, **{"certificate-authority": "ca.pem"}))
    assert (found.url, found.token) == ("https://api.example.org:6443", None)
    certificate, key = found.certificate
    assert certificate.read_bytes() == b"a certificate"
    assert certificate.parent.stat().st_mode & 0o077 == 0
    assert (key, found.authority) == (tmp_path / "key.pem", tmp_path / "ca.pem")
    assert Api.find(None, kubeconfig(path, {"token": "t"})).token == "t"
    pod = Api.find(None, {"KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert pod.url == "https://[fd00::1]:443" and pod.authority.name == "ca.crt"
    assert "secret" not in repr(Api("https://x", "secret"))


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"exec": {"command": "x"}}, {}, "logs in by a program of its own: run `kubectl proxy`"),
        ({}, {"insecure-skip-tls-verify": "true"}, "does not check the server's certificate"),
        ({}, {"server": None}, "leads to no Kubernetes API"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_what_can(tmp_path, user, cluster, said):
    with pytest.raises(EvergreenError, match=said):
        Api.find(None, kubeconfig(tmp_path / "config", user, **cluster))
    with pytest.raises(EvergreenError, match=r"leads to no Kubernetes API .*: set KUBECONFIG, or"):
        Api.find(None, {"KUBECONFIG": str(tmp_path / "none")})
