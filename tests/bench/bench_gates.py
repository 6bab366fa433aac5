"""Bad models before the gates, and retrains that are as good: `python -m tests.bench.bench_gates`.

Every other bad model is judged against the good one as champion, the rest with no champion at all.
The alias `challenger` follows `GateReport.passed`. Of the retrains, the share that is refused comes
with its Wilson interval.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data import flights
from data.errors import EvergreenError
from data.ingest import ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period, span
from models.gates import GateReport
from tests import planted
from tests.bad_contracts import (
    CONTRACTS,
    FAINT,
    FAMILIES,
    FEWER_DAYS,
    RETRAINS,
    Family,
    contract,
    same_quality,
)
from tests.bad_models import World
from tests.conftest import planted_params

ROOT = Path(__file__).parents[2]
CONSOLE = Console(width=150)


def world(name: str, raw: Path) -> World:
    """The good model of a moment, and what it was trained on."""
    planted_one = name == "planted"
    problem = planted.PROBLEM if planted_one else flights.PROBLEM
    params = planted_params() if planted_one else load_params(ROOT / "params.yaml")
    first, last = ("2024-W01", "2024-W08") if planted_one else ("2013-W01", "2013-W09")
    partitions = Partitions(raw)
    for period in span(Period.parse(first), Period.parse(last)):
        if period not in partitions.periods():
            ingest(problem, partitions, period, problem.read(period))
    return World.of(problem, partitions, params, last)


def blocked_by(report: GateReport) -> list[str]:
    return [verdict.name for verdict in report.verdicts if verdict.blocks]


def bad(one: World, families: Mapping[str, Family], seeds: int, only: str) -> int:
    """Judge every bad model of these families; how many would have got the alias."""
    table = Table("family", "strength", "judged", "promoted", "blocked by")
    total = promoted = 0
    for name, family in families.items():
        for strength in family.strengths:
            if only in name:
                found = []
                for seed in range(seeds):
                    try:
                        made = family.make(one, strength, seed)
                    except EvergreenError as refusal:
                        CONSOLE.print(f"no artefact of {name} {strength}: {refusal}")
                        continue
                    where, artefact = made if isinstance(made, tuple) else (one, made)
                    champion = one.good if where is one and seed % 2 else None
                    found.append(where.judge(artefact, champion))
                    shutil.rmtree(artefact.folder)
                total, promoted = _row(table, name, strength, found, total, promoted)
    for name, change in CONTRACTS.items() if families is FAMILIES else ():
        if only in name:
            found = _contract(one, change)
            total, promoted = _row(table, name, "", found, total, promoted)
    CONSOLE.print(table)
    CONSOLE.print(f"{total} judgements of bad models, {promoted} of them promoted")
    return promoted


def _contract(one: World, change) -> list[GateReport]:
    artefact = contract(one, change)
    return [one.judge(artefact, champion) for champion in (None, one.good)]


def _row(table, name, strength, found, total, promoted) -> tuple[int, int]:
    for report in found:
        _keep({"kind": "bad", "family": name, "strength": strength}, report)
    passed = sum(report.passed for report in found)
    why = Counter(gate for report in found for gate in blocked_by(report))
    said = ", ".join(f"{gate} {count}" for gate, count in why.most_common(5))
    table.add_row(name, str(strength), str(len(found)), str(passed), said)
    if passed:
        CONSOLE.print(f"PROMOTED {passed} of {len(found)}: {name} {strength}; {said}")
    return total + len(found), promoted + passed


def _keep(what: dict[str, object], report: GateReport) -> None:
    """Append the report to the file that the environment names, to look at values."""
    if path := os.environ.get("EVERGREEN_BENCH_REPORTS"):
        with Path(path).open("a") as file:
            file.write(json.dumps({**what, **report.to_json()}) + "\n")


def retrains(one: World, kinds: Sequence[str], first: int, count: int) -> float:
    """Judge retrains of the same quality against the good model; the share that is refused."""
    why: Counter[str] = Counter()
    refused = 0
    for number in range(first, first + count):
        kind = kinds[number % len(kinds)]
        artefact = same_quality(one, kind, 1000 + number)
        report = one.judge(artefact, one.good)
        _keep({"kind": kind}, report)
        shutil.rmtree(artefact.folder)
        refused += not report.passed
        why.update(f"{kind}: {gate}" for gate in blocked_by(report))
        if not report.passed:
            CONSOLE.print(f"refused {kind} {number}: {report.reason}")
    low, high = wilson(refused, count)
    CONSOLE.print(f"{count} retrains, {refused} refused ({low:.1%} to {high:.1%}): {dict(why)}")
    return refused / count


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--problem", choices=["planted", "flights"], default="planted")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retrains", type=int, default=102)
    known = [*RETRAINS, FEWER_DAYS]
    parser.add_argument("--kinds", nargs="+", choices=known, default=RETRAINS, help="of retrains")
    parser.add_argument("--first", type=int, default=0, help="retrain; to share them out")
    parser.add_argument("--only", default="", help="families whose name contains this")
    parser.add_argument("--faint", action="store_true", help="faults that may be too small to see")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one = world(arguments.problem, Path(folder))
        CONSOLE.print(f"the good model: {one.judge(one.good).reason}")
        if arguments.retrains:
            retrains(one, arguments.kinds, arguments.first, arguments.retrains)
        if arguments.seeds:
            families = FAINT if arguments.faint else FAMILIES
            bad(one, families, arguments.seeds, arguments.only)


if __name__ == "__main__":
    main()
