"""One in so many requests as a line for people, and every one that failed; never a value of one."""

import logging
import sys
from typing import Any

import orjson

VARIABLE = "EVERGREEN_ACCESS_LOG"
ONE_IN = 100


class AccessLog:
    """Lines of JSON on standard output, which is the slot's log."""

    def __init__(self, one_in: int = ONE_IN, stream: Any = None) -> None:
        """Args: one_in: 1 for every request, 0 for failures only."""
        self._one_in = one_in
        self._seen = 0
        self._logger = logging.Logger("access")
        self._logger.addHandler(logging.StreamHandler(stream or sys.stdout))

    def note(self, path: str, status: int, seconds: float) -> None:
        """A request that was answered."""
        self._seen += 1
        if status < 500 and (not self._one_in or self._seen % self._one_in):
            return
        line = {"path": path, "status": status, "ms": round(1000 * seconds, 3), "nth": self._seen}
        self._logger.info("%s", orjson.dumps(line).decode())
