"""The feature matrix of many periods, built in two passes that hold one period at a time.

The first pass counts what the features learn from; the second transforms and appends to a file.
What stays in memory does not grow with the rows: for each period, how often each category occurs.
The unit is the period, as it is for ingest.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from data import features, windows
from data.errors import EvergreenError
from data.features import Counts, Feature
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem


@dataclass(frozen=True)
class Matrix:
    """What a model learns from: rows in order of their period, then of event time.

    Attributes:
        values: features, shape (n, features), float32; mapped from a file that needs no memory of
            its own and is gone with the array.
        label: see `data.task`, shape (n,).
        period: each row's period, shape (n,).
    """

    values: np.ndarray
    label: np.ndarray
    period: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


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
        rows = [self.counts[period].total for period in chosen]
        label = np.empty(sum(rows), dtype=self.problem.task.dtype)
        names = np.array([period.name for period in chosen], dtype=object)
        parts = windows.stream(self.partitions, self.problem, chosen, self.as_of)
        start = 0
        with tempfile.TemporaryFile(prefix="evergreen-matrix-") as file:
            for period, expected, part in zip(chosen, rows, parts, strict=True):
                if len(part) != expected:
                    raise EvergreenError(
                        f"partition {period} had {expected} labelled rows, now {len(part)}: it "
                        "changed while it was read; train again"
                    )
                file.write(features.transform(fitted, part.columns).data)
                label[start : start + expected] = part.label
                start += expected
            file.flush()
            shape = (start, len(fitted))
            values = np.memmap(file, np.float32, "r", shape=shape)
        return Matrix(np.asarray(values), label, np.repeat(names, rows))


def count(
    problem: Problem, partitions: Partitions, periods: Iterable[Period], as_of: datetime
) -> Past:
    """The first pass: what the labelled rows of these periods count to."""
    counts, missing = {}, 0
    for period in sorted(periods):
        (part,) = windows.stream(partitions, problem, [period], as_of)
        missing += part.missing
        if len(part):
            counts[period] = features.count(problem.features, part.columns, part.label)
    return Past(problem, partitions, as_of, counts, missing)
