"""Monitors of serving: skew, the endpoint, labels that do not come, age; pure functions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from data.labels import Coverage
from data.monitor_params import Monitor
from data.task import Task
from data.verdicts import Finding, Verdict

SKEW, ENDPOINT, LABEL_ARRIVAL, MODEL_AGE = "skew", "endpoint", "label_arrival", "model_age"
EXAMPLES = 5


@dataclass(frozen=True)
class Replayed:
    """Logged answers and the same events through training's path; rows in the same order.

    Attributes:
        names: of the features; keys: of the events, shape (n,).
        logged, partition: features of the rows as sent and as ingested, shape (n, features).
        answered: what was sent; again: what the logged rows get now; shape (n,) or (n, classes).
        task: of the answers, whose `gaps` the tolerance is for.
    """

    names: tuple[str, ...]
    keys: np.ndarray
    logged: np.ndarray
    partition: np.ndarray
    answered: np.ndarray
    again: np.ndarray
    task: Task


def skew(found: Replayed, tolerance: float, params: Monitor) -> Finding:
    """Whether what was served is what training would have computed.

    Any answer that differs by more than `tolerance` is an alarm; features have to be equal to
    the bit in all but a small share of rows, for rows may be restated after they were served.
    """
    rows = len(found.keys)
    if rows < params.minimum_rows:
        reason = f"{rows} answers that name their event: at least {params.minimum_rows} are needed"
        return Finding(SKEW, Verdict.UNKNOWN, None, params.skew_share, rows, reason)
    other = (found.logged != found.partition) & ~(
        np.isnan(found.logged) & np.isnan(found.partition)
    )
    differs, gap = other.any(axis=1), found.task.gaps(found.answered, found.again)
    wrong = ~(gap <= tolerance)
    columns = {n: int(c) for n, c in zip(found.names, other.sum(axis=0), strict=True) if c}
    value = float(max(differs.mean(), wrong.mean()))
    if wrong.any():
        verdict = Verdict.ALARM
        reason = f"{int(wrong.sum())} of {rows} answers are not what the model gives (by up to "
        reason += f"{float(np.nanmax(gap)):.1e}), such as {found.keys[wrong][0]}"
    elif differs.any():
        verdict = Verdict.ALARM if differs.mean() > params.skew_share else Verdict.WARN
        reason = f"{int(differs.sum())} of {rows} requests had other features than the partition: "
        reason += ", ".join(f"{name} in {count}" for name, count in columns.items())
    else:
        verdict = Verdict.OK
        reason = f"{rows} answers, each with the features and the answer of training's path"
    evidence = {
        "columns": columns,
        "answers": int(wrong.sum()),
        "largest_gap": float(np.nanmax(gap, initial=0.0)),
        "examples": [str(key) for key in found.keys[differs | wrong][:EXAMPLES]],
    }
    return Finding(SKEW, verdict, value, params.skew_share, rows, reason, evidence)


@dataclass(frozen=True)
class Counted:
    """What a slot's process has counted; `started` tells one process from the next.

    Attributes:
        at_most: seconds, as text -> answers that took no longer.
    """

    started: float
    requests: int
    errors: int
    answered: int
    at_most: Mapping[str, int]

    def since(self, before: Mapping[str, Any] | None) -> "Counted":
        """What was counted after an earlier reading of the same process."""
        if before is None or before["started"] != self.started:
            return self
        return Counted(
            self.started,
            max(self.requests - before["requests"], 0),
            max(self.errors - before["errors"], 0),
            max(self.answered - before["answered"], 0),
            {s: max(n - before["at_most"].get(s, 0), 0) for s, n in self.at_most.items()},
        )


@dataclass(frozen=True)
class Traffic:
    """What the log and the counters say of the endpoint.

    Attributes:
        events: of the period; answered: those with an answer in the log; degraded: of them.
        silent_days: days of the period with events, none of which was answered.
        requests, errors: that were counted since the period before was watched, or the processes
            began; None if nobody could be asked.
        slow: the ninth decile of the time to answer, seconds; infinite beyond what is measured.
        counters: by slot, as they stand: what the next period is counted from.
    """

    events: int
    answered: int
    degraded: int
    silent_days: tuple[str, ...]
    requests: int | None = None
    errors: int = 0
    slow: float | None = None
    counters: Mapping[str, Counted] = field(default_factory=dict)

    def counting(self, now: Mapping[str, Counted], last: Finding | None) -> "Traffic":
        """With what was counted since the period before was watched; `now` is by slot."""
        before = last.evidence.get("counters", {}) if last else {}
        own = [counted.since(before.get(slot)) for slot, counted in now.items()]
        if not own:
            return self
        answered = sum(each.answered for each in own)
        bounds = sorted({bound for each in own for bound in each.at_most}, key=float)
        within = (b for b in bounds if sum(e.at_most.get(b, 0) for e in own) >= 0.9 * answered)
        return replace(
            self,
            requests=sum(each.requests for each in own),
            errors=sum(each.errors for each in own),
            slow=float(next(within, "inf")) if answered else None,
            counters=now,
        )


def endpoint(found: Traffic, params: Monitor) -> Finding:
    """Whether the endpoint answers: errors, latency, degraded answers, gaps in the log."""
    evidence = asdict(found)
    if found.slow == float("inf"):  # JSON has none
        evidence["slow"] = "longer than was measured"
    degraded = found.degraded / found.answered if found.answered else 0.0
    errors = found.errors / found.requests if found.requests else 0.0
    said = []
    if found.answered and found.silent_days:
        days = ", ".join(found.silent_days)
        said.append(f"no answer of {days} is in the log, of other days there are some")
    if degraded > params.error_share:
        said.append(
            f"{degraded:.1%} of answers are degraded (the training rows' constant, not the model's)"
        )
    if errors > params.error_share:
        said.append(f"{errors:.1%} of requests failed")
    if found.slow is not None and found.slow > params.latency_seconds:
        limit = params.latency_seconds
        said.append(f"one in ten answers takes more than {found.slow:.3g} s (limit {limit:g} s)")
    if said:
        verdict, reason = Verdict.ALARM, "; ".join(said)
    elif not found.answered:
        verdict, reason = Verdict.UNKNOWN, "no answer to an event of this period is in the log"
    elif found.requests is None:
        verdict = Verdict.UNKNOWN
        reason = "errors and latency are not known, for the slots' counters could not be read"
    else:
        verdict = Verdict.OK
        reason = f"{found.answered} of {found.events} events were answered, {degraded:.1%} degraded"
        reason += f"; {errors:.1%} of {found.requests} requests failed"
    value = max(degraded, errors)
    return Finding(ENDPOINT, verdict, value, params.error_share, found.answered, reason, evidence)


def label_arrival(coverage: Coverage, before: Mapping[str, float], params: Monitor) -> Finding:
    """Whether the labels that are due have come.

    Args:
        coverage: of the period at the moment when all of its labels are due.
        before: the same share of the periods before, by name.
    """
    wanted, rows = params.minimum_label_coverage, coverage.rows
    evidence = {**asdict(coverage), "before": dict(before)}
    if not rows:
        reason = "the period has no events"
        return Finding(LABEL_ARRIVAL, Verdict.UNKNOWN, None, wanted, 0, reason, evidence)
    late = [name for name, share in before.items() if share < wanted]
    verdict = Verdict.WARN if late else Verdict.OK
    verdict = Verdict.ALARM if coverage.share < wanted else verdict
    reason = f"{coverage.share:.1%} of the labels due have come ({coverage.missing} are missing, "
    reason += f"at least {wanted:.0%} are expected)"
    reason += f"; still too few of {', '.join(late)}" if late else ""
    return Finding(LABEL_ARRIVAL, verdict, coverage.share, wanted, rows, reason, evidence)


def model_age(age: int, most: int) -> Finding:
    """Whether the champion is older than it may be; both in periods since what it learned from."""
    verdict = Verdict.ALARM if age >= most else Verdict.OK
    reason = f"the champion is {age} periods old, at most {most} is usual"
    return Finding(MODEL_AGE, verdict, float(age), float(most), age, reason)
