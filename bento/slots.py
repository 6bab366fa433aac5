"""Two slots, blue and green: where they lie, what is unpacked in them, and how one starts.

A slot is a supervisord program. Its launcher runs from the checkout, ends a stale predecessor, and
then becomes the packed server: the code that serves is the code in the bento.
"""

import argparse
import os
import shlex
import shutil
import sys
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from bento import auth
from bento.package import ARTEFACT, Package, check
from bento.pidfile import hold
from bento.prediction_log import slot_file
from data.digests import verify
from data.errors import EvergreenError, stop_on_error

if TYPE_CHECKING:
    from bento.client import Door

Slot = Literal["blue", "green"]
SLOTS: tuple[Slot, ...] = get_args(Slot)
GATEWAY = "gateway"
RATE_LIMIT = 10_000
CURRENT, FRESH, PREVIOUS = "bento", "bento.new", "bento.previous"
# AF_UNIX takes 107 bytes, and both daemons first bind a longer temporary name.
SOCKET_LIMIT = 90
WITHHELD = ("PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Cluster:
    """Where serving lives in Kubernetes.

    Attributes:
        namespace: of the slots and of the route.
        front: the gateway, as clients see it.
        slots: of a slot's Service, with `{slot}`; pods: of one of its pods, with `{ip}`.
        prefect: its server.
        api: the Kubernetes API behind `kubectl proxy`; None: as the pod or the kubeconfig says.
    """

    namespace: str
    front: str
    slots: str
    prefect: str = ""
    api: str | None = None
    pods: str = "http://{ip}:3000"


@dataclass(frozen=True)
class Serving:
    """Where serving lives on this machine.

    Attributes:
        host: loopback, where the slots listen.
        bind: where the gateway listens.
        certificate: with chain and key; the gateway then speaks TLS.
        rate_limit: requests a second of one key, or of one address without keys; 0 for none.
        cluster: where it lives instead, if that is not this machine.
    """

    folder: Path
    gateway_port: int
    blue_port: int
    green_port: int
    supervisor_socket: Path
    host: str = "127.0.0.1"
    bind: str = "127.0.0.1"
    certificate: Path | None = None
    rate_limit: int = RATE_LIMIT
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not self.host.startswith("127."):
            raise EvergreenError(f"{self.host} is not loopback: slots listen nowhere else")
        try:
            ip_address(self.bind)
        except ValueError as error:
            raise EvergreenError(
                f"EVERGREEN_HOST={self.bind!r} is no address: use 127.0.0.1, that of a network "
                "card, or 0.0.0.0 for all"
            ) from error
        if not self.folder.is_absolute():
            raise EvergreenError(f"the serving folder {self.folder} has to be an absolute path")
        for socket in (self.supervisor_socket, self.admin_socket):
            if len(os.fsencode(socket)) > SOCKET_LIMIT:
                raise EvergreenError(
                    f"{socket} is too long for a unix socket (over {SOCKET_LIMIT} bytes): choose a "
                    "shorter folder with EVERGREEN_HOME"
                )

    @property
    def admin_socket(self) -> Path:
        """Where HAProxy takes commands: beside supervisord's, where paths are short enough."""
        return self.supervisor_socket.with_name("gateway.sock")

    @property
    def public(self) -> bool:
        """Whether the gateway can be reached from other machines."""
        return not ip_address(self.bind).is_loopback

    @property
    def url(self) -> str:
        """The gateway, as clients on this machine see it."""
        if self.cluster is not None:
            return self.cluster.front
        own = self.host if ip_address(self.bind).is_unspecified else self.bind
        host = f"[{own}]" if ":" in own else own
        return f"http{'s' if self.certificate else ''}://{host}:{self.gateway_port}"

    @property
    def door(self) -> "Door":
        """The gateway, with what lets this installation in."""
        from bento.client import Door  # a slot starts without what a client needs

        return Door(self.url, auth.installation(self.folder), self.certificate)

    def pinned(self, slot: Slot) -> "Door":
        """What takes a request with the header `x-slot` to this slot.

        In a cluster that is the slot's own Service: the header means nothing at its gateway.
        """
        from bento.client import Door

        return self.door if self.cluster is None else Door(self.slot_url(slot))

    def port(self, slot: Slot) -> int:
        return self.blue_port if slot == "blue" else self.green_port

    def slot_url(self, slot: Slot) -> str:
        """A slot without the gateway in front."""
        if self.cluster is not None:
            return self.cluster.slots.format(slot=slot)
        return f"http://{self.host}:{self.port(slot)}"

    def home(self, slot: Slot) -> Path:
        return self.folder / "slots" / slot

    def pidfile(self, slot: Slot) -> Path:
        return self.home(slot) / "pid"

    def log(self, slot: Slot) -> Path:
        """What the slot's process prints."""
        return self.folder / "slots" / f"{slot}.log"


def unpack(serving: Serving, slot: Slot, package: Package) -> None:
    """Put a package beside what the slot holds; a running slot does not notice.

    Raises:
        EvergreenError: if the archive is not the one that was built.
    """
    check(package)
    fresh = serving.home(slot) / FRESH
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tarfile.open(package.path) as archive:
        # Python before 3.11.4 has no filters; the archive's sha256 was checked above.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(fresh)
    (artefact,) = fresh.glob(f"models/*/*/{ARTEFACT}")
    if verify(artefact) != package.digest:
        raise EvergreenError(f"{package.path} does not hold the artefact {package.digest[:16]}")


def install(serving: Serving, slot: Slot) -> None:
    """Let what was unpacked take the place of what the stopped slot held; `restore` undoes it."""
    home = serving.home(slot)
    shutil.rmtree(home / PREVIOUS, ignore_errors=True)
    with suppress(FileNotFoundError):
        (home / CURRENT).rename(home / PREVIOUS)
    (home / FRESH).rename(home / CURRENT)


def restore(serving: Serving, slot: Slot) -> None:
    """Put back what the slot held before the last `install`; nothing if it was empty."""
    home = serving.home(slot)
    shutil.rmtree(home / CURRENT, ignore_errors=True)
    with suppress(FileNotFoundError):
        (home / PREVIOUS).rename(home / CURRENT)


def artefact(serving: Serving, slot: Slot) -> Path:
    """Where the artefact lies that a slot was given."""
    bento = serving.home(slot) / CURRENT
    return next(bento.glob(f"models/*/*/{ARTEFACT}"), bento / "models" / ARTEFACT)


def programs(serving: Serving, checkout: Path) -> str:
    """The sections of supervisord.conf for both slots and the gateway."""
    place = ["--folder", str(serving.folder.resolve()), "--host", serving.host]
    ports = ["--blue-port", str(serving.blue_port), "--green-port", str(serving.green_port)]
    run = [sys.executable, "-m", "bento.gateway", "run", *place]
    run += ["--supervisor-socket", str(serving.supervisor_socket)]
    run += ["--port", str(serving.gateway_port), *ports, "--bind", serving.bind]
    run += ["--rate-limit", str(serving.rate_limit)]
    run += ["--certificate", str(serving.certificate)] if serving.certificate else []
    log = serving.folder.resolve() / "gateway.log"
    sections = [_section(GATEWAY, run, checkout, log, autostart=True, settled=1)]
    for slot in SLOTS:
        run = [sys.executable, "-m", "bento.slots", "run", *place]
        run += ["--slot", slot, "--port", str(serving.port(slot))]
        log = serving.log(slot).resolve()
        # A slot that dies while it loads its model has to be seen as failed, not as running.
        sections.append(_section(slot, run, checkout, log, autostart=False, settled=10))
    return "\n".join(sections)


def _section(
    name: str, command: list[str], checkout: Path, log: Path, *, autostart: bool, settled: int
) -> str:
    """One program; `settled` is the number of seconds after which it counts as started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = {
        "command": shlex.join(command),
        "directory": str(checkout.resolve()),
        "autostart": str(autostart).lower(),
        "autorestart": "true",
        "startsecs": str(settled),
        "startretries": "60",
        "stopsignal": "TERM",
        "stopwaitsecs": "15",
        "redirect_stderr": "true",
        "stdout_logfile": str(log),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
        # What faces the network holds none of a team's secrets.
        "environment": ",".join(f'{name}=""' for name in WITHHELD),
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    return f"[program:{name}]\n{text.replace('%', '%%')}"


def monitor_file(folder: Path) -> Path:
    """Where the monitor leaves what it says, which the slots of a serving folder show."""
    return folder / "monitor.prom"


def run(folder: Path, slot: Slot, host: str, port: int) -> None:
    """Become the server of a slot; does not return."""
    home = folder / "slots" / slot
    bento = home / CURRENT
    if not bento.is_dir():
        raise EvergreenError(f"slot {slot} is empty ({bento}): deploy a package into it first")
    hold(home / "pid", "bento.server", str(bento))
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")},
        # One home for each slot: BentoML clears shared folders when it starts.
        "BENTOML_HOME": str(home / "home"),
        "BENTOML_DO_NOT_TRACK": "true",
        "DO_NOT_TRACK": "1",
        "EVERGREEN_SLOT": slot,
        "EVERGREEN_PREDICTION_LOG": str(slot_file(folder, slot)),
        "EVERGREEN_MONITOR_METRICS": str(monitor_file(folder)),
    }
    command = [sys.executable, "-m", "bento.server", "--bento", str(bento)]
    os.chdir(bento / "src")
    os.execve(sys.executable, [*command, "--host", host, "--port", str(port)], environment)


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
