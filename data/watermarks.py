"""How far the labels of a period have come: the watermark, its coverage, what is missing."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

import pandas as pd

from data.contracts import KEY
from data.labels import Coverage, coverage, coverage_of, known
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.quarantine import WAITING, Quarantine

COMPLETE, PARTIAL, NONE = "complete", "partial", "none"


@dataclass(frozen=True)
class Watermark:
    """What is known of a period's labels at a moment.

    Attributes:
        as_of: the moment; None for everything that has arrived.
        corrected: labels that replaced an earlier one.
        coverage: labels among the events that can have one; 1 if none can.
        matured_until: every event before it has its label, or a reason for none.
        quarantined: rows that wait in quarantine; they are no events of the partition yet.
    """

    period: str
    as_of: datetime | None
    rows: int
    labelled: int
    excluded: int
    missing: int
    corrected: int
    coverage: float
    matured_until: datetime
    quarantined: int
    state: str
    reason: str


def watermark(
    problem: Problem,
    partitions: Partitions,
    quarantine: Quarantine,
    period: Period,
    as_of: datetime | None = None,
) -> Watermark:
    """The watermark of an ingested period.

    Raises:
        EvergreenError: if one of its files is lost or damaged.
    """
    events = partitions.rows(period).set_index(KEY)[problem.event_time]
    labels = pd.DataFrame({KEY: []})
    found = Coverage(len(events), 0, 0, 0)
    if partitions.has_labels(period):
        history = partitions.labels(period)
        labels, found = known(history, as_of), coverage(history, len(events), as_of)
    unlabelled = events[~events.index.isin(labels[KEY])]
    state, reason = _state(found, period)
    return Watermark(
        period=period.name,
        as_of=as_of,
        rows=found.rows,
        labelled=found.labelled,
        excluded=found.excluded,
        missing=found.missing,
        corrected=found.corrected,
        coverage=found.share,
        matured_until=unlabelled.min().to_pydatetime() if len(unlabelled) else period.end,
        quarantined=len(quarantine.rows(period, WAITING)),
        state=state,
        reason=reason,
    )


def _state(found: Coverage, period: Period) -> tuple[str, str]:
    if not found.missing:
        return COMPLETE, "every event has its label, or a reason for none"
    mend = f"`evergreen ingest {period} --what labels --from FILE`"
    if found.missing == found.rows:
        return NONE, f"no label yet: {mend}"
    return PARTIAL, f"{found.missing} labels are missing: {mend}"


def total(partitions: Partitions, periods: Iterable[Period], as_of: datetime | None) -> Coverage:
    """The coverage of several periods together."""
    parts = [coverage_of(partitions, period, as_of) for period in periods]
    return Coverage(*(sum(column) for column in zip(*map(astuple, parts), strict=True)))
