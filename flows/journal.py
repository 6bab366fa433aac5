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
        try:
            *whole, _ = self.path.read_text().split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(text) for text in whole if text.endswith("}")]

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
