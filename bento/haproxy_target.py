"""One machine: HAProxy before two slots under supervisord."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import psutil
from filelock import FileLock, Timeout

from bento import gateway, slots, supervisor
from bento.client import Door
from bento.package import Package
from bento.pidfile import holder
from bento.slots import Serving, Slot
from bento.target import Packed, State
from data.errors import EvergreenError

LAST_LINES = 8
LOST = ("econ", "eresp")  # connections and answers that the gateway did not get


@dataclass(frozen=True)
class HaproxyTarget:
    """See `bento.target.Target`."""

    serving: Serving
    patience: ClassVar[float] = 60.0
    pause: ClassVar[float] = 0.05

    @contextmanager
    def lock(self, name: str, patience: float, other: str) -> Iterator[None]:
        """A lock file of the serving folder."""
        self.serving.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.serving.folder / f"{name}.lock", timeout=patience):
                yield
        except Timeout as error:
            raise EvergreenError(f"{other} is on its way: wait until it is done") from error

    def alive(self, pid: int) -> bool:
        return psutil.pid_exists(pid)

    def load(self) -> State:
        return gateway.load(self.serving)

    def apply(self, state: State) -> State:
        gateway.apply(self.serving, state)
        return state

    def stage(self, slot: Slot, package: Packed) -> None:
        if not isinstance(package, Package):
            raise EvergreenError(f"{package.tag} is an image: slots of one machine take a bento")
        slots.unpack(self.serving, slot, package)

    def install(self, slot: Slot, package: Packed) -> None:
        supervisor.stop(self.serving.supervisor_socket, slot)
        slots.install(self.serving, slot)

    def restore(self, slot: Slot) -> None:
        supervisor.stop(self.serving.supervisor_socket, slot)
        slots.restore(self.serving, slot)

    def start(self, slot: Slot) -> None:
        supervisor.start(self.serving.supervisor_socket, slot)

    def fault(self, slot: Slot) -> str | None:
        word, pid = supervisor.state(self.serving.supervisor_socket, slot)
        if word in supervisor.FAILED:
            raise EvergreenError(f"slot {slot} is {word}; {self.last_words(slot)}")
        if holder(self.serving.pidfile(slot)) != pid:  # a predecessor may still be who answers
            return f"slot {slot} has not started; {self.last_words(slot)}"
        return None

    def last_words(self, slot: Slot) -> str:
        log = self.serving.log(slot)
        try:
            text = log.read_text(errors="replace")
        except OSError:
            text = "(nothing)"
        return f"{log} ends with\n" + "\n".join(text.splitlines()[-LAST_LINES:])

    def pages(self, slot: Slot) -> list[str]:
        return [Door(f"{self.serving.slot_url(slot)}/metrics").text()]

    def lost(self) -> Mapping[str, int]:
        stat = gateway.command(self.serving, "show stat").removeprefix("# ")
        return {
            row["svname"]: sum(int(row[name] or 0) for name in LOST)
            for row in csv.DictReader(stat.splitlines())
            if row["pxname"] == "serving"
        }
