"""What both slots did between two moments: their /metrics, the gateway's counters and the log.

Errors and times come from counters, scores from the prediction log; what cannot be read is an
error, for a canary without metrics is not watched.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from bento import predictions, target
from bento import records as log
from bento.canary import Arm
from bento.contract import Contract
from bento.slots import SLOTS, Serving, Slot
from data.errors import EvergreenError
from data.task import Task


@dataclass(frozen=True)
class Counters:
    """A slot's counters at a moment; `started` tells its (oldest) process from the next."""

    started: float
    statuses: Mapping[int, int]
    answered: int
    at_most: Mapping[float, int]
    lost: int


@dataclass(frozen=True)
class Reading:
    """The slots at a moment (UTC)."""

    at: datetime
    slots: Mapping[Slot, Counters]


def read(serving: Serving, at: datetime, slots: Collection[Slot] = SLOTS) -> Reading:
    """The counters of both slots, or of those named.

    Raises:
        EvergreenError: if one's /metrics or the gateway does not answer.
    """
    place = target.of(serving)
    lost = place.lost()
    return Reading(at, {s: _counters(s, place.pages(s), lost.get(s, 0)) for s in slots})


def records(serving: Serving, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Traffic that was answered in [since, until).

    Raises:
        EvergreenError: if the log cannot be read.
    """
    try:
        found = predictions.read(serving.folder, since=since)
        return [record for record in found if record["logged_at"] < until]
    except OSError as error:
        raise EvergreenError(f"the prediction log cannot be read: {error}") from error


def arm(
    before: Counters,
    after: Counters,
    logged: Iterable[Mapping[str, Any]],
    labels: Mapping[str, float],
    contract: Contract,
) -> Arm:
    """What a slot did between two readings; `logged` are its records of that time.

    Args:
        labels: outcomes that are known already, by key.
        contract: the champion's, for both: it says where scores are compared.

    Raises:
        EvergreenError: if one of several processes went, and with it what it had counted.
    """
    restarted = after.started != before.started
    base = Counters(after.started, {}, 0, {}, after.lost) if restarted else before
    statuses = {s: n - base.statuses.get(s, 0) for s, n in after.statuses.items()}
    lost = max(after.lost - base.lost, 0)
    answered = after.answered - base.answered
    if answered < 0 or any(n < 0 for n in statuses.values()):
        raise EvergreenError("a pod went while it was watched, and what it had counted is lost")
    requests = defaultdict(list)
    for record in logged:
        requests[record["request_id"].partition("-")[0]].append(record)
    return Arm(
        requests=sum(statuses.values()) + lost,
        errors=sum(n for status, n in statuses.items() if status >= 500) + lost,
        refused=sum(n for status, n in statuses.items() if 400 <= status < 500),
        answered=answered,
        slower={x: answered - (n - base.at_most.get(x, 0)) for x, n in after.at_most.items()},
        restarted=restarted,
        degraded=np.array([np.mean([r["degraded"] for r in rows]) for rows in requests.values()]),
        scores=_distribution(requests.values(), contract),
        losses=_losses(requests.values(), labels, contract.task),
    )


Records = Sequence[Mapping[str, Any]]


def _distribution(requests: Iterable[Records], contract: Contract) -> np.ndarray:
    """Of each request the share of scores above each of the contract's cuts, shape (n, k).

    Of several classes it is the likeliest one's probability, and the mean of each class besides.
    """
    task, cuts = contract.task, np.array(contract.cuts)
    found = []
    for rows in requests:
        scores = log.scores(task, rows)
        of = scores.max(axis=1) if task.classes else scores
        above = (of[:, None] > cuts).mean(axis=0)
        found.append(np.append(above, scores.mean(axis=0)) if task.classes else above)
    return np.array(found) if found else np.empty((0, len(cuts) + len(task.classes)))


def _losses(requests: Iterable[Records], labels: Mapping[str, float], task: Task) -> np.ndarray:
    """Mean squared error of each request with labels; all wrong is 1.

    An error of a regression is all wrong from its scale on: evidence needs values with an end.
    """
    most, found = 2 if task.classes else 1, []
    for rows in requests:
        known = [row for row in rows if row["key"] in labels]
        if known:
            label = np.array([labels[row["key"]] for row in known]).astype(task.dtype)
            errors = task.squared_errors(label, log.scores(task, known))
            found.append(np.minimum(errors / most, 1).mean())
    return np.array(found)


def _counters(slot: Slot, pages: Sequence[str], lost: int) -> Counters:
    """The sums over a slot's processes; the oldest of them says when it was started."""
    started: list[float] = []
    hangs = 0.0  # after each the same process began anew
    totals: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    at_most: Counter[float] = Counter()
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                name, value = sample.name, sample.value
                if name == "process_start_time_seconds":
                    started.append(value)
                elif name == "evergreen_model_hangs_total":
                    hangs += value
                elif name == "evergreen_requests_total":
                    statuses[int(sample.labels["status"])] += int(value)
                elif name == "evergreen_request_seconds_count":
                    totals["answered"] += int(value)
                elif name == "evergreen_request_seconds_bucket" and sample.labels["le"] != "+Inf":
                    at_most[float(sample.labels["le"])] += int(value)
    if not started or not at_most:
        raise EvergreenError(f"slot {slot} shows no counters of the prediction path")
    return Counters(min(started) + hangs, statuses, totals["answered"], at_most, lost)
