"""Is what the monitors saw worth a retrain? A pure decision; `flows.monitor` acts on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from data.drift import FEATURE_DRIFT
from data.params import Governor
from data.periods import Period, span
from data.soundness import CONTRACT
from data.verdicts import Finding, Verdict, find
from models.concept import CONCEPT_DRIFT
from models.levels import CALIBRATION
from models.monitors import QUALITY, TURNED
from models.serving_monitors import LABEL_ARRIVAL, SKEW

# An alarm of one of these is for a person to look at: a retrain would learn the fault.
BROKEN = (CONTRACT, SKEW, LABEL_ARRIVAL)
# Without a word from these nobody knows whether there is anything sound to learn from.
NEEDED = (*BROKEN, FEATURE_DRIFT, QUALITY)
ELSEWHERE = 3.0  # standard deviations between outcomes and answers, in mean
MONTH = timedelta(days=30)


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

    def says(self, monitor: str, verdict: Verdict) -> bool:
        return any(f.monitor == monitor and f.verdict is verdict for f in self.findings)

    @property
    def drift(self) -> Verdict:
        """A monitor that did not run knows nothing."""
        found = find(self.findings, FEATURE_DRIFT)
        return found.verdict if found else Verdict.UNKNOWN

    @property
    def far(self) -> bool:
        """Whether features are further from all that was learned together than any of its periods
        is from the others: in replays this, more than how unlike the nearest period they are, goes
        with what a retrain gains."""
        found = find(self.findings, FEATURE_DRIFT)
        if found is None or found.verdict is Verdict.UNKNOWN:
            return False
        whole = found.evidence.get("whole")
        return whole["psi"] > whole["limit"] if whole else found.verdict is Verdict.ALARM

    @property
    def trouble(self) -> str | None:
        """Why a retrain would learn from broken data, or from nobody knows what, if it would."""
        broken = [f for f in self.findings if f.monitor in BROKEN and f.verdict is Verdict.ALARM]
        if broken:
            return f"a retrain would not help: {broken[0].reason}"
        quality, level = (find(self.findings, name) for name in (QUALITY, CALIBRATION))
        if quality is not None and quality.evidence.get(TURNED):
            return f"outcomes or fields look turned round: {quality.reason}"
        # of numbers alone, which have a unit of their own
        if level and "unit" in level.evidence and abs(level.evidence["gap"]) >= ELSEWHERE:
            return f"outcomes look like those of something else: {level.reason}"
        unknown = [f for f in self.findings if f.monitor in NEEDED and f.verdict is Verdict.UNKNOWN]
        if unknown:
            return f"{unknown[0].monitor} is unknown: {unknown[0].reason}"
        return None if find(self.findings, FEATURE_DRIFT) else "drift was not watched"


@dataclass(frozen=True)
class Attempt:
    """A retrain that was made, whatever came of it.

    Attributes:
        as_of: the newest period that it looked at.
        seconds: of CPU time.
    """

    as_of: Period
    seconds: float


def decide(
    history: Sequence[Watched],
    learned_until: Period,
    params: Governor,
    attempts: Sequence[Attempt] = (),
    learned: int = 0,
) -> Decision:
    """The decision after the last period of `history`.

    Args:
        history: verdicts about the present champion, oldest first; the last one is new.
        learned_until: the newest period that the champion was trained or judged on.
        params: limits, counted in periods.
        attempts: retrains so far; one after `learned_until` left the champion in its place.
        learned: periods that the champion was trained on; the more they are, the less a few
            further ones add, and the older it may become.
    """
    now = history[-1]
    if now.trouble:
        return Decision(Action.INVESTIGATE, now.trouble)
    due, calm = _due(history, learned_until, params, params.oldest(learned))
    if due:
        held = _held(history, learned_until, params, attempts)
        if held is None:
            return Decision(Action.RETRAIN, due)
        calm = f"{due}, but {held}"
    if (off := _off(now, params.recalibration_gap)) is not None:
        return Decision(Action.RECALIBRATE, f"{off}; {calm}")
    return Decision(Action.WAIT, calm)


def _off(now: Watched, limit: float) -> str | None:
    """By how much served answers differ from the matured labels, if it is the limit or more.

    In log odds (of the class that is furthest off), or in standard deviations of a number.
    """
    found = find(now.findings, CALIBRATION)
    if found is None or found.verdict is Verdict.UNKNOWN or "gap" not in found.evidence:
        return None
    said, gap = found.evidence, float(found.evidence["gap"])
    of = f" of {said['furthest']}" if "furthest" in said else ""
    unit = said.get("unit", "log odds")
    return f"the level{of} is off by {gap:+.2f} {unit}" if abs(gap) >= limit else None


def _due(
    history: Sequence[Watched], learned_until: Period, params: Governor, oldest: int
) -> tuple[str | None, str]:
    """Why a retrain is due, if it is; and what to say if it is not.

    Args:
        oldest: the age at which it is.
    """
    now, needed = history[-1], params.consecutive_alarms
    age = _periods(learned_until, now.period)
    if age >= oldest:
        return f"the champion is {age} periods old", ""
    run = _alarms_running(history)
    drift = run >= needed or now.says(CONCEPT_DRIFT, Verdict.ALARM)
    if drift and age <= params.cooldown_periods:
        return None, f"drift, but the champion is only {age} periods old"
    if run >= needed:
        return f"drift alarm {run} periods running", ""
    if drift:
        said = find(now.findings, CONCEPT_DRIFT)
        return (said.reason if said else ""), ""
    return None, f"{run} of {needed} alarms running" if run else "no more drift than is usual"


def _held(
    history: Sequence[Watched],
    learned_until: Period,
    params: Governor,
    attempts: Sequence[Attempt],
) -> str | None:
    """What forbids a retrain that is due: one that did not help, or the month's budget."""
    now = history[-1].period
    asked = {w.period for w in history[:-1] if w.action is Action.RETRAIN}
    vain = sorted(asked | {a.as_of for a in attempts if learned_until < a.as_of < now})
    if vain:
        since = _periods(vain[-1], now)
        wait = params.cooldown_periods * 2 ** (len(vain) - 1)
        if since <= min(wait, max(params.cooldown_periods, params.maximum_age_periods)):
            many = f"{len(vain)} retrains, the last" if len(vain) > 1 else "a retrain"
            return f"{many} {since} periods ago did not help"
    return over_budget(now, params, attempts)


def over_budget(now: Period, params: Governor, attempts: Sequence[Attempt]) -> str | None:
    """Why the month that ends with a period has no room for a retrain; None if it has."""
    month = [a for a in attempts if now.end - MONTH < a.as_of.end <= now.end]
    if len(month) >= params.monthly_retrains:
        return f"the month's {params.monthly_retrains} retrains are made"
    if (spent := sum(a.seconds for a in month)) >= params.monthly_seconds:
        return f"{spent:.0f} of the month's {params.monthly_seconds:.0f} seconds are spent"
    return None


def _periods(after: Period, until: Period) -> int:
    """How many periods lie after one, up to another."""
    return len(span(after.next(), until))


def _alarms_running(history: Sequence[Watched]) -> int:
    """Length of the unbroken run of periods far from what was learned that ends with the last."""
    count, expected = 0, history[-1].period
    for watched in reversed(history):
        if not watched.far or watched.period != expected:
            break
        count, expected = count + 1, expected.previous()
    return count
