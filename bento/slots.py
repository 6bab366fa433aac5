"""Two slots, blue and green: where they lie, what is unpacked in them, and how one starts.

A slot is a supervisord program. Its launcher runs from the checkout, ends a stale predecessor, and
then becomes the packed server: the code that serves is the code in the bento.
"""

import argparse
import fcntl
import os
import shlex
import shutil
import sys
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import psutil

from bento.package import ARTEFACT, Package, check
from bento.prediction_log import slot_file
from data.digests import verify
from data.errors import EvergreenError, stop_on_error

Slot = Literal["blue", "green"]
SLOTS: tuple[Slot, ...] = get_args(Slot)
GATEWAY = "gateway"
# AF_UNIX takes 107 bytes, and both daemons first bind a longer temporary name.
SOCKET_LIMIT = 90
STALE_TIMEOUT = 10.0


@dataclass(frozen=True)
class Serving:
    """Where serving lives on this machine; everything listens on `host` only."""

    folder: Path
    gateway_port: int
    blue_port: int
    green_port: int
    supervisor_socket: Path
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        for socket in (self.supervisor_socket, self.admin_socket):
            if len(os.fsencode(socket)) > SOCKET_LIMIT:
                raise EvergreenError(
                    f"{socket} is too long for a unix socket (over {SOCKET_LIMIT} bytes): choose a "
                    "shorter folder with EVERGREEN_HOME"
                )

    @property
    def admin_socket(self) -> Path:
        """Where HAProxy takes commands."""
        return self.folder / "gateway.sock"

    @property
    def url(self) -> str:
        """The gateway, as clients see it."""
        return f"http://{self.host}:{self.gateway_port}"

    def port(self, slot: Slot) -> int:
        return self.blue_port if slot == "blue" else self.green_port

    def slot_url(self, slot: Slot) -> str:
        """A slot without the gateway in front."""
        return f"http://{self.host}:{self.port(slot)}"

    def home(self, slot: Slot) -> Path:
        return self.folder / "slots" / slot

    def log(self, slot: Slot) -> Path:
        """What the slot's process prints."""
        return self.folder / "slots" / f"{slot}.log"


def install(serving: Serving, slot: Slot, package: Package) -> None:
    """Unpack a package into a slot that does not run; what was there can be put back.

    Raises:
        EvergreenError: if the archive is not the one that was built.
    """
    check(package)
    home = serving.home(slot)
    fresh, current, previous = home / "bento.new", home / "bento", home / "bento.previous"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tarfile.open(package.path) as archive:
        archive.extractall(fresh, filter="data")
    (artefact,) = fresh.glob(f"models/*/*/{ARTEFACT}")
    if verify(artefact) != package.digest:
        raise EvergreenError(f"{package.path} does not hold the artefact {package.digest[:16]}")
    shutil.rmtree(previous, ignore_errors=True)
    if current.exists():
        current.rename(previous)
    fresh.rename(current)


def restore(serving: Serving, slot: Slot) -> None:
    """Put back what the slot held before the last `install`; nothing if it was empty."""
    home = serving.home(slot)
    shutil.rmtree(home / "bento", ignore_errors=True)
    if (home / "bento.previous").exists():
        (home / "bento.previous").rename(home / "bento")


def programs(serving: Serving, checkout: Path) -> str:
    """The sections of supervisord.conf for both slots and the gateway."""
    place = ["--folder", str(serving.folder.resolve()), "--host", serving.host]
    ports = ["--blue-port", str(serving.blue_port), "--green-port", str(serving.green_port)]
    run = [sys.executable, "-m", "bento.gateway", "run", *place]
    run += ["--port", str(serving.gateway_port), *ports]
    log = serving.folder.resolve() / "gateway.log"
    sections = [_section(GATEWAY, run, checkout, log, autostart=True)]
    for slot in SLOTS:
        run = [sys.executable, "-m", "bento.slots", "run", *place]
        run += ["--slot", slot, "--port", str(serving.port(slot))]
        sections.append(_section(slot, run, checkout, serving.log(slot).resolve(), autostart=False))
    return "\n".join(sections)


def _section(name: str, command: list[str], checkout: Path, log: Path, autostart: bool) -> str:
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = {
        "command": shlex.join(command),
        "directory": str(checkout.resolve()),
        "autostart": str(autostart).lower(),
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "5",
        "stopsignal": "TERM",
        "stopwaitsecs": "15",
        "redirect_stderr": "true",
        "stdout_logfile": str(log),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    return f"[program:{name}]\n{text.replace('%', '%%')}"


def run(folder: Path, slot: Slot, host: str, port: int) -> None:
    """Become the server of a slot; does not return."""
    home = folder / "slots" / slot
    bento = home / "bento"
    if not bento.is_dir():
        raise EvergreenError(f"slot {slot} is empty ({bento}): deploy a package into it first")
    _hold(home)
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")},
        # One home for each slot: BentoML clears shared folders when it starts.
        "BENTOML_HOME": str(home / "home"),
        "BENTOML_DO_NOT_TRACK": "true",
        "DO_NOT_TRACK": "1",
        "EVERGREEN_SLOT": slot,
        "EVERGREEN_PREDICTION_LOG": str(slot_file(folder, slot)),
    }
    command = [sys.executable, "-m", "bento.server", "--bento", str(bento)]
    os.chdir(bento / "src")
    os.execve(sys.executable, [*command, "--host", host, "--port", str(port)], environment)


def _hold(home: Path) -> None:
    """Lock the slot for the life of this process, ending a stale holder.

    After a killed supervisord its slots live on; a successor would otherwise fail to bind for ever.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "pid", os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + STALE_TIMEOUT
    while not _locked(descriptor):
        if time.monotonic() > end:
            raise EvergreenError(f"{home / 'pid'} stays locked: end the process that holds it")
        _end_stale(home, os.pread(descriptor, 20, 0))
        time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.set_inheritable(descriptor, True)  # the lock goes with the process through exec


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_stale(home: Path, pid: bytes) -> None:
    """End the process, if it is one of ours in this slot and not a stranger with its number."""
    if not pid.isdigit():
        return
    with suppress(psutil.Error):
        process = psutil.Process(int(pid))
        if str(home / "bento") in process.cmdline() and "bento.server" in process.cmdline():
            process.terminate()
            try:
                process.wait(STALE_TIMEOUT / 2)
            except psutil.TimeoutExpired:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one slot (called by supervisord).")
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slot", choices=SLOTS, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    run(arguments.folder.resolve(), arguments.slot, arguments.host, arguments.port)


if __name__ == "__main__":
    stop_on_error(main)
