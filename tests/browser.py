"""A headless Chromium over its debugging protocol: what a page asks for, says and looks like."""

import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.serving_stack import wait_for

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# .ci/run installs Chromium and says so here: there, these tests never skip.
NEEDED = "chromium" in os.environ.get("EVERGREEN_TESTS_NEED", "")
needs_chromium = pytest.mark.skipif(
    not NEEDED and PROGRAM is None,
    reason="no chromium on PATH (Debian: apt-get install chromium)",
)
QUIET = ["--headless=new", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--disable-component-update", "--disable-sync", "--no-sandbox",
         "--remote-debugging-pipe"]  # fmt: skip


@dataclass
class Page:
    """One tab; `events` are those that came so far: method and what it says.

    Attributes:
        commands, answers: ends of the browser's pipes; a message ends with a zero byte.
        session: of the tab; empty for the browser itself.
    """

    commands: int
    answers: int
    session: str = ""
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _last: int = 0
    _read: bytes = b""

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": given}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._last:
                assert "error" not in said, said
                return said["result"]
            self.events.append((said.get("method", ""), said.get("params", {})))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self.answers], [], [], 60)
            part = os.read(self.answers, 1 << 16) if ready else b""
            assert part, "the browser does not answer"
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, width: int = 1280, scheme: str = "light") -> None:
        """Load a page whole at a width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 700)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=url)
        wait_for(lambda: self.run("document.readyState") == "complete" and self._loaded(), 60)

    def _loaded(self) -> bool:
        return any(method == "Page.loadEventFired" for method, _ in self.events)

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def asked(self) -> set[str]:
        """Every address that the page asked for, whether it was let or not."""
        name = "Network.requestWillBeSent"
        return {given["request"]["url"] for method, given in self.events if method == name}

    def complaints(self) -> list[str]:
        """What the browser wrote to its console: what a policy forbade, what failed."""
        return [given["entry"]["text"] for method, given in self.events
                if method == "Log.entryAdded"]  # fmt: skip


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a Chromium with a profile of its own."""
    assert PROGRAM, "EVERGREEN_TESTS_NEED says that chromium is there, but it is not on PATH"
    (theirs, commands), (answers, told) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="eg-chromium", ignore_cleanup_errors=True) as profile:
        command = [PROGRAM, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        # It reads from 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{told}', *command]
        process = subprocess.Popen(shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   pass_fds=(theirs, told))  # fmt: skip
        os.close(theirs)
        os.close(told)
        try:
            page = Page(commands, answers)
            tab = page.call("Target.createTarget", url="about:blank")["targetId"]
            attached = page.call("Target.attachToTarget", targetId=tab, flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Network", "Log"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            process.terminate()
            process.wait(30)
            os.close(commands)
            os.close(answers)
