"""A Kubernetes API on loopback: real HTTP, real schemas, a Role that is kept, a tiny controller.

It holds what deploy/k8s renders. A Deployment's pods are real endpoints of the service, in threads;
one more address stands for the Services of the slots and for the gateway with the route's weights.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from tests.kubernetes_schemas import fault
from tests.kustomized import merge

PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/v1)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<kinds>[^/?]+)(?:/(?P<name>[^/?]+))?(?:\?(?P<query>.*))?"
)
PATCHES = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
Object = dict[str, Any]


@dataclass
class Cluster:
    """Objects by (kinds, name), what was asked, and what is to go wrong.

    Attributes:
        images: what a pod of an image becomes: a function that starts it and gives its address.
        faults: called before a request is answered, with verb, kinds and name; a status to answer
            with, "lost" to carry it out without an answer, or None.
    """

    objects: dict[tuple[str, str], Object]
    images: dict[str, Callable[[str], "Pod"]]
    rules: list[Object]
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: list[Callable[[str, str, str], int | str | None]] = field(default_factory=list)
    pods: dict[str, "Pod"] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    versions: int = 100

    def store(self, kinds: str, name: str, new: Object) -> Object:
        """Keep an object under the next resourceVersion."""
        old = self.objects.get((kinds, name), {"metadata": {"generation": 0}})
        self.versions += 1
        generation = old["metadata"]["generation"] + (old.get("spec") != new.get("spec"))
        new["metadata"] |= {"resourceVersion": str(self.versions), "generation": generation}
        self.objects[kinds, name] = new
        return new

    def touch(self, kinds: str, name: str) -> None:
        """Another writer's word in the status."""
        with self.lock:
            self.store(kinds, name, deepcopy(self.objects[kinds, name]))

    def weights(self) -> dict[str, int]:
        refs = self.objects["httproutes", "evergreen"]["spec"]["rules"][0]["backendRefs"]
        return {ref["name"]: ref["weight"] for ref in refs}

    def ready(self, deployment: str) -> list["Pod"]:
        return [pod for pod in self.pods.values() if pod.of == deployment and pod.ready()]

    def settle(self) -> None:
        """One turn of the controller: each Deployment a step nearer to what it wants."""
        with self.lock:
            for (kinds, name), found in list(self.objects.items()):
                if kinds == "deployments" and name.startswith("evergreen-"):
                    self._settle(name, deepcopy(found))

    def _settle(self, name: str, found: Object) -> None:
        wanted = found["spec"].get("replicas", 1)
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        mine = {key: pod for key, pod in self.pods.items() if pod.of == name}
        stale = [key for key, pod in mine.items() if pod.image != image]
        for key in [*stale, *[key for key in mine if key not in stale][wanted:]]:
            self.pods.pop(key).stop()
        for _ in range(wanted - len(mine) + len(stale)):
            key = f"{name}-{self.versions}-{len(self.pods)}"
            made = (
                self.images[image](key)
                if image in self.images
                else Pod("", lambda: None, lambda: False)
            )
            self.pods[key] = made
            made.of, made.image = name, image
        up = len(self.ready(name))
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "availableReplicas": up,
            "readyReplicas": up,
        }
        if found.get("status") != status:
            self.store("deployments", name, {**found, "status": status})

    def described(self, labels: dict[str, str]) -> list[Object]:
        """Pods as the API shows them."""
        items = []
        for key, pod in self.pods.items():
            own = self.objects["deployments", pod.of]["spec"]["template"]["metadata"]["labels"]
            if labels.items() <= own.items():
                items.append(pod.described(key, own))
        return items

    def allowed(self, verb: str, group: str, kinds: str, name: str) -> bool:
        return any(
            verb in rule["verbs"]
            and kinds in rule["resources"]
            and group in rule["apiGroups"]
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self.rules
        )


@dataclass
class Pod:
    """An endpoint; without an address one whose image cannot be pulled."""

    url: str
    stop: Callable[[], None]
    ready: Callable[[], bool]
    ip: str = "127.0.0.1"
    of: str = ""
    image: str = ""

    def described(self, name: str, labels: dict[str, str]) -> Object:
        waiting = {"reason": "ImagePullBackOff", "message": f"no such image: {self.image}"}
        state = {"running": {}} if self.url else {"waiting": waiting}
        container = {"name": "service", "image": self.image}
        ready = {"type": "Ready", "status": str(self.ready())}
        status = {**container, "imageID": "", "ready": self.ready(), "restartCount": 0}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [container]},
            "status": {
                "podIP": self.ip,
                "conditions": [ready],
                "containerStatuses": [{**status, "state": state}],
            },
        }


