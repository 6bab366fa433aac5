"""Is what the monitor saw worth a retrain? A pure decision; `flows.monitor` acts on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from data.drift import FEATURE_DRIFT
from data.params import Governor
from data.periods import Period, span
from data.verdicts import Finding, Verdict, find

# An alarm of one of these is for a person to look at: a retrain would learn the fault.
BROKEN = ("contract", "skew")


class Action(StrEnum):
    """What to do about a period."""

    RETRAIN = "retrain"
    RECALIBRATE = "recalibrate"
    WAIT = "wait"
    INVESTIGATE = "investigate"


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    action: Action
    reason: str


@dataclass(frozen=True)
class Watched:
    """What the monitors said of one period, and what was decided; None before it is."""

    period: Period
    findings: tuple[Finding, ...]
    action: Action | None = None

    @property
    def drift(self) -> Verdict:
        """A monitor that did not run knows nothing."""
        found = find(self.findings, FEATURE_DRIFT)
        return found.verdict if found else Verdict.UNKNOWN

    @property
    def trouble(self) -> str | None:
        """Why a retrain would learn from broken data, if it would."""
        broken = [f for f in self.findings if f.monitor in BROKEN and f.verdict is Verdict.ALARM]
        if broken:
            return broken[0].reason
        return None


def decide(history: Sequence[Watched], learned_until: Period, params: Governor) -> Decision:
    """The decision after the last period of `history`.

    Args:
        history: verdicts about the present champion, oldest first; the last one is new.
        learned_until: the newest period that the champion was trained or judged on.
        params: limits, counted in periods.
    """
    now = history[-1]
    age = len(span(learned_until.next(), now.period))
    if now.trouble:
        return Decision(Action.INVESTIGATE, f"a retrain would not help: {now.trouble}")
    if now.drift is Verdict.UNKNOWN:
        said = find(now.findings, FEATURE_DRIFT)
        return Decision(Action.INVESTIGATE, said.reason if said else "drift was not watched")
    run, needed = _alarms_running(history), params.consecutive_alarms
    if age >= params.maximum_age_periods:
        due = f"the champion is {age} periods old"
    elif run < needed:
        reason = f"{run} of {needed} alarms running" if run else "no more drift than is usual"
        return Decision(Action.WAIT, reason)
    elif age <= params.cooldown_periods:
        return Decision(Action.WAIT, f"drift, but the champion is only {age} periods old")
    else:
        due = f"drift alarm {run} periods running"
    if (since := _since_retrain(history)) is not None and since <= params.cooldown_periods:
        return Decision(Action.WAIT, f"{due}, but a retrain {since} periods ago did not help")
    return Decision(Action.RETRAIN, due)


def _since_retrain(history: Sequence[Watched]) -> int | None:
    """Periods since a retrain that left this champion in place; None if there was none."""
    tried = [watched.period for watched in history[:-1] if watched.action is Action.RETRAIN]
    return len(span(tried[-1].next(), history[-1].period)) if tried else None


def _alarms_running(history: Sequence[Watched]) -> int:
    """Length of the unbroken run of alarms that ends with the last period."""
    count, expected = 0, history[-1].period
    for watched in reversed(history):
        if watched.drift is not Verdict.ALARM or watched.period != expected:
            break
        count, expected = count + 1, expected.previous()
    return count
