"""Logged requests asked again: what would the new version have answered, and how fast?

Both slots are asked in turn through the gateway, pinned by a header, so that nothing of it counts
as traffic. The report names rows by request id and never shows a value.
"""

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from bento import predictions
from bento.canary import Verdict
from bento.slots import Serving, Slot
from data.errors import EvergreenError
from data.release_params import Shadow

NAMED = 20
SAME = 1e-6
QUANTILES = (0.5, 0.9)
LOOK_BACK = (0.01, 1, None)  # days; an old log is only read where the new one is short


@dataclass(frozen=True)
class Answer:
    """What a slot says to a row; a probability of None is no valid answer, `fault` says why."""

    probability: float | None
    decision: bool | None
    degraded: bool
    seconds: float
    fault: str | None = None


@dataclass(frozen=True)
class Pair:
    """One logged request: what was answered then, and what both slots answer now."""

    request_id: str
    logged: float
    same_model: bool
    champion: Answer
    candidate: Answer


@dataclass(frozen=True)
class Report:
    """What the shadow showed.

    Attributes:
        blocks: why the version may not go on; None if it may.
        largest: request ids with the largest differences of probability, and the differences.
    """

    rows: int
    verdicts: tuple[Verdict, ...]
    largest: tuple[tuple[str, float], ...]
    mean_difference: float | None
    changed_since: int
    blocks: str | None

    @property
    def unknown(self) -> bool:
        return any(verdict.good is None for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def last_requests(serving: Serving, rows: int) -> list[dict[str, Any]]:
    """The newest rows of traffic in the log, oldest first.

    Raises:
        EvergreenError: if the log cannot be read.
    """
    try:
        for days in LOOK_BACK:
            since = None if days is None else datetime.now(UTC) - timedelta(days=days)
            logged = predictions.read(serving.folder, since=since)
            found = heapq.nlargest(rows, logged, key=lambda record: record["logged_at"])
            if len(found) == rows:
                break
        return found[::-1]
    except OSError as error:
        raise EvergreenError(f"the prediction log cannot be read: {error}") from error


def replay(
    serving: Serving, champion: Slot, candidate: Slot, logged: Sequence[Mapping[str, Any]],
    target: str, digest: str,
) -> list[Pair]:  # fmt: skip
    """Ask each row of both slots, in turn the one and the other first.

    Args:
        target: the decision's name in an answer.
        digest: of the champion's artefact.
    """
    pairs = []
    for number, record in enumerate(logged):
        order = (champion, candidate) if number % 2 else (candidate, champion)
        said = {slot: _ask(serving, slot, record["row"], target) for slot in order}
        same = record["digest"] == digest and not record["degraded"]
        pairs.append(
            Pair(record["request_id"], record["probability"], same, said[champion], said[candidate])
        )
    return pairs


def compare(pairs: Sequence[Pair], limits: Shadow) -> Report:
    """What the answers come to; pure."""
    both = [
        p
        for p in pairs
        if p.champion.probability is not None and p.candidate.probability is not None
    ]
    gaps = [(p.request_id, abs(p.candidate.probability - p.champion.probability)) for p in both]  # type: ignore[operator]
    changed = sum(
        p.same_model and p.champion.probability is not None
        and abs(p.champion.probability - p.logged) > SAME
        for p in pairs
    )  # fmt: skip
    verdicts = (
        _faults("errors", [p.candidate.fault for p in pairs], [p.champion.fault for p in pairs]),
        _faults(
            "degraded",
            [_degraded(p.candidate) for p in pairs],
            [_degraded(p.champion) for p in pairs],
        ),
        _flips(both, limits),
        *(_latency(both, quantile, limits) for quantile in QUANTILES),
    )
    worse = [verdict.reason for verdict in verdicts if verdict.good is False]
    if limits.required and any(verdict.good is None for verdict in verdicts):
        worse.append(
            f"{len(both)} comparable requests, at least {limits.minimum_rows} are required"
        )
    return Report(
        rows=len(pairs),
        verdicts=verdicts,
        largest=tuple(sorted(gaps, key=lambda gap: -gap[1])[:NAMED]),
        mean_difference=float(np.mean([gap for _, gap in gaps])) if gaps else None,
        changed_since=changed,
        blocks="; ".join(worse) or None,
    )


def _degraded(answer: Answer) -> str | None:
    return "the base rate" if answer.degraded else None


def _faults(name: str, mine: Sequence[str | None], theirs: Sequence[str | None]) -> Verdict:
    """Rows that only the candidate fails on: where the champion fails too, nothing is shown."""
    found = [a for a, b in zip(mine, theirs, strict=True) if a is not None and b is None]
    shared = sum(b is not None for b in theirs)
    good = None if shared == len(theirs) else not found
    reason = f"{name}: {len(found)} of {len(mine)} rows"
    reason += f", such as {found[0]}" if found else ""
    reason += f" ({shared} that the champion fails on are left out)" if shared else ""
    return Verdict(name, float(len(found)), 0.0, len(mine), good, reason)


def _flips(both: Sequence[Pair], limits: Shadow) -> Verdict:
    name, limit, n = "decisions", limits.flip_limit, len(both)
    if n < limits.minimum_rows:
        return Verdict(name, None, limit, n, None, f"{name}: unknown, only {n} rows")
    share = float(np.mean([p.candidate.decision != p.champion.decision for p in both]))
    reason = f"{name}: {share:.1%} differ (at most {limit:.0%})"
    return Verdict(name, share, limit, n, share <= limit, reason)


def _latency(both: Sequence[Pair], quantile: float, limits: Shadow) -> Verdict:
    name, n = f"latency p{100 * quantile:.0f}", len(both)
    limit = limits.latency_ratio
    if n < limits.minimum_rows:
        return Verdict(name, None, limit, n, None, f"{name}: unknown, only {n} rows")
    mine, theirs = (
        1000 * float(np.quantile(seconds, quantile))
        for seconds in ([p.candidate.seconds for p in both], [p.champion.seconds for p in both])
    )
    ratio = mine / theirs
    good = ratio <= limit or mine <= limits.latency_floor
    reason = (
        f"{name}: {mine:.1f} ms against the champion's {theirs:.1f} ms (at most {limit:g} times)"
    )
    return Verdict(name, ratio, limit, n, good, reason)


def _ask(serving: Serving, slot: Slot, row: Mapping[str, Any], target: str) -> Answer:
    start = time.perf_counter()
    try:
        reply = serving.door.call("POST", "/predict", row, {"x-slot": slot})
    except EvergreenError:
        return Answer(None, None, False, time.perf_counter() - start, "no answer")
    seconds, value = time.perf_counter() - start, reply.value
    if reply.status != 200 or not isinstance(value, dict):
        place = value.get("path") if isinstance(value, dict) else None
        said = f"status {reply.status}" + (f" at {place}" if place else "")
        return Answer(None, None, False, seconds, said)
    probability: Any = value.get("probability")
    decision = value.get(target)
    number = isinstance(probability, float | int)
    if not number or not 0 <= probability <= 1 or not isinstance(decision, bool):
        return Answer(None, None, False, seconds, "an answer without probability or decision")
    return Answer(float(probability), decision, bool(value.get("degraded")), seconds)
