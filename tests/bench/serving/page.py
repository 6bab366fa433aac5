"""What the benchmark found, as Markdown: what is wanted, then everything."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from tests.bench.serving.load import Measured

OURS, MLFLOW, FASTAPI = "evergreen", "mlflow models serve", "FastAPI + pandas"
FLOOR = "no-op ASGI"
MANY, SOME, ONE = "1 row, 64 connections", "1 row, 16 connections", "1 row, 1 connection"
BATCH, LARGE = "64 rows, 4 connections", "1,000 rows, 2 connections"
PACKAGES = ("bentoml", "mlflow", "fastapi", "uvicorn", "onnxruntime", "scikit-learn-intelex")


@dataclass(frozen=True)
class Report:
    """Attributes:
    results: (load, server) -> medians.
    starts: seconds of a cold start. memory: megabytes.
    """

    results: Mapping[tuple[str, str], Measured]
    starts: Mapping[str, float]
    memory: Mapping[str, float]

    def text(self) -> str:
        """The page."""
        parts = [
            "# The endpoint beside other ways to serve the same model\n",
            "Written by `make bench-serving`: the same trees, rows and connections, one server "
            "at a time under load from wrk, medians over rounds. CPU time is that of the server "
            "with all its processes.\n",
            f"{platform.machine()}, {psutil.cpu_count()} cores, Python "
            f"{platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
            + ".\n",
            "## Ratios\n",
            _table(["what", "found", "wanted", ""], self._ratios()),
            *(self._load(load) for load in (MANY, SOME, ONE, BATCH, LARGE)),
            "## Cold start and memory\n",
            _table(
                ["server", "first answer after, s", "memory, MB"],
                [[s, f"{self.starts[s]:.2f}", f"{self.memory[s]:.0f}"] for s in self.starts],
            ),
        ]
        return "\n".join(parts)

    def _ratios(self) -> list[list[str]]:
        rows = []
        for load, least, fast in ((MANY, 45, 25), (BATCH, 10, 6), (LARGE, 3, 3)):
            for peer, wanted in ((MLFLOW, least), (FASTAPI, fast)):
                ratio = self._of(load).rate / self._of(load, peer).rate
                rows.append(_row(f"requests a second, {load}, to {peer}", ratio, wanted, True))
        ratio = self._of(MANY).rate / self._of(MANY, FLOOR).rate
        rows.append(_row(f"requests a second, {MANY}, to {FLOOR}", ratio, 0.35, True))
        for load, quantile, wanted in ((ONE, "p50", 3.0), (SOME, "p99", 2.0)):
            ratio = getattr(self._of(load), quantile) / getattr(self._of(load, FLOOR), quantile)
            rows.append(_row(f"{quantile}, {load}, to {FLOOR}", ratio, wanted, False))
        for what, values, wanted in (
            ("cold start", self.starts, 0.25),
            ("memory", self.memory, 0.5),
        ):
            rows.append(_row(f"{what}, to {MLFLOW}", values[OURS] / values[MLFLOW], wanted, False))
        return rows

    def _of(self, load: str, server: str = OURS) -> Measured:
        return self.results[load, server]

    def _load(self, load: str) -> str:
        rows = [
            [server, f"{m.rate:,.0f}", f"{m.cpu:,.0f}", f"{m.p50 / 1e3:.2f}", f"{m.p99 / 1e3:.2f}"]
            for (name, server), m in self.results.items()
            if name == load
        ]
        head = ["server", "requests/s", "CPU µs a request", "p50, ms", "p99, ms"]
        return f"## {load}\n\n{_table(head, rows)}"


def _row(what: str, ratio: float, wanted: float, at_least: bool) -> list[str]:
    met = ratio >= wanted if at_least else ratio <= wanted
    return [what, f"{ratio:.2f}", f"{'≥' if at_least else '≤'} {wanted:g}", "" if met else "missed"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
