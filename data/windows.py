"""Which past a model learns from and is judged on, as known at `as_of`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from data.contracts import KEY, to_columns
from data.errors import EvergreenError
from data.features import Columns
from data.labels import check_coverage, digests_of, known
from data.params import Train
from data.partitions import LABELS, Partitions, kind_of
from data.periods import Period, span
from data.problem import Problem


@dataclass(frozen=True)
class Windows:
    """Complete periods before `as_of`: all but the last for training, the last held out."""

    as_of: datetime
    train: tuple[Period, ...]
    holdout: tuple[Period, ...]

    @property
    def periods(self) -> list[Period]:
        return [*self.train, *self.holdout]


@dataclass(frozen=True)
class Labelled:
    """Rows whose labels had matured by `as_of`, in order of event time.

    Attributes:
        columns: raw columns, each of shape (n,).
        label: see `data.task`, shape (n,).
        period, day: each row's period and date, shape (n,).
        keys: each row's key, shape (n,).
        missing: rows whose label had not arrived; excluded: rows that never get one.
    """

    columns: Columns
    label: np.ndarray
    period: np.ndarray
    day: np.ndarray
    keys: np.ndarray
    missing: int
    excluded: int

    def __len__(self) -> int:
        return len(self.label)

    def take(self, mask: np.ndarray) -> "Labelled":
        """The rows where `mask` (n,) is true."""
        columns = {name: values[mask] for name, values in self.columns.items()}
        parts = (self.label[mask], self.period[mask], self.day[mask], self.keys[mask])
        return Labelled(columns, *parts, self.missing, self.excluded)

    @property
    def coverage(self) -> float:
        """Share of rows with a label among those that can have one; 0 without rows."""
        return len(self) / max(len(self) + self.missing, 1)


def select(partitions: Partitions, problem: Problem, as_of: datetime, params: Train) -> Windows:
    """The windows for `as_of`.

    Raises:
        EvergreenError: if a period is missing before `as_of`, too few of its labels were known
            then, or fewer than `minimum_periods` are left for training.
    """
    holdout, minimum = params.holdout_periods, params.minimum_periods
    first, last = Period.parse(params.first_period), last_complete(problem, as_of)
    wanted = span(first, last)
    if len(wanted) < minimum + holdout:
        raise EvergreenError(
            f"as_of {as_of:%Y-%m-%d %H:%M} has {len(wanted)} complete periods since {first}; "
            f"{minimum + holdout} are needed ({minimum} to train, {holdout} to hold out): choose a "
            "later as_of"
        )
    known = set(partitions.periods())
    if missing := [period for period in wanted if period not in known]:
        raise EvergreenError(
            f"as_of {as_of:%Y-%m-%d %H:%M} needs every period from {first} to {last}, but "
            f"{_listing(missing)} not been ingested: run `evergreen ingest {missing[0]}`"
            + (f" (and so on to {missing[-1]})" if len(missing) > 1 else "")
        )
    for period in wanted:
        check_coverage(partitions, period, as_of, params.minimum_label_coverage)
    return Windows(as_of, tuple(wanted[:-holdout]), tuple(wanted[-holdout:]))


def last_complete(problem: Problem, as_of: datetime) -> Period:
    """The newest period all of whose labels are due by `as_of`."""
    return Period.of(as_of - problem.label_delay, problem.frequency).previous()


def _listing(periods: list[Period]) -> str:
    names = ", ".join(map(str, periods[:3]))
    if len(periods) > 3:
        return f"{names} and {len(periods) - 3} more have"
    return f"{names} {'has' if len(periods) == 1 else 'have'}"


def fingerprint(partitions: Partitions, periods: list[Period], as_of: datetime) -> dict[str, str]:
    """sha256 by file of what was known of these periods at `as_of`: what a model is trained on.

    A file with labels that arrive later counts as the file that those known so far would make, and
    one with nothing else does not count, so that what comes after `as_of` changes nothing.
    """
    manifest = partitions.fingerprint(periods)
    found = {name: sha256 for name, sha256 in manifest.items() if kind_of(name) != LABELS}
    for period in periods:
        found |= digests_of(partitions, period, as_of)
    return found


def load(
    partitions: Partitions, problem: Problem, periods: list[Period], as_of: datetime
) -> Labelled:
    """Rows of these periods with the labels known at `as_of`, all in memory; see `stream`."""
    return joined(problem, list(stream(partitions, problem, periods, as_of)))


def joined(problem: Problem, parts: Sequence[Labelled]) -> Labelled:
    """Parts one after the other; there must be one."""
    columns = {
        field.name: np.concatenate([part.columns[field.name] for part in parts])
        for field in problem.fields
    }
    return Labelled(
        columns=columns,
        label=np.concatenate([part.label for part in parts]),
        period=np.concatenate([part.period for part in parts]),
        day=np.concatenate([part.day for part in parts]),
        keys=np.concatenate([part.keys for part in parts]),
        missing=sum(part.missing for part in parts),
        excluded=sum(part.excluded for part in parts),
    )


def stream(
    partitions: Partitions, problem: Problem, periods: Iterable[Period], as_of: datetime
) -> Iterator[Labelled]:
    """Rows with the labels known at `as_of`, one period at a time; later ones do not exist yet."""
    for period in sorted(periods):
        rows, labels = partitions.rows(period), partitions.labels(period)
        frame = rows.merge(known(labels, as_of), how="left", on=KEY, validate="1:1")
        frame = frame.sort_values([problem.event_time, KEY], ignore_index=True)
        excluded, labelled = frame["excluded"].notna(), frame["label"].notna()
        rows = frame[labelled]
        yield Labelled(
            columns=to_columns(rows, problem.fields),
            label=rows["label"].to_numpy(dtype=problem.task.dtype),
            period=np.full(len(rows), period.name, dtype=object),
            day=rows[problem.event_time].to_numpy().astype("datetime64[D]"),
            keys=rows[KEY].to_numpy(dtype=object),
            missing=int((~labelled & ~excluded).sum()),
            excluded=int(excluded.sum()),
        )
