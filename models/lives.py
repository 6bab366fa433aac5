"""One life of a model: a season under one policy, from the answers of models fitted before."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data.params import Params
from data.reference import Daily
from data.task import Task
from models import tally
from models.bootstrap import Interval
from models.gates_quality import no_more_loss, no_worse_ranking
from models.governor import Action, Attempt, Watched
from models.policies import Known, Policy
from models.quality import Quality, measure
from models.quality import answers as answers_of
from models.replay import Answers, Season
from models.scene import Lived, Scene
from models.train import decision_threshold


@dataclass(frozen=True)
class Week:
    """What one period came to.

    Attributes:
        cost: of its answers for an average row: of two outcomes the decisions', in units of a false
            positive; of several classes the share of wrong ones; of a number its loss.
        action: what was decided after it; None after the last.
        alarm: whether the policy took what it saw for an alarm.
        gain: how much less loss a new model has than the champion in the next periods.
        promoted: whether the retrain's model took over; None if there was none.
    """

    period: str
    quality: Quality
    cost: float
    rows: int
    action: Action | None = None
    alarm: bool = False
    gain: Interval | None = None
    promoted: bool | None = None


@dataclass(frozen=True)
class Life:
    """A season under one policy; `seconds` is the CPU time of its retrains."""

    policy: str
    season: str
    seed: int
    weeks: tuple[Week, ...]
    seconds: float

    def mean(self, metric: str) -> float:
        """Mean of a metric over the periods where it is defined."""
        return float(np.mean(self._known(metric)))

    def mean_if_known(self, metric: str) -> float | None:
        """The same; None for a metric that this kind of task does not have."""
        return self.mean(metric) if self._known(metric) else None

    def _known(self, metric: str) -> list[float]:
        found = [getattr(week.quality, metric, None) for week in self.weeks]
        return [value for value in found if value is not None]

    @property
    def retrains(self) -> int:
        return sum(week.action is Action.RETRAIN for week in self.weeks)

    @property
    def recalibrations(self) -> int:
        return sum(week.action is Action.RECALIBRATE for week in self.weeks)

    @property
    def vain(self) -> int:
        """Retrains whose model did not take over, or was no better than the one before."""
        made = [week for week in self.weeks if week.action is Action.RETRAIN]
        return sum(not (week.promoted and week.gain and week.gain.value > 0) for week in made)


@dataclass(frozen=True)
class State:
    """What answers from a moment on."""

    since: np.timedelta64
    as_of: int
    shift: np.ndarray | float = 0.0


@dataclass
class _World:
    """Where a life stands."""

    champion: int
    states: list[State]
    history: list[Watched] = field(default_factory=list)
    daily: list[Daily] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """A slot as it was answered, and what was decided after it.

    Attributes:
        margin: the served ones, shape (n,) or (n, classes).
        champion: the slot of the model that was in charge at its end.
        action: None after the last slot.
        promoted: whether a retrain's model took over; None if there was none.
    """

    slot: int
    margin: np.ndarray
    champion: int
    action: Action | None = None
    alarm: bool = False
    promoted: bool | None = None


def live(scene: Scene, policy: Policy) -> Life:
    """The season under a policy, with everything that can be said of it."""
    weeks, seconds = [], 0.0
    for turn in turns(scene, policy):
        week = _told(scene, turn.slot, turn.margin)
        if turn.action is not None:
            gain = scene.gain(turn.champion, turn.slot, policy.moves)
            week = replace(week, action=turn.action, alarm=turn.alarm, gain=gain,
                           promoted=turn.promoted)  # fmt: skip
        if turn.action is Action.RETRAIN:
            seconds += scene.model(turn.slot).seconds
        weeks.append(week)
    return Life(policy.name, scene.season.name, scene.seed, tuple(weeks), seconds)


def losses(scene: Scene, policy: Policy) -> np.ndarray:
    """Mean loss of each slot under a policy, shape (slots served,)."""
    slots, task = scene.season.slots, scene.season.task
    found = [task.losses(slots[turn.slot].rows.label, answers_of(turn.margin, task)).mean()
             for turn in turns(scene, policy)]  # fmt: skip
    return np.array(found)


def turns(scene: Scene, policy: Policy) -> Iterator[Turn]:
    """The season under a policy, slot by slot."""
    season = scene.season
    world = _World(season.first, [State(np.timedelta64(0), season.first)])
    for slot in season.served:
        margin = served(season, scene.model, world.states, slot)
        if slot in season.decisions:
            yield _decided(scene, policy, world, Turn(slot, margin, world.champion))
        else:
            yield Turn(slot, margin, world.champion)


def _decided(scene: Scene, policy: Policy, world: _World, turn: Turn) -> Turn:
    """Decide after a slot, and do it."""
    season, slot, champion = scene.season, turn.slot, world.champion
    findings = scene.watch(_lived(season, world, turn)) if policy.alarmed else ()
    now = Watched(season.stand_in(slot), findings)
    known = Known(
        slot - season.decisions.start,
        (*world.history, now),
        season.stand_in(champion),
        tuple(world.attempts),
        champion,
    )
    action, promoted = policy.act(known), None
    world.history.append(replace(now, action=action))
    if action is Action.RETRAIN:
        challenger = scene.model(slot)
        world.attempts.append(Attempt(now.period, challenger.seconds))
        promoted = blocked(scene, slot, challenger.of(slot), turn.margin) is None
        if promoted:
            world.champion, world.history, world.daily = slot, [], []
            world.states.append(State(season.known(slot), slot))
    elif action is Action.RECALIBRATE:
        shift = scene.shift(champion, slot)
        world.states.append(State(season.known(slot), champion, shift))
    alarm = policy.alarmed is not None and policy.alarmed(now)
    return replace(turn, action=action, alarm=alarm, promoted=promoted)


def _lived(season: Season, world: _World, turn: Turn) -> Lived:
    """What the champion's log and the labels of a slot tell."""
    rows, task = season.slots[turn.slot].rows, season.task_of(world.champion)
    place = _state(season, world.states, turn.slot)
    own = np.array([state.as_of == world.champion for state in world.states])[place]
    score = answers_of(turn.margin[own], task)
    world.daily.append(tally.residuals(rows.label[own], score, rows.day[own], task))
    mine = place == len(world.states) - 1
    last = world.history[-1].findings if world.history else ()
    daily = tally.joined(world.daily)
    return Lived(turn.slot, world.champion, turn.margin, mine, daily, last)


