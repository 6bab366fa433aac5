"""When each version took the traffic, and in which slot: a line for each switch, only appended."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from bento.target import Release
from data.digests import canonical_json

FILE = "history.jsonl"


@dataclass(frozen=True)
class Switch:
    """All traffic moved to a version at a moment (UTC, ISO text)."""

    at: str
    version: str
    digest: str
    tag: str
    slot: str

    @classmethod
    def of(cls, release: Release, slot: str, at: str) -> "Switch":
        return cls(at, release.version, release.digest, release.tag, slot)


@dataclass(frozen=True)
class Served:
    """A version had the traffic from `since` up to `until`; None if it still has."""

    slot: str
    tag: str
    since: str
    until: str | None


def append(folder: Path, switch: Switch) -> None:
    """Add a switch to the history of a serving folder, unless the last one says the same."""
    known = read(folder)
    if known and (known[-1].tag, known[-1].slot) == (switch.tag, switch.slot):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+") as file:
        # A line that a full disk cut off must not swallow this one.
        file.seek(0)
        text = file.read()
        torn = "\n" if text and not text.endswith("\n") else ""
        file.write(f"{torn}{canonical_json(asdict(switch))}\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Switch]:
    """All switches, oldest first."""
    try:
        lines = (folder / FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Switch(**json.loads(line)) for line in lines if line.endswith("}")]


def served(folder: Path, version: str) -> list[Served]:
    """Every time that a version had the traffic, oldest first."""
    switches = read(folder)
    ends = [switch.at for switch in switches[1:]] + [None] * bool(switches)
    return [
        Served(switch.slot, switch.tag, switch.at, until)
        for switch, until in zip(switches, ends, strict=True)
        if switch.version == version
    ]
