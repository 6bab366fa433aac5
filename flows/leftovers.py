"""What else runs on this machine when a stack starts: others' ports, and what a killed one left."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress

import psutil

from bento import gateway
from bento.pidfile import holder
from bento.slots import SLOTS
from data.errors import EvergreenError
from flows.settings import Settings

STACK = "EVERGREEN_STACK"


def end_orphans(settings: Settings, say: Callable[[str], None]) -> None:
    """End what a killed supervisord of this home left behind; nobody else's processes.

    Gateway and slots go on: their successors take over from them, so that no request is lost.
    """
    serving = _serving(settings)
    orphans = [process for process in ours(settings) if process.pid not in serving]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            say(f"ending {process.name()} (pid {process.pid}), left behind by an earlier stack")
            process.terminate()
    _, alive = psutil.wait_procs(orphans, timeout=10)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def ours(settings: Settings) -> list[psutil.Process]:
    """The running programs of this home's stack."""
    return [process for process in psutil.process_iter() if _is_ours(process, settings)]


def _serving(settings: Settings) -> set[int]:
    """The processes of this home's gateway and slots that a killed supervisord left behind."""
    places = [settings.serving.folder / gateway.PIDFILE, *map(settings.serving.pidfile, SLOTS)]
    found: set[int] = set()
    for pid in filter(None, map(holder, places)):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if _is_ours(process, settings):
                found |= {pid, *(child.pid for child in process.children(recursive=True))}
    return found


def check_ports(settings: Settings) -> None:
    """No port of ours may be somebody else's.

    Raises:
        EvergreenError: naming the port, who listens there if that can be seen, and the way out.
    """
    for service, who in strangers(settings, _serving(settings)).items():
        raise EvergreenError(
            f"port {settings.ports[service]} of {service} is taken by {who}: end it, or choose "
            f"another with EVERGREEN_{service.upper()}_PORT; nothing was started"
        )


def strangers(settings: Settings, mine: Collection[int]) -> dict[str, str]:
    """Who listens on a port of ours, by service; not the processes that are `mine`."""
    listening = {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    return {
        service: _who(listening[port])
        for service, port in settings.ports.items()
        if port in listening and listening[port] not in mine
    }


def _who(pid: int | None) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "another user's process"
    except psutil.Error:
        return f"pid {pid}"


def _is_ours(process: psutil.Process, settings: Settings) -> bool:
    """A program that a stack of this home started, and not this process."""
    try:
        marked = process.environ().get(STACK) == str(settings.home)
        return marked and process.pid != os.getpid()
    except psutil.Error:
        return False
