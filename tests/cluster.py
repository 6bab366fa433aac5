"""What deploy/k8s renders for a laptop, in a fake cluster whose images are artefacts of a test."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector

from bento.answerer import Answerer, Identity
from bento.endpoint import Endpoint
from bento.kubernetes_target import KubernetesTarget
from bento.prediction_log import PredictionLog
from bento.predictor import Predictor
from bento.slots import Cluster as Where
from bento.target import Image
from tests import fake_kubernetes
from tests.fake_kubernetes import Cluster, Pod
from tests.kustomized import render
from tests.serving_stack import CHECKOUT, free_ports

OVERLAY = CHECKOUT / "deploy" / "k8s" / "overlays" / "laptop"
ROLE = "evergreen-rollout"


def reference(letter: str) -> str:
    return f"registry.example.org/evergreen/service@sha256:{letter * 64}"


def image(artefact: Path, version: str, tag: str, letter: str) -> Image:
    return Image(tag, Predictor.load(artefact).digest, version, reference(letter))


@contextmanager
def running(images: Sequence[tuple[Image, Path]], folder: Path) -> Iterator[tuple[Cluster, Where]]:
    """The cluster, and what the rollout is told of it.

    Args:
        images: each with the artefact inside.
        folder: of the prediction log that the pods share.
    """
    objects = [*render(OVERLAY), *render(OVERLAY / "slots")]
    (rules,) = [x["rules"] for x in objects if (x["kind"], x["metadata"]["name"]) == ("Role", ROLE)]
    (port,) = free_ports(1)
    numbers = count(1)
    pods = {image.reference: _pods(image, home, folder, port, numbers) for image, home in images}
    made = Cluster({}, pods, rules)
    for each in objects:
        made.store(f"{each['kind'].lower()}s", each["metadata"]["name"], each)
    before = KubernetesTarget.pause, KubernetesTarget.patience
    KubernetesTarget.pause, KubernetesTarget.patience = 0.02, 3.0
    try:
        with fake_kubernetes.running(made) as (api, network):
            pods = f"http://{{ip}}:{port}"
            yield made, Where("evergreen", network, f"{network}/{{slot}}", "", api, pods)
    finally:
        KubernetesTarget.pause, KubernetesTarget.patience = before


def _pods(
    image: Image, artefact: Path, folder: Path, port: int, numbers: Iterator[int]
) -> Callable[[str], Pod]:
    """What starts a pod: the endpoint itself, in a thread, at an address of its own."""
    predictor = Predictor.load(artefact)

    def start(name: str) -> Pod:
        log = PredictionLog(folder / name / "predictions.jsonl")
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # says when it was started
        identity = Identity(image.version, image.tag, name.split("-")[1])
        endpoint = Endpoint(_nothing, lambda: Answerer(predictor, log, identity, registry))
        ip = f"127.0.1.{next(numbers)}"
        config = uvicorn.Config(endpoint, ip, port, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, daemon=True).start()
        stop, ready = (lambda: setattr(server, "should_exit", True)), (lambda: server.started)
        return Pod(f"http://{ip}:{port}", stop, ready, ip)

    return start


async def _nothing(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})
