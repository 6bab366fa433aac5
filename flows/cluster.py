"""Where the traffic goes: HAProxy on this machine, or a cluster. Said by the environment."""

import re
from collections.abc import Mapping

from bento.slots import Cluster
from data.errors import EvergreenError

TARGETS = ("haproxy", "kubernetes")
TARGET = "EVERGREEN_TARGET"
NAMESPACE = "EVERGREEN_NAMESPACE"
FRONT = "EVERGREEN_GATEWAY_URL"
SLOTS = "EVERGREEN_SLOT_URL"
API = "EVERGREEN_KUBERNETES_URL"
DEFAULT = "evergreen"


def read(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster; None for this machine.

    Raises:
        EvergreenError: if the target is none, or what it needs is not said.
    """
    target = environment.get(TARGET) or TARGETS[0]
    if target not in TARGETS:
        raise EvergreenError(f"{TARGET}={target!r} is no target: use {' or '.join(TARGETS)}")
    if target == TARGETS[0]:
        return None
    namespace = environment.get(NAMESPACE) or DEFAULT
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise EvergreenError(f"{NAMESPACE}={namespace!r} is no name of a namespace")
    slots = environment.get(SLOTS) or f"http://evergreen-{{slot}}.{namespace}.svc:3000"
    if "{slot}" not in slots:
        raise EvergreenError(f"{SLOTS}={slots!r} needs {{slot}} where blue or green stands")
    if not (front := environment.get(FRONT)):
        raise EvergreenError(
            f"{TARGET}=kubernetes needs {FRONT}, the gateway's address as clients have it: what "
            "answers there is asked after every switch"
        )
    prefect = environment.get("PREFECT_API_URL") or f"http://prefect.{namespace}.svc:4200"
    api = environment.get(API) or None
    return Cluster(namespace, front.rstrip("/"), slots, prefect.removesuffix("/api"), api)
