"""Where the rows of a training are, beside pandas: `make bench-engines` (`--years 1 10 30 100`).

The whole weeks of 2013 come again and again, moved in time and under keys of their own. Each step
counts, fits the features, makes them and trains XGBoost (`--trees`) on all but the last weeks, in
a process of its own, watched five times a second: `process` is the most that one process has had
in memory, `own` that without pages of files, which the kernel takes back as it likes, and `all`
that of the process with its children. A step that has more than `--cap` GiB is ended, and what it
had is shown. `gap` is the mean difference of its answers to the last weeks from those of the first
step of that size. 10 years need 2 GB below the temporary folder, 100 years 15; all is removed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from sklearn.metrics import roc_auc_score

from data import features, windows
from data.contracts import KEY
from data.digests import MANIFEST, canonical_json, write_atomically
from data.flights import PROBLEM
from data.params import Train
from data.partitions import LABELS, ROWS, Partitions, to_bytes
from data.periods import Period
from models.candidates import CANDIDATES, XGBOOST
from models.engines import Given, opened
from tests.bench.bench_data_path import (
    LATER,
    PARAMS,
    WEEKS,
    YEAR,
    Size,
    in_pandas,
    run_ingest,
    write_source,
)  # fmt: skip

HELD = 4  # weeks
MIB = 2**20
OWN = ("memory", "external", "dask")


@dataclass(frozen=True)
class Watched:
    """The most memory, in MiB, that a process and its children have had."""

    process: float = 0
    own: float = 0
    all: float = 0

    def and_now(self, tree: list[psutil.Process]) -> "Watched":
        found = [each for each in map(_memory, tree) if each]
        if not found:
            return self
        whole, own = [rss for rss, _ in found], [rss - shared for rss, shared in found]
        return Watched(max(self.process, *whole), max(self.own, *own), max(self.all, sum(whole)))


def _memory(process: psutil.Process) -> tuple[float, float] | None:
    try:
        found = process.memory_info()
    except psutil.Error:
        return None
    return found.rss / MIB, found.shared / MIB


def write_raw(one: Partitions, raw: Partitions, years: int) -> None:
    """The partitions of a year, so many times; each file as an ingest would leave it."""
    manifest = {}
    for year in range(years):
        for week in WEEKS:
            moved = Period.of(week.start + year * YEAR, "week")
            for suffix in (ROWS, LABELS):
                frame = one.read(week, suffix)
                for name in frame.select_dtypes("datetime"):
                    frame[name] += pd.Timedelta(year * YEAR)
                frame[KEY] = f"{year}|" + frame[KEY]
                content = to_bytes(frame)
                write_atomically(raw.folder / f"{moved}{suffix}", content)
                manifest[f"{moved}{suffix}"] = {
                    "sha256": sha256(content).hexdigest(), "rows": len(frame), "sketch": [],
                }  # fmt: skip
    write_atomically(raw.folder / MANIFEST, canonical_json(manifest))


def answers(raw: Partitions, step: str, trees: int) -> tuple[np.ndarray, windows.Labelled, int]:
    """To the last weeks, of a model of those before; with how many rows it learned from."""
    weeks, settings = raw.periods(), CANDIDATES[XGBOOST].settings(PARAMS) | {"n_estimators": trees}
    held = windows.load(raw, PROBLEM, weeks[-HELD:], LATER)
    task, seed, chosen = PROBLEM.task, PARAMS.train.seed, weeks[:-HELD]
    if step == "pandas":
        return (*whole(raw, chosen, held, settings),)
    engine_of = PARAMS.train.model_dump() | {"engine": step}
    with opened(Train.model_validate(engine_of)) as engine:
        past = engine.count(PROBLEM, raw, chosen, LATER)
        fitted = past.fit()
        given = Given(task, fitted, engine.rows(past, fitted), settings, seed)
        model = engine.train(XGBOOST, given)
        return model.predict(features.transform(fitted, held.columns)), held, len(past)


def whole(raw: Partitions, chosen: list[Period], held: windows.Labelled, settings) -> tuple:
    """Everything read at once, the features in pandas, and scikit-learn's form of XGBoost."""
    from xgboost import XGBClassifier

    names = [raw.folder / f"{period}" for period in chosen]
    rows = pd.concat([pd.read_parquet(f"{name}.parquet") for name in names])
    labels = pd.concat([pd.read_parquet(f"{name}.labels.parquet") for name in names])
    frame = rows.merge(labels.dropna(subset="label"), on=KEY, validate="1:1")
    frame = frame.sort_values([PROBLEM.event_time, KEY], ignore_index=True)
    values = np.column_stack([in_pandas(feature, frame) for feature in PROBLEM.features])
    options = {"tree_method": "hist", "random_state": PARAMS.train.seed, "n_jobs": 1}
    model = XGBClassifier(**settings, **options).fit(values, frame["label"].astype(np.int8))
    fitted = features.fit_counts(PROBLEM.features, counts_of(frame))
    return model.predict_proba(features.transform(fitted, held.columns))[:, 1], held, len(frame)


