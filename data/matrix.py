"""The feature matrix of many periods, built in two passes that hold one period at a time.

The first pass counts what the features learn from; the second transforms and appends to a file.
What stays in memory does not grow with the rows: for each period, how often each category occurs.
The unit is the period, as it is for ingest.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np

from data import features, windows
from data.errors import EvergreenError
from data.features import Counts, Feature
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem

BATCH = 2**17  # rows
Part = tuple[np.ndarray, np.ndarray]


class Learned(Protocol):
    """What a model learns from, wherever the rows are: in order of period, then of event time."""

    @property
    def label(self) -> np.ndarray:
        """Each row's label, see `data.task`, shape (n,)."""

    def __len__(self) -> int: ...

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of at most `limit` rows, evenly spaced; of all if they are fewer."""

    def whole(self) -> "Matrix":
        """All rows in one file here."""

    def sums(self) -> list[str]:
        """What tells these rows from others, as sha256."""


@dataclass(frozen=True)
class Matrix:
    """Rows in a file that is mapped: it needs no memory of its own and is gone with the array.

    Attributes:
        values: features, shape (n, features), float32.
        label: see `data.task`, shape (n,).
        rows: period -> how many of the rows are its own, in their order.
        pages: the file as it is mapped.
    """

    values: np.ndarray
    label: np.ndarray
    rows: Mapping[str, int]
    pages: mmap.mmap

    def __len__(self) -> int:
        return len(self.label)

    @property
    def periods(self) -> dict[str, slice]:
        """Which rows are those of each period."""
        ends = pairwise(accumulate(self.rows.values(), initial=0))
        return {name: slice(*each) for name, each in zip(self.rows, ends, strict=True)}

    def batches(self, size: int) -> Iterator[slice]:
        """Consecutive rows, so many at a time; what the last ones took of memory is given back."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))
            self.release()

    def columns(self) -> Iterator[np.ndarray]:
        """Each feature's values, shape (n,), one feature in memory at a time."""
        for place in range(self.values.shape[1]):
            column = np.empty(len(self), self.values.dtype)
            for some in self.batches(BATCH):
                column[some] = self.values[some, place]
            yield column

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        if len(self) <= limit:
            return self.values, self.label
        every = slice(None, None, stride(len(self), limit))
        return np.ascontiguousarray(self.values[every]), self.label[every]

    def whole(self) -> "Matrix":
        return self

    def sums(self) -> list[str]:
        return [sha256(array.data).hexdigest() for array in (self.values, self.label)]

    def release(self) -> None:
        """Forget the pages that were read: the file has them still."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)


def stride(rows: int, limit: int) -> int:
    """How far apart rows are of which at most `limit` are taken."""
    return -(-rows // limit)


@dataclass(frozen=True)
class Past:
    """Labelled rows of some periods as known at `as_of`: counted, and read again to transform.

    Attributes:
        counts: period -> what its labelled rows count to, in order; one without any is left out.
        missing: rows whose label had not arrived.
    """

    problem: Problem
    partitions: Partitions
    as_of: datetime
    counts: Mapping[Period, Counts]
    missing: int

    def __len__(self) -> int:
        return sum(counts.total for counts in self.counts.values())

    @property
    def periods(self) -> list[Period]:
        return list(self.counts)

    def fit(self, periods: Iterable[Period] | None = None) -> tuple[Feature, ...]:
        """The problem's features fitted on these periods; default: all."""
        chosen = self.periods if periods is None else periods
        counts = features.merge(self.counts[period] for period in chosen)
        return features.fit_counts(self.problem.features, counts)

    def matrix(
        self, fitted: tuple[Feature, ...], periods: Iterable[Period] | None = None
    ) -> Matrix:
        """The rows of these periods as fitted features; default: all.

        Raises:
            EvergreenError: if a partition changed after it was counted.
        """
        chosen = sorted(self.periods if periods is None else periods)
        return self.assembled(chosen, (self.part(fitted, period) for period in chosen), len(fitted))

    def part(self, fitted: tuple[Feature, ...], period: Period) -> Part:
        """Features and labels of one period's rows.

        Raises:
            EvergreenError: if its partition changed after it was counted.
        """
        rows = self.counts[period].total
        return part(self.problem, self.partitions, self.as_of, fitted, period, rows)

    def assembled(self, periods: Sequence[Period], parts: Iterable[Part], width: int) -> Matrix:
        """The parts of these periods, as they come, in a file."""
        rows = {period.name: self.counts[period].total for period in periods}
        label = np.empty(sum(rows.values()), dtype=self.problem.task.dtype)
        start = 0
        with tempfile.TemporaryFile(prefix="evergreen-matrix-") as file:
            for values, own in parts:
                file.write(values.data)
                label[start : start + len(own)] = own
                start += len(own)
            file.flush()
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = np.frombuffer(pages, np.float32).reshape(start, width)
        return Matrix(found, label, rows, pages)


def part(
    problem: Problem,
    partitions: Partitions,
    as_of: datetime,
    fitted: tuple[Feature, ...],
    period: Period,
    expected: int,
) -> Part:
    """Features and labels of a period that was counted to `expected` rows, see `Past.part`."""
    (rows,) = windows.stream(partitions, problem, [period], as_of)
    if len(rows) != expected:
        raise EvergreenError(
            f"partition {period} had {expected} labelled rows, now {len(rows)}: it "
            "changed while it was read; train again"
        )
    return features.transform(fitted, rows.columns), rows.label


def count(
    problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
) -> Past:
    """The first pass: what the labelled rows of these periods count to."""
    chosen = sorted(periods)
    found = ((period, *counted(problem, partitions, period, as_of)[:2]) for period in chosen)
    return gathered(problem, partitions, as_of, found)


def counted(
    problem: Problem, partitions: Partitions, period: Period, as_of: datetime
) -> tuple[Counts, int, np.ndarray]:
    """One period's counts, how many of its labels are missing, and the labels of the others."""
    (found,) = windows.stream(partitions, problem, [period], as_of)
    counts = features.count(problem.features, found.columns, found.label)
    return counts, found.missing, found.label


def gathered(
    problem: Problem,
    partitions: Partitions,
    as_of: datetime,
    found: Iterable[tuple[Period, Counts, int]],
) -> Past:
    """The counts of each period, in order, as one past."""
    counts, missing = {}, 0
    for period, own, absent in found:
        missing += absent
        if own.total:
            counts[period] = own
    return Past(problem, partitions, as_of, counts, missing)
