"""Rows/s and peak memory of ingest and feature building: `python -m tests.bench.bench_data_path`.

The whole weeks of 2013 come again and again, moved in time and under keys of their own: 1, 10 and
30 years (`--years`), and one year of weeks with ten times the rows (`--wide`). Every step runs in a
process of its own, on the same partitions: ingest, the streamed feature matrix, and its peer, which
is pandas reading everything and building the same features whole. Both matrices must be equal. The
peer is skipped where it may need more than `--limit` GiB. Nothing timed is asserted. 30 years take
half an hour on a quiet machine and 2 GB below the temporary folder, which is removed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from data import matrix, rules
from data.contracts import KEY
from data.features import CalendarPart, Category, Feature, HistoricalRate, Numeric
from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
WEEKS = [Period.parse(name) for name in PROBLEM.periods()[:-1]]  # the last one is a part of a week
YEAR = timedelta(weeks=len(WEEKS))
COMPARING = [rule.name for rule in rules.BATCH if rule.compares]
LATER = datetime(2200, 1, 1)
GIB = 2**30


@dataclass(frozen=True)
class Size:
    """So many years of the weeks of 2013, each row so many times."""

    years: int
    copies: int

    def periods(self) -> list[tuple[Period, int, Period]]:
        """Each period with its year and the real week that it repeats."""
        return [
            (Period.of(week.start + year * YEAR, "week"), year, week)
            for year in range(self.years)
            for week in WEEKS
        ]


def write_source(folder: Path) -> None:
    """The real weeks as batches with key, fields and outcome."""
    folder.mkdir()
    for week in WEEKS:
        batch = deliver(PROBLEM, week)
        outcomes = PROBLEM.outcomes(batch)
        PROBLEM.prepare(batch).merge(outcomes, on=KEY).to_parquet(folder / f"{week}.parquet")


def again(source: Path, week: Period, year: int, copies: int) -> pd.DataFrame:
    """A real week, moved by whole years, each row `copies` times."""
    batch = pd.read_parquet(source / f"{week}.parquet")
    batch["scheduled_departure"] += pd.Timedelta(year * YEAR)
    parts = [batch.assign(key=f"{year}-{copy}|" + batch[KEY]) for copy in range(copies)]
    return pd.concat(parts, ignore_index=True)


def repeated(source: Path, size: Size) -> Problem:
    """The default problem with that source."""
    weeks = {period: (week, year) for period, year, week in size.periods()}
    return replace(
        PROBLEM,
        periods=lambda: [period.name for period in weeks],
        read=lambda period: again(source, *weeks[period], size.copies),
        prepare=lambda batch: batch.drop(columns=["label", "excluded"]),
        outcomes=lambda batch: batch[[KEY, "label", "excluded"]],
        source=(),
    )


def run_ingest(folder: Path, size: Size) -> dict[str, object]:
    """Every batch through the door, in order; rules that compare run, and refuse none."""
    problem, raw = repeated(folder / "source", size), Partitions(folder / "raw")
    rows, spent, used = 0, 0.0, 0.0
    for period, _, _ in size.periods():
        batch = problem.read(period)
        start, cpu = time.perf_counter(), time.process_time()
        done = ingest(problem, raw, period, batch, contract=PARAMS.contract, despite=COMPARING)
        spent += time.perf_counter() - start
        used += time.process_time() - cpu
        rows += done.rows
    return {"rows": rows, "seconds": spent, "cpu": used, "peak": peak()}


def run_stream(folder: Path, size: Size) -> dict[str, object]:
    raw = Partitions(folder / "raw")
    start, cpu = time.perf_counter(), time.process_time()
    past = matrix.count(PROBLEM, raw, [period for period, _, _ in size.periods()], LATER)
    found = past.matrix(past.fit())
    return told(len(found), start, cpu) | {"digest": digest(found.values)}


def run_pandas(folder: Path, size: Size) -> dict[str, object]:
    """Everything read at once; the same features in pandas."""
    names = [folder / "raw" / f"{period}" for period, _, _ in size.periods()]
    start, cpu = time.perf_counter(), time.process_time()
    rows = pd.concat([pd.read_parquet(f"{name}.parquet") for name in names])
    labels = pd.concat([pd.read_parquet(f"{name}.labels.parquet") for name in names])
    frame = rows.merge(labels.dropna(subset="label"), on=KEY, validate="1:1")
    frame = frame.sort_values([PROBLEM.event_time, KEY], ignore_index=True)
    values = np.column_stack([in_pandas(feature, frame) for feature in PROBLEM.features])
    return told(len(values), start, cpu) | {"digest": digest(values)}


def told(rows: int, start: float, cpu: float) -> dict[str, object]:
    """What is measured so far, from the clocks at the start."""
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    return {"rows": rows, "seconds": seconds, "cpu": used, "peak": peak()}


def in_pandas(feature: Feature, frame: pd.DataFrame) -> np.ndarray:
    if isinstance(feature, CalendarPart):
        return getattr(frame[feature.column].dt, feature.part).to_numpy(np.float32)
    if isinstance(feature, Category):
        return frame[feature.column].astype("category").cat.codes.to_numpy(np.float32)
    if isinstance(feature, HistoricalRate):
        seen = frame.groupby(feature.column)["label"].agg(["sum", "count"])
        prior = feature.strength * frame["label"].mean()
        rates = (seen["sum"] + prior) / (seen["count"] + feature.strength)
        return frame[feature.column].map(rates).to_numpy(np.float32)
    assert isinstance(feature, Numeric)
    return frame[feature.column].to_numpy(np.float32)


def digest(values: np.ndarray) -> str:
    """Of the matrix, NaN in one form."""
    found = sha256()
    for start in range(0, len(values), 100_000):
        part = values[start : start + 100_000]
        found.update(np.where(np.isnan(part), np.float32(np.nan), part).tobytes())
    return found.hexdigest()


def peak() -> int:
    """The most memory this process ever had, bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


