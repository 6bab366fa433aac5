"""Labels arrive late, in appends, and may be corrected: what was known when, and what is missing.

A period's labels are `<period>.labels.parquet` and the appends after it, none of which ever
changes. A correction is a row of the same key with another outcome and a later `labelled_at`; at
any moment the newest row that was known then counts.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from data.contracts import KEY, check
from data.contracts import LABELS as SCHEMA
from data.errors import EvergreenError, RefusedError
from data.partitions import Partitions, append, to_bytes
from data.periods import Period
from data.problem import Problem
from data.task import Task

LABELLED_AT = "labelled_at"
OUTCOME = ["label", "excluded"]
COLUMNS = [KEY, *OUTCOME, LABELLED_AT]


@dataclass(frozen=True)
class Addition:
    """What a delivery adds to the labels that are there.

    Attributes:
        new: rows of the next append, in the form of a labels partition; empty if all are known.
        corrected: how many of them correct a label.
        after: one row for each key: the newest of all.
    """

    new: pd.DataFrame
    corrected: int
    after: pd.DataFrame


@dataclass(frozen=True)
class Coverage:
    """How many events of a period have a label, never get one, or wait for theirs.

    Attributes:
        corrected: labels that replaced an earlier one.
    """

    rows: int
    labelled: int
    excluded: int
    corrected: int

    @property
    def missing(self) -> int:
        return self.rows - self.labelled - self.excluded

    @property
    def share(self) -> float:
        """Labels among the events that can have one; 1 if none can."""
        due = self.labelled + self.missing
        return self.labelled / due if due else 1.0

    def say(self) -> str:
        """Such as `4,800 known, 120 missing (coverage 0.976), 80 excluded, 3 corrected`."""
        return (
            f"{self.labelled:,} known, {self.missing:,} missing (coverage {self.share:.3f}), "
            f"{self.excluded:,} excluded, {self.corrected:,} corrected"
        )


def known(labels: pd.DataFrame, as_of: datetime | None = None) -> pd.DataFrame:
    """One row for each key: its newest label that was known at `as_of`; the newest without it."""
    if as_of is not None:
        labels = labels[labels[LABELLED_AT] <= as_of]
    if labels[KEY].is_unique:
        return labels
    order = labels.sort_values(LABELLED_AT, kind="stable", na_position="first")
    return order.drop_duplicates(KEY, keep="last").sort_index()


def coverage(labels: pd.DataFrame, rows: int, as_of: datetime | None = None) -> Coverage:
    """Count what was known at `as_of` of a period's labels (every append) and its `rows` events."""
    told = labels if as_of is None else labels[labels[LABELLED_AT] <= as_of]
    newest = known(told)
    excluded = int(newest["excluded"].notna().sum())
    return Coverage(rows, len(newest) - excluded, excluded, len(told) - len(newest))


def coverage_of(partitions: Partitions, period: Period, as_of: datetime | None) -> Coverage:
    """The coverage of a partition; without any label all of its rows miss theirs."""
    rows = partitions.count(period)
    if not partitions.has_labels(period):
        return Coverage(rows, 0, 0, 0)
    return coverage(partitions.labels(period), rows, as_of)


def check_coverage(
    partitions: Partitions, period: Period, as_of: datetime, minimum: float
) -> Coverage:
    """The coverage of a period from which a model may learn.

    Raises:
        EvergreenError: if no label has arrived, or too few have matured by `as_of`.
    """
    if not partitions.has_labels(period):
        raise EvergreenError(
            f"no labels of {period} have arrived: run `evergreen ingest {period}` or choose an "
            "earlier as_of"
        )
    found = coverage_of(partitions, period, as_of)
    if found.share < minimum:
        raise EvergreenError(
            f"{period}: {found.labelled} of {found.labelled + found.missing} labels have matured "
            f"by {as_of:%Y-%m-%d %H:%M}: a coverage of {found.share:.3f} with {found.missing} "
            f"missing, where train.minimum_label_coverage is {minimum}; deliver them (`evergreen "
            f"ingest {period} --what labels --from FILE`) or choose an earlier as_of"
        )
    return found


def digests_of(partitions: Partitions, period: Period, as_of: datetime) -> dict[str, str]:
    """sha256 by file of the labels known at `as_of`, numbered as if no others had arrived."""
    manifest, found = partitions.manifest(), list[str]()
    for suffix in partitions.label_suffixes(period):
        told = partitions.read(period, suffix)
        matured = told[told[LABELLED_AT] <= as_of]
        if len(matured) == len(told):
            found.append(manifest[f"{period}{suffix}"]["sha256"])
        elif len(matured):
            found.append(sha256(to_bytes(matured)).hexdigest())
    return {f"{period}{append(turn)}": digest for turn, digest in enumerate(found, 1)}


def alone(batch: pd.DataFrame) -> bool:
    """Whether a batch holds labels and nothing else: key, label, and perhaps why and when."""
    return {KEY, "label"} <= set(batch.columns) <= set(COLUMNS)


def told(task: Task, outcomes: pd.DataFrame, moments: pd.Series | None, what: str) -> pd.DataFrame:
    """Outcomes as delivered, those that say nothing left out.

    Args:
        moments: `labelled_at` of each of them as delivered; None if the batch does not have it.

    Raises:
        RefusedError: naming the row whose label is none of this task, or whose `labelled_at` is no
            timestamp.
    """
    found = outcomes.reset_index(drop=True).reindex(columns=[KEY, *OUTCOME])
    found = found.assign(label=_codes(task, found, what))
    if moments is not None:
        if len(moments) != len(found):
            raise RefusedError(
                f"{what} has {len(moments)} values of {LABELLED_AT} for {len(found)} outcomes: "
                f"deliver {KEY}, label and {LABELLED_AT} as a batch of their own"
            )
        found = found.assign(**{LABELLED_AT: moments.to_numpy()})
    found = found[found["label"].notna() | found["excluded"].notna()]
    if moments is not None:
        found = found.assign(**{LABELLED_AT: _moments(found, what)})
    return found


