"""A cluster: two Deployments, each behind a Service, and the weights of one HTTPRoute.

Nothing is kept outside the cluster: the route's annotation says what each slot holds, its
backendRefs who takes how much, and both change in one request that names the version of the route
that was read. Images are set by digest; replicas beyond the least are the autoscaler's.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from bento import kubernetes_lease as lease
from bento.client import Door
from bento.kubernetes_api import STRATEGIC, Api, ConflictError, UnclearError
from bento.slots import SLOTS, Cluster, Serving, Slot
from bento.target import Experiment, Image, Packed, Release, State
from data.digests import canonical_json
from data.errors import EvergreenError

NAME = "evergreen"
CONTAINER = "service"
STATE = "evergreen/state"  # annotation of the route
BEFORE = "evergreen/image-before"  # annotations of a Deployment
LEAST = "evergreen/least-replicas"
TRIES = 3
HOPELESS = (
    *("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("CrashLoopBackOff", "CreateContainerConfigError"),
)


@dataclass(frozen=True)
class Seen(State):
    """A state, and the route that it was read from."""

    route: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class KubernetesTarget:
    """See `bento.target.Target`."""

    serving: Serving
    cluster: Cluster
    patience: ClassVar[float] = 300.0
    pause: ClassVar[float] = 0.5

    @cached_property
    def _api(self) -> Api:
        return Api.find(self.cluster.api)

    def lock(self, name: str, patience: float, other: str) -> AbstractContextManager[None]:
        """A Lease of the namespace."""
        return lease.held(self._api, self._lease(name), patience, other)

    def alive(self, pid: int) -> bool:
        """Whether anybody holds the release: a process of another pod has no number here."""
        return lease.is_held(self._api, self._lease("release"))

    def load(self) -> State:
        return _state(self._api.get(self._route))

    def apply(self, state: State) -> State:
        """Weights and record in one request.

        Raises:
            EvergreenError: if others changed the route since the state was read, or the API does
                not answer; the route is as it was then, unless the error says otherwise.
        """
        before = state if isinstance(state, Seen) else Seen(route=self._api.get(self._route))
        route, wanted = before.route, _change(before.route, state)
        failed: EvergreenError | None = None
        for _ in range(TRIES):
            change = {**wanted, "metadata": {**wanted["metadata"], **_version(route)}}
            try:
                return _state(self._api.patch(self._route, change))
            except (ConflictError, UnclearError) as error:
                # A conflict may be no more than the gateway's word in the route's status, and a
                # request that was not answered may have been carried out.
                failed, route = error, self._read_after(error)
            if _said(route) == _said(wanted):
                return _state(route)
            if _said(route) != _said(before.route):
                raise EvergreenError(
                    f"the route {NAME} was changed by others meanwhile, and nothing of this was "
                    "done: see `evergreen status`, and try again"
                ) from failed
        raise EvergreenError(f"the traffic was not moved: {failed}") from failed

    def _read_after(self, error: EvergreenError) -> dict[str, Any]:
        try:
            return self._api.get(self._route)
        except EvergreenError as again:
            raise EvergreenError(
                f"whether the traffic has moved is not known: {error}; {again}: see `evergreen "
                "status` once the API answers"
            ) from error

    def stage(self, slot: Slot, package: Packed) -> None:
        if not isinstance(package, Image):
            raise EvergreenError(f"{package.tag} is no image: a Deployment takes nothing else")
        self._container(slot)

    def install(self, slot: Slot, package: Packed) -> None:
        assert isinstance(package, Image)
        self._set_image(slot, package.reference, {BEFORE: self._container(slot)["image"]})

    def restore(self, slot: Slot) -> None:
        annotations = self._deployment(slot)["metadata"].get("annotations") or {}
        self._set_image(slot, annotations.get(BEFORE, self._container(slot)["image"]))

    def start(self, slot: Slot) -> None:
        """As many pods as the other slot has: all traffic may come at once."""
        found = {name: self._deployment(name) for name in SLOTS}
        if not found[slot]["spec"].get("replicas"):
            least = (found[slot]["metadata"].get("annotations") or {}).get(LEAST, "1")
            most = max(int(least), *(each["spec"].get("replicas") or 0 for each in found.values()))
            self._api.patch(self._path(slot), {"spec": {"replicas": most}}, STRATEGIC)

    def fault(self, slot: Slot) -> str | None:
        try:
            return self._fault(slot)
        except UnclearError as error:
            return str(error)

    def last_words(self, slot: Slot) -> str:
        return f"see `kubectl -n {self.cluster.namespace} describe deployment {NAME}-{slot}`"

    def pages(self, slot: Slot) -> list[str]:
        """Of the pods that are ready: another takes no traffic."""
        found = self._pods(slot, self._deployment(slot))
        ready = [p["status"]["podIP"] for p in found if _ready(p)]
        hosts = [f"[{ip}]" if ":" in ip else ip for ip in ready]
        return [Door(f"{self.cluster.pods.format(ip=ip)}/metrics").text() for ip in hosts]

    def lost(self) -> Mapping[str, int]:
        """Nothing: what a gateway loses is told by each implementation in its own way."""
        return {}

    def _fault(self, slot: Slot) -> str | None:
        found = self._deployment(slot)
        status, wanted = found.get("status") or {}, found["spec"].get("replicas") or 0
        if not wanted or status.get("observedGeneration", 0) < found["metadata"]["generation"]:
            return f"slot {slot} has not been started"
        for condition in status.get("conditions") or []:
            if (condition["type"], condition["status"]) == ("Progressing", "False"):
                raise EvergreenError(f"slot {slot}: {condition.get('message')}")
        image = _container(found)["image"]
        for pod in self._pods(slot, found):
            _refuse_hopeless(slot, pod, image)
        counts = [status.get(f"{name}eplicas", 0) for name in ("r", "updatedR", "availableR")]
        if counts != [wanted] * 3:
            return f"slot {slot} has {counts[2]} of {wanted} pods; {self.last_words(slot)}"
        return None

    def _pods(self, slot: Slot, deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of a slot that are not on their way out."""
        labels = deployment["spec"]["selector"]["matchLabels"]
        chosen = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        found = self._api.get(f"{self._core}/pods", labelSelector=chosen)["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def _set_image(
        self, slot: Slot, image: str, annotations: Mapping[str, str] | None = None
    ) -> None:
        """Another image for a slot, which is stopped by the same request."""
        container = {"name": CONTAINER, "image": image}
        change = {
            "metadata": {"annotations": dict(annotations or {})},
            "spec": {"replicas": 0, "template": {"spec": {"containers": [container]}}},
        }
        self._api.patch(self._path(slot), change, STRATEGIC)

    def _deployment(self, slot: Slot) -> dict[str, Any]:
        return self._api.get(self._path(slot))

    def _container(self, slot: Slot) -> Mapping[str, Any]:
        return _container(self._deployment(slot))

    def _path(self, slot: Slot) -> str:
        return f"/apis/apps/v1/namespaces/{self.cluster.namespace}/deployments/{NAME}-{slot}"

    def _lease(self, name: str) -> str:
        group = "/apis/coordination.k8s.io/v1"
        return f"{group}/namespaces/{self.cluster.namespace}/leases/{NAME}-{name}"

    @property
    def _route(self) -> str:
        group = "/apis/gateway.networking.k8s.io/v1"
        return f"{group}/namespaces/{self.cluster.namespace}/httproutes/{NAME}"

    @property
    def _core(self) -> str:
        return f"/api/v1/namespaces/{self.cluster.namespace}"