STEPS = {"ingest": run_ingest, "features, streamed": run_stream, "features, pandas": run_pandas}


def in_new_process(step: str, folder: Path, size: Size) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.bench.bench_data_path", "--step", step]
    command += ["--folder", str(folder), "--years", str(size.years), "--wide", str(size.copies)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: Size, first: dict[str, dict], limit: int, say: partial) -> None:
    """All steps at one size; `first` holds those of the first size."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as name:
        folder, found = Path(name), {}
        write_source(folder / "source")
        for step in STEPS:
            before = first.get(step)
            if step == "features, pandas" and before:
                factor = found["ingest"]["rows"] / first["ingest"]["rows"]
                need = factor * before["peak"]
                if need > limit * GIB:
                    say(size, step, None, f"skipped: up to {need / GIB:.0f} GiB at this size")
                    continue
            found[step] = in_new_process(step, folder, size)
            ratio = found[step]["peak"] / first.setdefault(step, found[step])["peak"]
            say(size, step, found[step], f"{ratio:.2f}")
    if "features, pandas" in found:
        assert found["features, streamed"]["digest"] == found["features, pandas"]["digest"]


def show(console: Console, size: Size, step: str, found: dict | None, note: str) -> None:
    what = f"{size.years:2d} x the year" + (f", {size.copies} x the rows" * (size.copies > 1))
    line = f"{what:29} {step:20}"
    if found:
        speed = found["rows"] / found["seconds"]
        line += f"{found['rows']:12,} {found['seconds']:8.1f} {found['cpu']:8.1f} {speed:8,.0f}"
        line += f"{found['peak'] / 2**20:11,.0f}"
    console.print(f"{line} {note:>8}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="ingest and feature building at several sizes")
    parser.add_argument("--years", type=int, nargs="+", default=[1, 10, 30])
    parser.add_argument("--wide", type=int, default=10, help="times the rows; 1: leave it out")
    parser.add_argument("--limit", type=int, default=16, help="GiB that the peer may need")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step](given.folder, Size(given.years[0], given.wide))))
        return
    console = Console(width=110)
    head = f"{'size':29} {'step':20}{'rows':>12} {'seconds':>8} {'CPU s':>8} {'rows/s':>8}"
    console.print(f"{head}{'peak MiB':>11} {'to first':>8}")
    sizes = [Size(years, 1) for years in given.years]
    sizes += [Size(given.years[0], given.wide)] * (given.wide > 1)
    first: dict[str, dict] = {}
    for size in sizes:
        measure(size, first, given.limit, partial(show, console))


if __name__ == "__main__":
    main()
