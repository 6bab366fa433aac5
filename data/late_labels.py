"""A delivery of labels, held against those of the partition and of its quarantine."""

from dataclasses import dataclass

import pandas as pd

from data import held_labels
from data.contracts import KEY
from data.errors import RefusedError
from data.labels import LABELLED_AT, addition, known, labelled, mend, told
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.quarantine import RELEASED, Quarantine
from data.task import Task


@dataclass(frozen=True)
class Told:
    """What a delivery adds to the labels of a period.

    Attributes:
        appends: new files of the partition.
        held: labels that wait with quarantined rows.
        after: the newest label of each event of the partition.
    """

    appends: list[pd.DataFrame]
    held: pd.DataFrame
    corrected: int
    after: pd.DataFrame

    def write(self, partitions: Partitions, quarantine: Quarantine, period: Period) -> list[str]:
        """Append what is new; call it under the partitions' lock."""
        for append in self.appends:
            partitions.write(period, append, partitions.next_append(period))
        held_labels.add(quarantine, period, self.held)
        return ["labels"] if self.appends else []


def tell(
    problem: Problem,
    partitions: Partitions,
    quarantine: Quarantine,
    rows: pd.DataFrame,
    outcomes: pd.DataFrame,
    period: Period,
    what: str,
) -> Told:
    """Hold a delivery's labels against those that are there, of these rows and in quarantine."""
    dated, lines = LABELLED_AT in outcomes, quarantine.rows(period)
    whole = labelled(problem, rows, outcomes, what)
    mend(partitions, period, whole)
    history = partitions.labels(period) if partitions.has_labels(period) else None
    added = addition(history, whole, dated=dated, what=what)
    after, mine = added.after, lines[KEY].isin(rows[KEY])
    left = lines[(lines["state"] == RELEASED) & mine & ~lines[KEY].isin(after[KEY])]
    released = held_labels.appends(problem, rows, left, what)
    lines = lines[~mine]
    waiting = outcomes[outcomes[KEY].isin(lines[KEY].dropna())].drop_duplicates(KEY)
    held = held_labels.addition(lines, waiting, dated=dated, what=what)
    appends = [append for append in (added.new, *released) if len(append)]
    after = known(pd.concat([after, *released], ignore_index=True))
    return Told(appends, held.new, added.corrected + held.corrected, after)


def check_keys(other: set[str], period: Period, what: str) -> None:
    """Labels belong to the events of the partition or of quarantine."""
    if other:
        raise RefusedError(
            f"{what}: {len(other)} of its labels belong to no event of partition {period} or of "
            f"its quarantine, such as {min(map(str, other))!r}: ingest its rows first, or leave "
            "them out"
        )


def only_labels(task: Task, batch: pd.DataFrame, unwanted: bool, what: str) -> pd.DataFrame:
    """The labels of a batch that holds nothing else."""
    if unwanted:
        raise RefusedError(f"{what} has labels only, but its rows are asked for: --what labels")
    if (bad := batch[KEY].isna() | batch[KEY].duplicated()).any():
        row = int(bad.to_numpy().argmax())
        raise RefusedError(
            f"{what}: the key of row {row} ({batch[KEY].iloc[row]!r}) is missing or there twice: "
            "deliver one label for each event, a correction in a batch of its own"
        )
    return told(task, batch, batch.get(LABELLED_AT), what)