def _container(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in deployment["spec"]["template"]["spec"]["containers"]:
        if each["name"] == CONTAINER:
            return dict(each)
    raise EvergreenError(f"{deployment['metadata']['name']} has no container {CONTAINER!r}")


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _refuse_hopeless(slot: Slot, pod: Mapping[str, Any], image: str) -> None:
    """An error if a pod of the slot's own image will not come up by waiting."""
    if all(each["image"] != image for each in pod["spec"]["containers"]):
        return
    for each in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in HOPELESS:
            name, said = pod["metadata"]["name"], waiting.get("message", "")
            why = f"{waiting['reason']}: {said}"[:300]
            raise EvergreenError(f"slot {slot}: pod {name} will not come up: {why}")


def _state(route: Mapping[str, Any]) -> Seen:
    """What a route says of itself.

    Raises:
        EvergreenError: if its annotation is not ours, or a slot is none of its backends.
    """
    text = (route["metadata"].get("annotations") or {}).get(STATE)
    refs = {ref["name"]: ref.get("weight", 1) for ref in _refs(route)}
    try:
        weights = {slot: int(refs[f"{NAME}-{slot}"]) for slot in SLOTS}
        if text is None:
            return Seen(weights=weights, route=route)
        value = json.loads(text)
        slots = {s: Release(**value["slots"][s]) if value["slots"][s] else None for s in SLOTS}
        tried = value["experiment"]
        return Seen(slots, value["active"], weights, tried and Experiment(**tried), route)
    except (ValueError, KeyError, TypeError) as error:
        raise EvergreenError(
            f"the route {NAME} holds no state of a rollout ({error!r}): restore its annotation "
            f"{STATE} and its two backendRefs from deploy/k8s"
        ) from error


def _change(route: Mapping[str, Any], state: State) -> dict[str, Any]:
    """The parts of the route that say `state`."""
    value = asdict(State(state.slots, state.active, state.weights, state.experiment))
    del value["weights"]
    named = {f"{NAME}-{slot}": weight for slot, weight in state.weights.items()}
    rules = [
        {
            **rule,
            "backendRefs": [
                {**ref, "weight": named.get(ref["name"], ref.get("weight", 1))}
                for ref in rule.get("backendRefs") or []
            ],
        }
        for rule in route["spec"]["rules"]
    ]
    annotations = {STATE: canonical_json(value)}
    return {"metadata": {"annotations": annotations}, "spec": {"rules": rules}}


def _version(route: Mapping[str, Any]) -> dict[str, str]:
    return {"resourceVersion": route["metadata"]["resourceVersion"]}


def _said(route: Mapping[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
    """What of a route is ours."""
    return (route["metadata"].get("annotations") or {}).get(STATE), route["spec"]["rules"]


def _refs(route: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [ref for rule in route["spec"]["rules"] for ref in rule.get("backendRefs") or []]