def _state(season: Season, states: Sequence[State], slot: int) -> np.ndarray:
    """Which state answered each row of a slot, shape (n,)."""
    since = [state.since for state in states]
    return np.searchsorted(since, season.slots[slot].moment, side="right") - 1


def served(
    season: Season, model: Callable[[int], Answers], states: Sequence[State], slot: int
) -> np.ndarray:
    """Margins that the rows of a slot were answered with, each by the state of its moment."""
    place, width = _state(season, states, slot), season.task.width
    margin = np.empty((len(place), width) if width > 1 else len(place))
    for number in np.unique(place):
        rows, state = place == number, states[number]
        margin[rows] = model(state.as_of).of(slot)[rows] + state.shift
    return margin


def blocked(scene: Scene, slot: int, challenger: np.ndarray, champion: np.ndarray) -> str | None:
    """Why the gates that compare a challenger with the champion refuse it; None if they do not.

    Args:
        slot: the newest matured period, which the challenger has not seen.
        challenger, champion: margins of its rows.
    """
    held, gates = scene.season.slots[slot].rows, scene.params.gates
    task = scene.season.task
    own, other = (answers_of(margin, task) for margin in (challenger, champion))
    given = (held, own, other)
    ranks = ("not_worse_than_champion", *given, gates.champion_margin, scene.draws, task)
    loses = ("log_loss", *given, gates.log_loss_margin, scene.draws, task)
    verdicts = (no_worse_ranking(*ranks), no_more_loss(*loses))
    return next((verdict.reason for verdict in verdicts if not verdict.passed), None)


def _told(scene: Scene, slot: int, margin: np.ndarray) -> Week:
    """How good the answers were."""
    rows, task = scene.season.slots[slot].rows, scene.season.task
    score, period = answers_of(margin, task), scene.season.slots[slot].period.name
    cost = float(_costs(rows.label, score, task, scene.params).mean())
    return Week(period, measure(rows.label, score, task), cost, len(rows))


def _costs(label: np.ndarray, score: np.ndarray, task: Task, params: Params) -> np.ndarray:
    """What each row's answer costs, see `Week`, shape (n,)."""
    if task.kind == "regression":
        return task.losses(label, score)
    if task.classes:
        return np.asarray(score.argmax(axis=1) != label)
    positive, costs = score >= decision_threshold(params), params.decision
    ratio = costs.cost_false_negative / costs.cost_false_positive
    return np.where(label == 1, ratio * ~positive, positive)
