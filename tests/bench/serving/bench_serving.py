"""Our endpoint beside other ways to serve the same model: `make bench-serving`.

All servers hold the same trees and get the same rows, in rotation, from wrk (one thread, so that
one of two cores is the server's). In every round each load is put on each server in turn; medians
over the rounds are compared. Before that their answers are compared, row by row.
"""

import argparse
import random
import statistics
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from bento.package import build
from data import flights
from data.contracts import to_columns
from data.ingest import ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of, span
from models import artifact
from models.artifact import to_requests
from models.train import train
from tests.bench.serving.load import Measured, memory, wrk
from tests.bench.serving.page import Report
from tests.bench.serving.pipeline import TRUSTED, frame, pipeline
from tests.bench.serving.servers import ROOT, Running, run, servers

AS_OF = "2013-W09"
console = Console(width=150)


@dataclass(frozen=True)
class Load:
    """Rows in a request, connections, and what the column is called."""

    name: str
    rows: int
    connections: int


LOADS = (
    Load("1 row, 64 connections", 1, 64),
    Load("1 row, 16 connections", 1, 16),
    Load("1 row, 1 connection", 1, 1),
    Load("64 rows, 4 connections", 64, 4),
    Load("1,000 rows, 2 connections", 1000, 2),
)
BODIES = 500
Results = dict[tuple[str, str], Measured]


def prepare(folder: Path) -> list[dict]:
    """The default problem's model in all forms that are served, and rows of the next week."""
    problem, params = flights.PROBLEM, load_params(ROOT / "params.yaml")
    partitions = Partitions(folder / "raw")
    first = Period.parse(params.train.first_period)
    for period in span(first, Period.parse(AS_OF)):
        ingest(problem, partitions, period, problem.read(period))
    trained = train(problem, partitions, params, parse_as_of(AS_OF, problem.label_delay))
    artifact.write(trained, problem, params, folder / "artefact")
    rows = to_requests(
        to_columns(partitions.rows(Period.parse(AS_OF)), problem.fields), problem.fields
    )
    model = pipeline(folder / "artefact", frame(rows[:1000]))
    mlflow.sklearn.save_model(
        model,
        folder / "mlflow",
        serialization_format="skops",
        skops_trusted_types=TRUSTED,
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
    )
    return rows


def unpacked(folder: Path) -> Path:
    """Our bento, as a slot holds it."""
    package = build(
        folder / "artefact",
        name="flights",
        version="1",
        store=folder / "store",
        checkout=ROOT,
        seconds=2.0,
    )
    bento = folder / "bento"
    with tarfile.open(package.path) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(bento)
    return bento


def must_agree(all_running: Sequence[Running], rows: Sequence[dict]) -> None:
    """All servers but the floors give the same probabilities for the same rows.

    Raises:
        SystemExit: naming the first that does not.
    """
    expected: list[float] = []
    for running in all_running:
        if not running.server.name.startswith("no-op"):
            headers = {"content-type": "application/json"}
            reply = requests.post(running.url, running.server.body(rows), headers=headers).json()
            found = [_probability(each) for each in _answers(reply)]
            expected = expected or found
            gap = max(abs(a - b) for a, b in zip(expected, found, strict=True))
            if gap > 1e-6:
                raise SystemExit(f"{running.server.name} differs by {gap:.1e}: {found[:3]}")


def _answers(reply: object) -> list:
    if isinstance(reply, dict):
        return reply.get("predictions", [reply])
    return list(reply)


def _probability(answer: object) -> float:
    if isinstance(answer, dict):
        return answer["probability"]
    return answer[1] if isinstance(answer, list) else float(answer)


def measure(all_running: Sequence[Running], rows: list[dict], rounds: int, seconds: float):
    """Every load on every server, in rounds; medians."""
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    turns = [(load, running) for load in LOADS for running in all_running] * rounds
    for load, running in track(turns, "load", console=console):
        count = max(4, BODIES // load.rows)
        picked = [random.choices(rows, k=load.rows) for _ in range(count)]
        bodies = [running.server.body(some) for some in picked]
        pid = running.process.pid
        wrk(running.url, bodies, load.connections, 1, pid)
        one = wrk(running.url, bodies, load.connections, seconds, pid)
        found[load.name, running.server.name].append(one)
    return {key: _median(values) for key, values in found.items()}


def _median(values: Sequence[Measured]) -> Measured:
    names = Measured.__dataclass_fields__
    return Measured(**{name: statistics.median(getattr(v, name) for v in values) for name in names})


def cold_starts(folder: Path, bento: Path, row: dict, times: int) -> dict[str, float]:
    """Seconds from the start of a server to its first answer, one server at a time; medians."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(times):
        for server in servers(folder, bento):
            with run(server, folder, server.body([row])) as running:
                found[server.name].append(running.cold_start)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each run")
    parser.add_argument("--write", type=Path, help="the page to write, docs/serving.md")
    given = parser.parse_args()
    random.seed(1)
    with tempfile.TemporaryDirectory(prefix="evergreen-serving-") as name, ExitStack() as stack:
        folder = Path(name)
        rows = prepare(folder)
        bento = unpacked(folder)
        starts = cold_starts(folder, bento, rows[0], given.rounds)
        all_running = [
            stack.enter_context(run(server, folder, server.body(rows[:1])))
            for server in servers(folder, bento)
        ]
        must_agree(all_running, rows[:300])
        must_agree(all_running, rows[:1])
        results = measure(all_running, rows, given.rounds, given.seconds)
        sizes = {running.server.name: memory(running.process.pid) for running in all_running}
    report = Report(results, starts, sizes)
    console.print(Markdown(report.text()))
    if given.write:
        given.write.write_text(report.text())


if __name__ == "__main__":
    main()
