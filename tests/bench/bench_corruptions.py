"""How many corruptions are refused by their right name: `python -m tests.bench.bench_corruptions`.

Each of `tests.corruptions` on real weeks of every season, with the weeks before as the reference.
"""

import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data.admission import Terms, admit, examine
from data.errors import RefusedError
from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import Contract
from data.partitions import Partitions
from data.periods import Period
from tests.corruptions import FIELDS, SOURCE, Change

WEEKS = ("2013-W05", "2013-W11", "2013-W18", "2013-W26", "2013-W33", "2013-W42", "2013-W49")


@dataclass(frozen=True)
class Before(Partitions):
    """The partitions before a week: the reference of a week that comes in order."""

    week: Period = field(compare=False)

    def periods(self) -> list[Period]:
        return [period for period in super().periods() if period < self.week]


def year(folder: Path) -> Partitions:
    partitions = Partitions(folder)
    for name in PROBLEM.periods():
        ingest(PROBLEM, partitions, Period.parse(name), deliver(PROBLEM, Period.parse(name)))
    return partitions


def judge(folder: Path, week: Period, change: Change, source: bool) -> str:
    """What the door says; empty if the week is accepted with every row."""
    batch = deliver(PROBLEM, week)
    batch = change(batch if source else PROBLEM.prepare(batch))
    try:
        delivered = examine(PROBLEM, week, batch, "the batch")
        admit(PROBLEM, Before(folder, week), delivered, Terms(Contract()), False)
    except RefusedError as error:
        return str(error)
    return (
        f"{len(set(delivered.sifted.broken['row']))} rows" if len(delivered.sifted.broken) else ""
    )


def main(weeks: tuple[str, ...] = WEEKS) -> None:
    table = Table("corruption", "expected", "refused", "right name", "otherwise")
    with tempfile.TemporaryDirectory() as name:
        folder = year(Path(name)).folder
        for source, corruptions in ((False, FIELDS), (True, SOURCE)):
            for what, (expected, change) in corruptions.items():
                said = {w: judge(folder, Period.parse(w), change, source) for w in weeks}
                right = [w for w in weeks if _right(expected, said[w])]
                wrong = next((f"{w}: {said[w][22:150]}" for w in weeks if w not in right), "")
                table.add_row(
                    ("table: " if source else "") + what, expected or "accepted",
                    f"{sum('refused' in s for s in said.values())}/{len(weeks)}",
                    f"{len(right)}/{len(weeks)}", wrong,
                )  # fmt: skip
    Console(width=220).print(table)


def _right(expected: str | None, said: str) -> bool:
    return said == "" if expected is None else bool(re.search(f"({expected}):", said))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or WEEKS)