def _codes(task: Task, found: pd.DataFrame, what: str) -> np.ndarray:
    codes = task.encoded(found["label"].astype(object).where(found["label"].notna(), None))
    wrong = task.wrong(codes)
    if not wrong.any():
        return codes
    row = int(np.flatnonzero(wrong)[0])
    raise RefusedError(
        f"{what}: the label of row {row} ({found[KEY][row]!r}) is {found['label'][row]!r}: "
        f"expected {task.expected}, or nothing where it is not known"
    )


def _moments(found: pd.DataFrame, what: str) -> pd.Series:
    column = found[LABELLED_AT]
    if column.dtype.kind != "M" or hasattr(column.dtype, "tz"):
        column = column.map(_moment)
    column = pd.to_datetime(column).astype("datetime64[us]")
    if wrong := list(column.index[column.isna()]):
        row, key = wrong[0], found.loc[wrong[0], KEY]
        raise RefusedError(
            f"{what}: {LABELLED_AT} of row {row} ({key!r}) is {found.loc[row, LABELLED_AT]!r}: "
            "write a timestamp without zone in the problem's own clock (2013-02-25T12:00)"
        )
    return column


def _moment(cell: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(cell) if isinstance(cell, str) else cell
    except ValueError:
        return None
    return moment if isinstance(moment, datetime) and moment.tzinfo is None else None


def labelled(problem: Problem, rows: pd.DataFrame, found: pd.DataFrame, what: str) -> pd.DataFrame:
    """Outcomes of these rows, in their order, in the form of a labels partition.

    Where `found` does not say when a label became known, it is the event time plus the delay.

    Raises:
        EvergreenError: if they break the contract.
        RefusedError: naming the event whose label would be known before it happens.
    """
    mine = rows[[KEY]].merge(found, on=KEY)
    event = mine[KEY].map(rows.set_index(KEY)[problem.event_time])
    due = event + problem.label_delay
    moment = mine[LABELLED_AT].fillna(due) if LABELLED_AT in mine else due
    mine = check(SCHEMA, mine.assign(**{LABELLED_AT: moment}), f"labels of {what}")
    if (early := mine[LABELLED_AT] < event).any():
        row = int(early.to_numpy().argmax())
        raise RefusedError(
            f"{what}: {LABELLED_AT} of {mine[KEY][row]!r} is {mine[LABELLED_AT][row]}, before its "
            f"event ({event[row]}): correct {LABELLED_AT}"
        )
    return mine


def addition(
    history: pd.DataFrame | None, delivered: pd.DataFrame, *, dated: bool, what: str
) -> Addition:
    """What of a delivery is new; a label that is known already, now or before, is not.

    Args:
        history: every label there is, corrections included; None before the first.
        delivered: labels in the form of a partition, one row for each key.
        dated: whether the delivery itself says when its labels became known.

    Raises:
        RefusedError: if a correction is not dated, or not after the label that it corrects.
    """
    if history is None:
        return Addition(delivered, 0, delivered)
    newest = known(history).set_index(KEY)
    before = newest.reindex(delivered[KEY]).reset_index(drop=True)
    delivered = delivered.reset_index(drop=True)
    here = delivered[KEY].isin(newest.index)
    again = delivered.merge(history.drop_duplicates(COLUMNS), "left", COLUMNS, indicator="found")
    corrects = here & ~_same(delivered, before) & (again["found"] == "left_only")
    early = corrects & (delivered[LABELLED_AT] <= before[LABELLED_AT])
    if (wrong := early if dated else corrects).any():
        row = int(wrong.to_numpy().argmax())
        raise RefusedError(
            f"{what} has another label for {int(wrong.sum())} events than is known, such as "
            f"{delivered[KEY][row]!r} ({_say(before, row)}; now {_say(delivered, row)}): a "
            f"correction carries its own {LABELLED_AT}, later than that of the label before"
        )
    new = delivered[~here | corrects].reset_index(drop=True)
    after = known(pd.concat([history, new], ignore_index=True)) if len(new) else known(history)
    return Addition(new, int(corrects.sum()), after)


def _same(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Whether two frames, row by row, tell the same outcome."""
    same = pd.Series(True, index=a.index)
    for name in OUTCOME:
        x, y = a[name].astype(object), b[name].astype(object)
        same &= (x == y) | (x.isna() & y.isna())
    return same


def _say(labels: pd.DataFrame, row: int) -> str:
    label, excluded = labels["label"][row], labels["excluded"][row]
    return f"{excluded if pd.isna(label) else f'{label:g}'} at {labels[LABELLED_AT][row]}"


def mend(partitions: Partitions, period: Period, delivered: pd.DataFrame) -> None:
    """Restore damaged or lost files of a period's labels whose content is delivered again."""
    suffixes = partitions.label_suffixes(period)
    broken = [suffix for suffix in suffixes if not partitions.is_sound(period, suffix)]
    if not broken:
        return
    others = [partitions.read(period, suffix)[KEY] for suffix in suffixes if suffix not in broken]
    rest = delivered[~delivered[KEY].isin(pd.concat(others))] if others else delivered
    for suffix in broken:
        for content in (delivered, rest.reset_index(drop=True)):
            if partitions.holds(period, content, suffix):
                partitions.write(period, content, suffix)