def counts_of(frame: pd.DataFrame) -> features.Counts:
    """By pandas, for the features of the weeks that are predicted."""
    learned = (features.Category, features.HistoricalRate)
    names = {spec.column for spec in PROBLEM.features if isinstance(spec, learned)}
    found = {name: frame.groupby(name)["label"].agg(["count", "sum"]) for name in names}
    rows, outcomes = (
        {name: Counter(table[kind].to_dict()) for name, table in found.items()}
        for kind in ("count", "sum")
    )
    return features.Counts(len(frame), frame["label"].sum().item(), rows, outcomes)


def run(folder: Path, step: str, trees: int) -> None:
    """One step, in this process; what it came to lies in `folder`."""
    start = time.perf_counter()
    found, held, rows = answers(Partitions(folder / "raw"), step, trees)
    np.save(folder / f"{step}.npy", found)
    auc = roc_auc_score(held.label, found)
    told = {"rows": rows, "seconds": time.perf_counter() - start, "auc": auc}
    (folder / f"{step}.json").write_text(json.dumps(told))


def watched(command: list[str], cap: float) -> tuple[Watched, float, bool]:
    """The most memory, the CPU seconds, and whether it came to its end."""
    started = psutil.Popen(command)
    most, spent = Watched(), {}
    while started.poll() is None:
        try:
            tree = [started, *started.children(recursive=True)]
            for each in tree:
                spent[each.pid] = sum(each.cpu_times()[:2])
        except psutil.Error:
            continue
        most = most.and_now(tree)
        if most.all > cap * 1024:
            for each in reversed(tree):
                each.kill()
        time.sleep(0.2)
    return most, sum(spent.values()), started.returncode == 0


def measure(folder: Path, years: int, given: argparse.Namespace, console: Console) -> None:
    first: np.ndarray | None = None
    for step in given.steps:
        command = [sys.executable, "-m", "tests.bench.bench_engines", "--step", step]
        command += ["--folder", str(folder), "--trees", str(given.trees)]
        most, cpu, ended = watched(command, given.cap)
        memory = "".join(f"{value:9,.0f}" for value in asdict(most).values())
        line = f"{years:5d} {step:9}"
        if not ended:
            console.print(f"{line}{'ended at the cap, or failed':>37}{cpu:9,.0f}{memory}")
            continue
        told = json.loads((folder / f"{step}.json").read_text())
        found = np.load(folder / f"{step}.npy")
        first = found if first is None else first
        line += f"{told['rows']:13,}{told['seconds']:9,.0f}{cpu:9,.0f}{memory}"
        line += f"{told['auc']:9.4f}{np.abs(found - first).mean():10.5f}"
        console.print(line, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--steps", nargs="+", default=["pandas", *OWN], choices=["pandas", *OWN])
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--cap", type=float, default=16, help="GiB that a step may have in memory")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        return run(given.folder, given.step, given.trees)
    console = Console(width=110)
    console.print(f"years step{'rows':>18}{'seconds':>9}{'CPU s':>9}"
                  f"{'process':>9}{'own':>9}{'all MiB':>9}{'ROC-AUC':>9}{'gap':>10}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as name:
        one = Path(name) / "one"
        one.mkdir()
        write_source(one / "source")
        run_ingest(one, Size(1, 1))
        for years in given.years:
            with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as own:
                write_raw(Partitions(one / "raw"), Partitions(Path(own) / "raw"), years)
                measure(Path(own), years, given, console)


if __name__ == "__main__":
    main()
