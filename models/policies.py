"""Policies of a replay: what each does after a period, from what it may know then.

| name | retrains |
|---|---|
| never | never |
| always | after every period |
| every-K | after every K-th |
| alarm | after every period in which a monitor of features, scores or outcomes alarms |
| ours | as `models.governor.decide` says with the parameters of params.yaml |

`NAME+level` also recalibrates after every period.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from data.drift import FEATURE_DRIFT, SCORE_DRIFT
from data.errors import EvergreenError
from data.params import Governor
from data.periods import Period
from data.verdicts import Verdict
from models.concept import CONCEPT_DRIFT
from models.governor import Action, Attempt, Watched, decide
from models.levels import CALIBRATION
from models.monitors import QUALITY

# An alarm of one of these says that the model is not what it was.
MODEL = (FEATURE_DRIFT, SCORE_DRIFT, QUALITY, CALIBRATION, CONCEPT_DRIFT)
OURS, NEVER, ALWAYS, ALARM = "ours", "never", "always", "alarm"
LEVEL = "+level"
NAMES = re.compile(rf"({OURS}|{NEVER}|{ALWAYS}|{ALARM}|every-([1-9][0-9]*))({re.escape(LEVEL)})?")


@dataclass(frozen=True)
class Known:
    """What may be known when a policy decides.

    Attributes:
        turn: how many decisions came before.
        history: what the monitors said of the champion so far; empty for who does not watch.
        learned_until: the newest period that the champion was trained or judged on.
        attempts: retrains so far.
        learned: periods that the champion was trained on.
    """

    turn: int
    history: tuple[Watched, ...]
    learned_until: Period
    attempts: tuple[Attempt, ...]
    learned: int


@dataclass(frozen=True)
class Policy:
    """When to do what.

    Attributes:
        alarmed: what it takes for an alarm, if it asks the monitors at all.
        level: whether it recalibrates wherever it would wait.
        moves: whether it recalibrates at all.
    """

    name: str
    choose: Callable[[Known], Action]
    alarmed: Callable[[Watched], bool] | None = None
    level: bool = False
    moves: bool = False

    def act(self, known: Known) -> Action:
        action = self.choose(known)
        return Action.RECALIBRATE if self.level and action is Action.WAIT else action


def parse(name: str, params: Governor) -> Policy:
    """The policy of that name.

    Raises:
        EvergreenError: if there is none.
    """
    found = NAMES.fullmatch(name)
    if found is None:
        raise EvergreenError(
            f"{name!r} is no policy: write never, always, every-K (every-4), alarm or ours, "
            f"each with or without {LEVEL}"
        )
    policy = _plain(found[1], int(found[2] or 0), params)
    level = bool(found[3])
    return replace(policy, name=name, level=level, moves=level or policy.moves)


def _plain(name: str, every: int, params: Governor) -> Policy:
    if every:
        return Policy(name, lambda known: _retrain((known.turn + 1) % every == 0))
    if name == NEVER:
        return Policy(name, lambda known: Action.WAIT)
    if name == ALWAYS:
        return Policy(name, lambda known: Action.RETRAIN)
    if name == ALARM:
        return Policy(name, lambda known: _retrain(_alarms(known.history[-1])), _alarms)
    return Policy(name, lambda known: _ours(known, params), alarmed=_drifted, moves=True)


def evenly(count: int, decisions: int, phase: float, level: bool) -> Policy:
    """A schedule with `count` retrains at equal distances.

    Args:
        decisions: how many there are.
        phase: of the first, as a share of the distance, 0 to 1.
    """
    turns = {int((i + phase) * decisions / count) for i in range(count)}
    name = f"evenly-{count}{LEVEL if level else ''}"
    return Policy(name, lambda known: _retrain(known.turn in turns), level=level, moves=level)


def _retrain(due: bool) -> Action:
    return Action.RETRAIN if due else Action.WAIT


def _ours(known: Known, params: Governor) -> Action:
    return decide(known.history, known.learned_until, params, known.attempts, known.learned).action


def _alarms(now: Watched) -> bool:
    return any(now.says(monitor, Verdict.ALARM) for monitor in MODEL)


def _drifted(now: Watched) -> bool:
    """Whether there is drift as the governor counts it."""
    return now.far or now.says(CONCEPT_DRIFT, Verdict.ALARM)
