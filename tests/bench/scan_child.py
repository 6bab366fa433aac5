"""One scan in a process of its own, for `bench_scan`; it imports only what it times."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def memory(name: str) -> int:
    """A line of this process's status, KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def both(reference: np.ndarray, window: np.ndarray, folder: Path, periods: int) -> Callable:
    from data import drift
    from data.reference import build
    from data.task import BINARY

    names = [f"c{i}" for i in range(reference.shape[1])]
    period = np.sort(np.arange(len(reference)) % periods).astype(str)
    scores = np.linspace(0, 1, len(reference), dtype=np.float32)

    def scan() -> None:
        known = build(names, reference, scores, period, 10, BINARY)
        drift.compare(known, window, scores, 1)
        (folder / "reference.json").write_text(json.dumps(known.to_json()))

    return scan


def ours(window: np.ndarray, folder: Path) -> Callable:
    from data import drift
    from data.reference import Reference

    known = Reference.from_json(json.loads((folder / "reference.json").read_text()))
    scores = np.linspace(0, 1, len(window), dtype=np.float32)
    return lambda: drift.compare(known, window, scores, 1)


def evidently(reference: np.ndarray, window: np.ndarray) -> Callable:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [f"c{i}" for i in range(reference.shape[1])]
    frames = [pd.DataFrame(table, columns=names) for table in (window, reference)]
    return lambda: Report([DataDriftPreset()]).run(*frames).dict()


def main() -> None:
    what, folder, periods = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    window = np.load(folder / "window.npy")
    if what == "ours":
        scan = ours(window, folder)
    else:
        reference = np.load(folder / "reference.npy")
        given = (reference, window)
        scan = evidently(*given) if what == "evidently" else both(*given, folder, periods)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = memory("VmRSS"), time.process_time()
    scan()
    seconds = time.process_time() - began
    extra = (memory("VmHWM") - before) / 1024
    print(json.dumps({"seconds": seconds, "mebibytes": extra}))


if __name__ == "__main__":
    main()
