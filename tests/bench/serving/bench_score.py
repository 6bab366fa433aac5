"""Batch scoring next to pandas: `python -m tests.bench.serving.bench_score` (`--rows` for fewer).

The default model is trained as in the README, and one file of its weeks, shuffled again and again
under keys of their own, is scored twice, each side in a process of its own: as `evergreen score`
does, and the way it is done by hand, with pandas holding the table and a scikit-learn pipeline
around the same XGBoost model on all cores. Seconds are those of the whole process, imports and
compilation included; peak memory is the kernel's (VmHWM). Both sides must agree to 1e-6. Ten
million rows take a few minutes and 1.5 GB below the temporary folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from data.contracts import KEY

RATE, MEMORY = 2.5, 1 / 15
GROUP = 2**20  # rows; what pandas writes
AGREE = 1e-6


def make_model(folder: Path) -> None:
    """`model/` as `dvc repro` makes it, and the partitions in `raw/`."""
    raw = ["--raw", str(folder / "raw")]
    run("data.ingest", *raw, "--quarantine", str(folder / "quarantine"))
    run("models.train", *raw, "--out", str(folder), "--studies", str(folder / "tune"))


def run(module: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.DEVNULL
    )


def make_input(folder: Path, rows: int) -> None:
    import pandas as pd

    weeks = pd.concat(
        [pd.read_parquet(p) for p in sorted((folder / "raw").glob("*W??.parquet"))],
        ignore_index=True,
    )
    random = np.random.default_rng(1)
    writer, done, held = None, 0, []
    while done < rows:
        some = weeks.take(random.permutation(len(weeks))[: rows - done])
        held.append(some.assign(**{KEY: f"{done}|" + some[KEY]}))
        done += len(some)
        if done == rows or sum(map(len, held)) >= GROUP:
            part = pa.Table.from_pandas(pd.concat(held), preserve_index=False)
            writer = writer or pq.ParquetWriter(folder / "in.parquet", part.schema)
            writer.write_table(part, row_group_size=GROUP)
            held = []
    if writer:
        writer.close()


def by_evergreen(folder: Path) -> None:
    from bento.score import score
    from bento.scorer import Scorer

    score(Scorer.load(folder / "model", "1"), folder / "in.parquet", folder / "evergreen.parquet")


def by_hand(folder: Path) -> None:
    import pandas as pd

    contract = json.loads((folder / "model" / "contract.json").read_text())
    frame = pd.read_parquet(folder / "in.parquet")
    probability = pipeline(folder / "model", contract).predict_proba(frame)[:, 1]
    frame[[KEY]].assign(
        probability=probability, decision=probability >= contract["threshold"]
    ).to_parquet(folder / "hand.parquet", index=False)


def pipeline(model: Path, contract: dict[str, Any]) -> Any:
    """Features as a scikit-learn user writes them, before the artefact's own XGBoost model."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
    from xgboost import XGBClassifier

    def made(feature: dict[str, Any]) -> tuple[str, Any, list[str]]:
        column = [feature["column"]]
        if feature["kind"] == "category":
            known = [np.array(feature["vocabulary"], dtype=object)]
            encoder = OrdinalEncoder(
                categories=known, handle_unknown="use_encoded_value", unknown_value=-1
            )
            return feature["name"], encoder.fit([[known[0][0]]]), column
        return feature["name"], FunctionTransformer(_function(feature)), column

    steps = ColumnTransformer([made(feature) for feature in contract["features"]])
    classifier = XGBClassifier()
    classifier.load_model(model / "model.json")
    one = {f["name"]: [_example(f)] for f in contract["fields"]}
    import pandas as pd

    steps.fit(pd.DataFrame(one))
    return make_pipeline(steps, classifier)


def _example(field: dict[str, Any]) -> Any:
    import pandas as pd

    kinds = {"text": "a", "number": 1.0, "integer": 1, "timestamp": pd.Timestamp(2013, 1, 1)}
    return kinds[field["kind"]]


def _function(feature: dict[str, Any]) -> Any:
    name = feature["column"]
    if feature["kind"] == "calendar":
        return lambda frame: getattr(frame[name].dt, feature["part"]).to_frame()
    if feature["kind"] == "historical_rate":
        rates = dict(feature["rates"])
        return lambda frame: frame[name].map(rates).fillna(feature["overall"]).to_frame()
    return lambda frame: frame[[name]]


SIDES = {"evergreen": by_evergreen, "hand": by_hand}


def measure(folder: Path, side: str) -> dict[str, float]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "tests.bench.serving.bench_score", "--side", side]
    done = subprocess.run(
        [*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    return {"seconds": time.perf_counter() - start, **json.loads(done.stdout.splitlines()[-1])}


def told() -> str:
    """Peak memory and CPU seconds of this process."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return json.dumps({"peak": peak, "cpu": time.process_time()})


def agree(folder: Path) -> float:
    """The largest difference of a probability; keys and decisions are compared, too."""
    ours, theirs = (pq.ParquetFile(folder / f"{side}.parquet") for side in SIDES)
    pairs = zip(ours.iter_batches(GROUP), theirs.iter_batches(GROUP), strict=True)
    gap = 0.0
    for mine, other in pairs:
        assert mine[KEY].to_pylist() == other[KEY].to_pylist()
        gap = max(gap, float(np.abs(mine["probability"].to_numpy() - other["probability"]).max()))
    return gap


def main() -> None:
    parser = argparse.ArgumentParser(description="batch scoring next to pandas")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="keep model, input and outputs there")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        SIDES[given.side](given.folder)
        print(told())
        return
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as name:
        folder = given.folder or Path(name)
        compare(folder, given.rows)


def compare(folder: Path, rows: int) -> None:
    if not (folder / "model").exists():
        make_model(folder)
    if not (folder / "in.parquet").exists():
        make_input(folder, rows)
    rows = pq.read_metadata(folder / "in.parquet").num_rows
    for side in SIDES:
        (folder / f"{side}.parquet").unlink(missing_ok=True)
    found = {side: measure(folder, side) for side in SIDES}
    shown = Table("side", "rows", "seconds", "CPU s", "rows/s", "peak MiB")
    for side, of in found.items():
        speed, peak = rows / of["seconds"], of["peak"] / 2**20
        cells = f"{rows:,}", f"{of['seconds']:.1f}", f"{of['cpu']:.1f}", f"{speed:,.0f}"
        shown.add_row(side, *cells, f"{peak:,.0f}")
    Console(width=100).print(shown)
    ours, theirs = found["evergreen"], found["hand"]
    faster, smaller = theirs["seconds"] / ours["seconds"], theirs["peak"] / ours["peak"]
    print(f"rows/s: {faster:.2f} times (goal {RATE}); peak memory: 1/{smaller:.1f} (goal 1/15)")
    gap = agree(folder)
    print(f"largest difference of a probability: {gap:.1e}")
    assert gap <= AGREE


if __name__ == "__main__":
    main()
