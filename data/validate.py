"""Is the data that a training run would read whole and within its contract?"""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from data import contracts, windows
from data.digests import canonical_json, write_atomically
from data.errors import stop_on_error
from data.labels import known
from data.params import Train, load_params
from data.partitions import Partitions
from data.periods import parse_as_of
from data.problem import Problem, load_problem


def validate(
    problem: Problem, partitions: Partitions, params: Train, as_of: datetime
) -> dict[str, Any]:
    """Check every partition of the windows at `as_of`; what they hold, with their sha256.

    Raises:
        EvergreenError: naming the partition that is missing, damaged or out of contract.
    """
    chosen = windows.select(partitions, problem, as_of, params)
    schema = contracts.rows_schema(problem.fields, problem.row_rules)
    counts = {}
    for period in chosen.periods:
        rows = contracts.check(schema, partitions.rows(period), f"partition {period}")
        labels = known(partitions.labels(period), as_of)
        labels = contracts.check(contracts.LABELS, labels, f"labels of {period}")
        counts[period.name] = {
            "rows": len(rows),
            "labelled": int(labels["label"].notna().sum()),
            "excluded": int(labels["excluded"].notna().sum()),
        }
    return {"files": partitions.fingerprint(chosen.periods), "periods": counts}


def main() -> None:
    """The DVC stage: validate the windows of params.yaml's `train.as_of`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem = load_problem(params.problem)
    as_of = parse_as_of(params.train.as_of, problem.label_delay)
    found = validate(problem, Partitions(arguments.raw), params.train, as_of)
    write_atomically(arguments.out, canonical_json(found))
    rows = sum(count["labelled"] for count in found["periods"].values())
    print(f"{len(found['periods'])} periods with {rows} labelled rows are whole and in contract")


if __name__ == "__main__":
    stop_on_error(main)
