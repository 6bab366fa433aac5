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

from bento import answers, predictions, records
from bento.answers import Score
from bento.canary import Verdict
from bento.contract import Contract
from bento.slots import Serving, Slot
from data.errors import EvergreenError
from data.release_params import Shadow
from data.task import Task

NAMED = 20
SAME = 1e-6
QUANTILES = (0.5, 0.9)
LOOK_BACK = (0.01, 1, None)  # days; an old log is only read where the new one is short


@dataclass(frozen=True)
class Answer:
    """What a slot says to a row; a score of None is no valid answer, `fault` says why."""

    score: Score | None
    decision: Any
    degraded: bool
    seconds: float
    fault: str | None = None


@dataclass(frozen=True)
class Pair:
    """One logged request: what was answered then, and what both slots answer now."""

    request_id: str
    logged: Any
    same_model: bool
    champion: Answer
    candidate: Answer

    @property
    def said(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Score and decision of candidate and champion."""
        mine, theirs = self.candidate, self.champion
        return (mine.score, mine.decision), (theirs.score, theirs.decision)


@dataclass(frozen=True)
class Report:
    """What the shadow showed.

    Attributes:
        blocks: why the version may not go on; None if it may.
        largest: request ids with the largest differences, and how far the scores are apart: in
            probability, a regression's in its scale.
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
    contract: Contract, digest: str,
) -> list[Pair]:  # fmt: skip
    """Ask each row of both slots, in turn the one and the other first.

    Args:
        contract: of the champion; digest: of its artefact.
    """
    pairs, task = [], contract.task
    told = records.scores(task, logged)
    for number, record in enumerate(logged):
        order = (champion, candidate) if number % 2 else (candidate, champion)
        said = {slot: _ask(serving, slot, record["row"], contract) for slot in order}
        same = record["digest"] == digest and not record["degraded"]
        request = record["request_id"]
        pairs.append(Pair(request, told[number], same, said[champion], said[candidate]))
    return pairs


def compare(pairs: Sequence[Pair], limits: Shadow, task: Task) -> Report:
    """What the answers come to; pure."""
    both = [p for p in pairs if p.champion.score is not None and p.candidate.score is not None]
    gaps = [(p.request_id, answers.distance(task, *(score for score, _ in p.said))) for p in both]
    changed = sum(
        p.same_model and p.champion.score is not None
        and answers.gap(task, p.champion.score, p.logged) > SAME
        for p in pairs
    )  # fmt: skip
    verdicts = (
        _faults("errors", [p.candidate.fault for p in pairs], [p.champion.fault for p in pairs]),
        _faults(
            "degraded",
            [_degraded(p.candidate) for p in pairs],
            [_degraded(p.champion) for p in pairs],
        ),
        _flips(both, limits, task),
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


def _flips(both: Sequence[Pair], limits: Shadow, task: Task) -> Verdict:
    name, limit, n = "decisions", limits.flip_limit, len(both)
    if n < limits.minimum_rows:
        return Verdict(name, None, limit, n, None, f"{name}: unknown, only {n} rows")
    share = float(np.mean([answers.moved(task, *p.said) for p in both]))
    by = f" by over {answers.MOVED:g} of the scale" if task.kind == "regression" else ""
    reason = f"{name}: {share:.1%} differ{by} (at most {limit:.0%})"
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


def _ask(serving: Serving, slot: Slot, row: Mapping[str, Any], contract: Contract) -> Answer:
    start = time.perf_counter()
    try:
        reply = serving.pinned(slot).call("POST", "/predict", row, {"x-slot": slot})
    except EvergreenError:
        return Answer(None, None, False, time.perf_counter() - start, "no answer")
    seconds, value = time.perf_counter() - start, reply.value
    if reply.status != 200 or not isinstance(value, dict):
        place = value.get("path") if isinstance(value, dict) else None
        said = f"status {reply.status}" + (f" at {place}" if place else "")
        return Answer(None, None, False, seconds, said)
    heard = answers.heard(contract.task, contract.target, value)
    if heard is None:
        said = f"an answer without {contract.task.answer} or decision"
        return Answer(None, None, False, seconds, said)
    return Answer(*heard, bool(value.get("degraded")), seconds)
