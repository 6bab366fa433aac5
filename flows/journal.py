"""A file of JSON lines that is only ever appended to, by many processes, and survives a kill."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from data.digests import canonical_json

PATIENCE = 60  # seconds


@dataclass(frozen=True)
class Journal:
    """The file; who reads and then appends holds it meanwhile."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """All lines, oldest first; one that a killed writer left unfinished is none."""
        return self.since(0)[0]

    def since(self, place: int) -> tuple[list[dict[str, Any]], int]:
        """The lines behind a place in the file, in bytes, and the place behind the last of them."""
        try:
            with self.path.open("rb") as file:
                file.seek(place)
                *whole, rest = file.read().split(b"\n")
                end = file.tell() - len(rest)
        except FileNotFoundError:
            return [], 0
        return [json.loads(text) for text in whole if text.endswith(b"}")], end

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else appends meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock"), timeout=PATIENCE):
            yield

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line to the disk; the caller holds the journal."""
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        text = ("\n" if torn else "") + canonical_json(dict(line)) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())