def _unpulled(_: str) -> Pod:
    return Pod("", lambda: None, lambda: False)


class _Api(BaseHTTPRequestHandler):
    cluster: Cluster

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("get")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def _answer(self, verb: str) -> None:
        found = PATH.fullmatch(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if found is None:
            return self._refuse(404, f"the server has no {self.path}")
        kinds, name, group = found["kinds"], found["name"] or "", found["group"] or ""
        verb = "list" if verb == "get" and not name else verb
        with self.cluster.lock:
            self.cluster.asked.append((verb, group, kinds, name))
            if not self.cluster.allowed(verb, group, kinds, name):
                return self._refuse(403, f"cannot {verb} resource {kinds} {name!r}")
            faults = [each(verb, kinds, name) for each in self.cluster.faults]
            wrong = next((each for each in faults if each), None)
            if isinstance(wrong, int):
                return self._refuse(wrong, "planted")
            if verb == "list":
                pairs = requests.utils.unquote(found["query"] or "").partition("=")[2].split(",")
                items = self.cluster.described(dict(pair.split("=") for pair in pairs))
                return self._say(200, {"apiVersion": "v1", "kind": "PodList", "items": items})
            if (kinds, name) not in self.cluster.objects:
                return self._refuse(404, f"{kinds} {name!r} not found")
            if verb == "get":
                return self._say(200, self.cluster.objects[kinds, name])
            return self._patch(kinds, name, json.loads(body), wrong == "lost")

    def _patch(self, kinds: str, name: str, change: Object, lost: bool) -> None:
        sort, old = self.headers["content-type"], self.cluster.objects[kinds, name]
        strategic = sort.startswith("application/strategic")
        if sort not in PATCHES or (strategic and kinds == "httproutes"):
            return self._refuse(415, f"{sort} is not supported for {kinds}")
        given = change.get("metadata", {}).get("resourceVersion")
        if given not in (None, old["metadata"]["resourceVersion"]):
            return self._refuse(409, f"{name}: the object has been modified; please apply")
        new = merge(deepcopy(old), change, strategic)
        if said := fault(new):
            return self._refuse(422, f"{name} is invalid: {said}")
        self.cluster.store(kinds, name, new)
        if lost:
            self.close_connection = True
            return None
        return self._say(200, new)

    def _refuse(self, status: int, message: str) -> None:
        self._say(status, {"kind": "Status", "status": "Failure", "message": message})

    def _say(self, status: int, value: Object) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class _Network(BaseHTTPRequestHandler):
    """`/blue/…` and `/green/…` are the Services, anything else the gateway."""

    cluster: Cluster

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _pass_on(self, body: bytes | None) -> None:
        slot, path = re.fullmatch(r"(?:/(blue|green))?(/.*)", self.path).groups()
        weights = self.cluster.weights()
        headers = {"content-type": self.headers.get("content-type", "")}
        if slot is not None:
            headers |= {"x-slot": slot}
        elif any(weights.values()):
            (chosen,) = random.choices(list(weights), list(weights.values()))
            slot = chosen.removeprefix("evergreen-")
        pods = self.cluster.ready(f"evergreen-{slot}")
        if not pods:
            return self._write(503, b'{"error": "no healthy upstream"}')
        url = random.choice(pods).url + path
        method = "GET" if body is None else "POST"
        answer = requests.request(method, url, data=body, headers=headers, timeout=5)
        return self._write(answer.status_code, answer.content)

    def _write(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def running(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Addresses of the API and of the network while both answer."""
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (base,), {"cluster": cluster}))
        for base in (_Api, _Network)
    ]
    over = threading.Event()

    def control() -> None:
        while not over.is_set():
            cluster.settle()
            time.sleep(0.02)

    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    threads.append(threading.Thread(target=control))
    for thread in threads:
        thread.start()
    try:
        api, network = (f"http://127.0.0.1:{server.server_port}" for server in servers)
        yield api, network
    finally:
        over.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
        for pod in cluster.pods.values():
            pod.stop()
