"""A headless Chromium over its debugging protocol: what a page asks for, says and looks like."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

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
         "--remote-debugging-port=0"]  # fmt: skip


@dataclass
class Page:
    """One tab; `events` are those that came so far, by method."""

    socket: ClientConnection
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _last: int = 0

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        self._last += 1
        self.socket.send(json.dumps({"id": self._last, "method": method, "params": given}))
        while True:
            said = json.loads(self.socket.recv(timeout=60))
            if said.get("id") == self._last:
                assert "error" not in said, said
                return said["result"]
            self.events.append((said.get("method", ""), said.get("params", {})))

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
    profile = Path(tempfile.mkdtemp(prefix="eg-chromium", dir="/tmp"))
    command = [PROGRAM, *QUIET, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        active = profile / "DevToolsActivePort"
        wait_for(lambda: active.exists() and len(active.read_text().split()) == 2, 60)
        port, path = active.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as root:
            tab = Page(root).call("Target.createTarget", url="about:blank")["targetId"]
            with connect(f"ws://127.0.0.1:{port}/devtools/page/{tab}", max_size=None,
                         proxy=None) as socket:  # fmt: skip
                page = Page(socket)
                for domain in ("Page", "Network", "Log"):
                    page.call(f"{domain}.enable")
                yield page
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(profile, ignore_errors=True)
