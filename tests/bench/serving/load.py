"""Load by wrk: one thread, kept connections, bodies in rotation."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from data.errors import EvergreenError

SCRIPT = """
local bodies, turn = {{}}, 0
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
request = function()
  turn = turn % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[turn])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Measured:
    """One run: rate in requests a second, latencies and CPU time of the server in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


def wrk(url: str, bodies: Sequence[bytes], connections: int, seconds: float, pid: int) -> Measured:
    """What a server does under this load.

    Args:
        bodies: sent in rotation.
        pid: the server's; the time of its children counts, too.

    Raises:
        EvergreenError: if wrk is not installed, or a request failed.
    """
    if (program := shutil.which("wrk")) is None:
        raise EvergreenError("there is no wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder, "bodies"), Path(folder, "load.lua")
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        script.write_text(SCRIPT.format(bodies=lines))
        command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        before = cpu_seconds(pid)
        done = subprocess.run(
            [*command, "--timeout", "30s", "-s", str(script), url],
            capture_output=True,
            text=True,
            check=True,
        )
        spent = cpu_seconds(pid) - before
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    found = json.loads(line.removeprefix("RESULT "))
    if found["errors"] or not found["requests"]:
        raise EvergreenError(f"{url}: {found['errors']} of {found['requests']} requests failed")
    rate = found["requests"] / found["microseconds"] * 1e6
    return Measured(rate, found["p50"], found["p99"], spent / found["requests"] * 1e6)


def tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it."""
    times = [process.cpu_times() for process in tree(pid)]
    return sum(time.user + time.system for time in times)


def memory(pid: int) -> float:
    """Megabytes that a process and all below it hold for themselves, shared pages divided."""
    return sum(process.memory_full_info().pss for process in tree(pid)) / 1e6
