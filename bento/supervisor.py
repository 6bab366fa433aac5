"""Programs under supervisord, over XML-RPC on its unix socket."""

import http.client
import xmlrpc.client
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from data.errors import EvergreenError

FAILED = ("BACKOFF", "EXITED", "FATAL")


def start(socket: Path, program: str) -> None:
    """Start a program, without waiting until it serves; one that runs already is left alone."""
    _call(socket, "startProcess", program, False, accept=Faults.ALREADY_STARTED)


def stop(socket: Path, program: str) -> None:
    """Stop a program and wait until it is gone; one that does not run is left alone."""
    _call(socket, "stopProcess", program, True, accept=Faults.NOT_RUNNING)


def signal(socket: Path, program: str, name: str) -> None:
    """Send a running program a signal, such as USR2."""
    _call(socket, "signalProcess", program, name)


def state(socket: Path, program: str) -> tuple[str, int]:
    """supervisord's word for it (STOPPED, STARTING, RUNNING, BACKOFF, …) and the pid, or 0."""
    info = _call(socket, "getProcessInfo", program)
    return str(info["statename"]), int(info["pid"])


def states(socket: Path) -> dict[str, str]:
    """supervisord's word for each of its programs."""
    return {
        str(info["name"]): str(info["statename"]) for info in _call(socket, "getAllProcessInfo")
    }


def pid(socket: Path) -> int:
    """The process id of supervisord itself, from its own mouth: a pid file can be stale."""
    return int(_call(socket, "getPID"))


def _call(socket: Path, method: str, *arguments: Any, accept: int | None = None) -> Any:
    transport = SupervisorTransport(None, None, f"unix://{socket}")
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode == accept:
            return None
        raise EvergreenError(
            f"supervisord refuses {method}{arguments} ({fault.faultString}): see its log"
        ) from fault
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        raise EvergreenError(
            f"supervisord does not answer on {socket} ({error}): bring the stack up first"
        ) from error
