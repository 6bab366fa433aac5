"""What a replay came to: every policy over all its lives, held against even schedules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.periods import Period
from models.bootstrap import Interval, block_bootstrap
from models.lives import Life, losses
from models.policies import ALWAYS, NEVER, evenly
from models.scene import Scene

# Even schedules of one count differ by when they begin: these are averaged.
PHASES = 5
# Neighbouring periods are drawn together: their weather is the same.
BLOCK = 4
SAMPLES, CONFIDENCE, SEED = 2000, 0.9, 0


@dataclass(frozen=True)
class Versus:
    """A policy's loss minus that of even schedules with as many retrains.

    Attributes:
        difference: in mean, with an interval over blocks of periods; below 0 the policy is better.
        starts: season -> mean difference over its seeds.
    """

    difference: Interval
    starts: Mapping[str, float]

    @property
    def better(self) -> int:
        return sum(value < 0 for value in self.starts.values())


@dataclass(frozen=True)
class Line:
    """One policy, in mean over its lives.

    Attributes:
        regret: 0 is `always`, 1 is `never`; the mean over the lives.
        vain: share of retrains that did not take over or did not lower the loss after.
        alarms: of the monitor that it goes by, per life; None for a policy that does not watch.
        false_alarms: share of these after which a new model was no better than the champion.
        delay: periods from when a retrain was shown to be worth it to the next one.
        missed: how often it was worth it and none came, per life.
        evenly, evenly_level: against even schedules without, and with recalibration.
        cost: of a life, in the units of the prices.
    """

    policy: str
    lives: int
    log_loss: float
    brier: float | None
    roc_auc: float
    regret: float
    retrains: float
    recalibrations: float
    vain: float | None
    alarms: float | None
    false_alarms: float | None
    delay: float | None
    missed: float
    seconds: float
    evenly: Versus | None
    evenly_level: Versus | None
    cost: float


@dataclass(frozen=True)
class Prices:
    """What a retrain costs, and what an answer does in the unit of `models.lives.Week.cost`."""

    retrain: float
    error: float

    def of(self, life: Life) -> float:
        errors = sum(week.cost * week.rows for week in life.weeks)
        return self.retrain * life.retrains + self.error * errors


@dataclass(frozen=True)
class Evens:
    """Even schedules of the same seasons: (season, seed, count, level) -> loss of each period,
    in mean over the phases."""

    losses: Mapping[tuple[str, int, int, bool], np.ndarray]

    @classmethod
    def of(
        cls, scenes: Iterable[Scene], lives: Iterable[Life], done: Callable[[], object]
    ) -> "Evens":
        """Those with as many retrains as the lives have; `done` is called after each scene."""
        found, told = {}, list(lives)
        for scene in scenes:
            name = scene.season.name
            counts = {x.retrains for x in told if (x.season, x.seed) == (name, scene.seed)}
            for count in sorted(counts - {0, len(scene.season.decisions)}):
                for level in (False, True):
                    found[name, scene.seed, count, level] = _even(scene, count, level)
            done()
        return cls(found)

    def summary(self) -> list[dict[str, Any]]:
        """Mean loss of each count, where there are even schedules of it."""
        found: dict[tuple[int, bool], list[float]] = {}
        for (_, _, count, level), values in self.losses.items():
            found.setdefault((count, level), []).append(float(values.mean()))
        return [
            {"retrains": count, "level": level, "log_loss": float(np.mean(means)),
             "lives": len(means)}
            for (count, level), means in sorted(found.items())
        ]  # fmt: skip

    def versus(self, lives: Sequence[Life], level: bool) -> Versus | None:
        """The lives of one policy against them; None where there is nothing to compare with."""
        differences, names = [], []
        starts: dict[str, list[float]] = {}
        for life in lives:
            other = self.losses.get((life.season, life.seed, life.retrains, level))
            if other is None:
                return None
            own = [week.quality.log_loss for week in life.weeks]
            differences.append(np.array(own) - other)
            names += [week.period for week in life.weeks]
            starts.setdefault(life.season, []).append(differences[-1].mean())
        calendar = {name: i // BLOCK for i, name in enumerate(sorted(set(names)))}
        block = np.array([calendar[name] for name in names])
        values = np.concatenate(differences)
        interval = block_bootstrap(values, block, SAMPLES, CONFIDENCE, SEED)
        return Versus(interval, {name: float(np.mean(found)) for name, found in starts.items()})


def _even(scene: Scene, count: int, level: bool) -> np.ndarray:
    """Loss of each period, shape (periods,)."""
    turns, found = len(scene.season.decisions), []
    for phase in range(PHASES):
        policy = evenly(count, turns, (phase + 0.5) / PHASES, level)
        found.append(losses(scene, policy))
    return np.asarray(np.mean(found, axis=0))


def lines(lives: Sequence[Life], evens: Evens, prices: Prices) -> list[Line]:
    """One line for each policy, in the order of their first lives."""
    by_policy: dict[str, list[Life]] = {}
    for life in lives:
        by_policy.setdefault(life.policy, []).append(life)
    ends = {
        (life.season, life.seed, life.policy): life.mean("log_loss")
        for life in lives
        if life.policy in (ALWAYS, NEVER)
    }
    return [_line(name, found, ends, evens, prices) for name, found in by_policy.items()]


def _line(
    name: str,
    lives: Sequence[Life],
    ends: Mapping[tuple[str, int, str], float],
    evens: Evens,
    prices: Prices,
) -> Line:
    retrains = sum(life.retrains for life in lives)
    waits = [delays(life) for life in lives]
    found = [wait for told, _ in waits for wait in told]
    alarms = [week for life in lives for week in life.weeks if week.alarm]
    briers = [b for life in lives if (b := life.mean_if_known("brier")) is not None]
    false = [week for week in alarms if week.gain and week.gain.value <= 0]

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return Line(
        policy=name,
        lives=len(lives),
        log_loss=mean(life.mean("log_loss") for life in lives),
        brier=mean(briers) if len(briers) == len(lives) else None,
        roc_auc=mean(life.mean("roc_auc") for life in lives),
        regret=mean(_regret(life, ends) for life in lives),
        retrains=retrains / len(lives),
        recalibrations=mean(life.recalibrations for life in lives),
        vain=sum(life.vain for life in lives) / retrains if retrains else None,
        alarms=len(alarms) / len(lives) if alarms else None,
        false_alarms=len(false) / len(alarms) if alarms else None,
        delay=mean(found) if found else None,
        missed=mean(missed for _, missed in waits),
        seconds=mean(life.seconds for life in lives),
        evenly=evens.versus(lives, False),
        evenly_level=evens.versus(lives, True),
        cost=mean(prices.of(life) for life in lives),
    )


def _regret(life: Life, ends: Mapping[tuple[str, int, str], float]) -> float:
    """Where the loss lies between `always` (0) and `never` (1) of the same season and seed."""
    least, most = (ends[life.season, life.seed, policy] for policy in (ALWAYS, NEVER))
    return (life.mean("log_loss") - least) / (most - least)


def delays(life: Life) -> tuple[list[int], int]:
    """Periods from when a retrain was shown to be worth it (the whole interval of its gain above
    0) until one was promoted; and how often none came any more."""
    found, since = [], None
    for turn, week in enumerate(life.weeks):
        if since is None and week.gain and week.gain.low > 0:
            since = turn
        if week.promoted and since is not None:
            found.append(turn - since)
        if week.promoted:
            since = None
    return found, int(since is not None)


def quarters(lives: Sequence[Life]) -> dict[str, dict[str, float]]:
    """Policy -> quarter of the year -> mean ROC-AUC of its periods, over all lives.

    A period is of the quarter that its middle is in, as ISO 8601 has it of weeks and years.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for life in lives:
        for week in life.weeks:
            period, auc = Period.parse(week.period), week.quality.roc_auc
            if auc is not None:
                middle = period.start + (period.end - period.start) / 2
                quarter = f"Q{(middle.month - 1) // 3 + 1}"
                found.setdefault(life.policy, {}).setdefault(quarter, []).append(auc)
    return {policy: {quarter: float(np.mean(values)) for quarter, values in sorted(told.items())}
            for policy, told in found.items()}  # fmt: skip


def recommend(found: Sequence[Line]) -> Line:
    """The policy that costs least; of equal ones the one with fewer retrains."""
    return min(found, key=lambda line: (line.cost, line.retrains))
