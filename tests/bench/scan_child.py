"""One scan in a process of its own, for `bench_scan`; it imports only what it times."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def memory(name: str) -> int:
    """A line of this process's status, KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def both(reference: np.ndarray, window: np.ndarray, folder: Path, periods: int) -> Callable:
    from dataclasses import replace

    from data import field_history
    from data.fields import Field
    from data.reference import build
    from data.relations import Gathered
    from data.task import BINARY

    look = compare()
    names = [f"c{i}" for i in range(reference.shape[1])]
    period = np.sort(np.arange(len(reference)) % periods).astype(str)
    scores = np.linspace(0, 1, len(reference), dtype=np.float32)

    def scan() -> None:
        known = build(names, reference, scores, period, 10, BINARY)
        fields = [Field(name, "number", "") for name in names]
        together, parts = Gathered(fields), np.array_split(reference, periods)
        raw = (dict(zip(names, part.T, strict=True)) for part in parts)
        history = field_history.build(fields, together.through(raw))
        known = replace(known, fields=history, relations=together.relations())
        look(known, window, scores)
        (folder / "reference.json").write_text(json.dumps(known.to_json()))

    return scan


def ours(window: np.ndarray, folder: Path) -> Callable:
    from data.reference import Reference

    known = Reference.from_json(json.loads((folder / "reference.json").read_text()))
    scores = np.linspace(0, 1, len(window), dtype=np.float32)
    look = compare()
    return lambda: look(known, window, scores)


def compare() -> Callable:
    """Everything that is said of a period before its labels come."""
    from data import drift
    from data.params import load_params
    from data.soundness import contract

    limits = load_params(Path(__file__).parents[2] / "params.yaml").monitor

    def scan(known: Any, window: np.ndarray, scores: np.ndarray) -> None:
        columns = dict(zip([field.name for field in known.fields], window.T, strict=True))
        drift.compare(known, window, scores, 1)
        contract(known, columns, len(window), None, limits)

    return scan


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
