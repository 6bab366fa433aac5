"""A period scanned for drift and broken data, beside Evidently: `python -m tests.bench.bench_scan`

Both see the same 20 columns of 10 thousand, 100 thousand and 1 million rows, each in a process of
its own that first loads the rows and imports what it needs; then CPU seconds and the peak of memory
beyond what was there are measured. Ours is asked twice: with the profile that a model has anyway,
and with the profile built first, which is Evidently's task. Nothing timed is asserted.

Evidently is not in the lock. Give it an environment of its own:

    python3 -m venv /tmp/evidently && /tmp/evidently/bin/pip install evidently
    python -m tests.bench.bench_scan --evidently-python /tmp/evidently/bin/python
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

SIZES = (10_000, 100_000, 1_000_000)
COLUMNS, PERIODS = 20, 12
CHILD = Path(__file__).with_name("scan_child.py")
ROOT = Path(__file__).parents[2]


def write(folder: Path, rows: int) -> None:
    """A reference and a window of as many rows: numbers, whole numbers, and some missing.

    All of them go together, so that there is something to tell of that, too.
    """
    random = np.random.default_rng(20130101)
    for name, shift in (("reference", 0.0), ("window", 0.1)):
        table = random.normal(shift, 0.4, (rows, COLUMNS)) + random.normal(0, 0.9, (rows, 1))
        table[:, ::4] = np.round(table[:, ::4] * 5)
        table[random.random(rows) < 0.05, 1::4] = np.nan
        np.save(folder / f"{name}.npy", table.astype(np.float32))


def measure(python: str, what: str, folder: Path) -> tuple[float, float]:
    """CPU seconds and MiB beyond what was there, of one scan in a process of its own."""
    done = subprocess.run(
        [python, str(CHILD), what, str(folder), str(PERIODS)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["seconds"], found["mebibytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evidently-python", help="of an environment that has Evidently")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    arguments = parser.parse_args()
    table = Table("rows", "scan", "CPU s", "extra MiB", "times the CPU", "times the memory")
    for rows in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), rows)
            built = measure(sys.executable, "both", Path(name))  # leaves the profile there
            found = {"ours": measure(sys.executable, "ours", Path(name))}
            found["ours, profile built first"] = built
            if arguments.evidently_python:
                python = arguments.evidently_python
                found["Evidently"] = measure(python, "evidently", Path(name))
        own = found["ours"]
        for what, (seconds, mebibytes) in found.items():
            ratios = (seconds / own[0], mebibytes / max(own[1], 0.1))
            table.add_row(
                f"{rows:,}", what, f"{seconds:.3f}", f"{mebibytes:.1f}",
                *(f"{ratio:.1f}" for ratio in ratios),
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
