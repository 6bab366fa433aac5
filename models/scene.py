"""What every policy is replayed on: a season with one seed, its models' answers, its monitors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.params import Params
from data.reference import Daily
from data.verdicts import Finding
from models.bootstrap import Interval, block_bootstrap
from models.quality import answers as answers_of
from models.recalibrate import learn
from models.replay import Answers, Season

# Retrains are judged by the periods that follow; a further one is another model's.
HORIZON = 4


@dataclass(frozen=True)
class Lived:
    """What is known of a champion when the labels of a slot are.

    Attributes:
        champion: the slot that its model was judged on.
        margin: served ones of all rows of the slot, shape (n,) or (n, classes).
        mine: rows that the champion answered at its present level, shape (n,).
        daily: its error on every day since it began, at whatever level.
        last: what was said of it after the slot before.
    """

    slot: int
    champion: int
    margin: np.ndarray
    mine: np.ndarray
    daily: Daily
    last: tuple[Finding, ...]


Watch = Callable[[Lived], tuple[Finding, ...]]


@dataclass
class Scene:
    """One season with one seed: what every policy is replayed on; answers are kept once read.

    Attributes:
        answers: slot -> answers of the model as of it.
        watch: what the monitors say.
    """

    season: Season
    seed: int
    params: Params
    answers: Callable[[int], Answers]
    watch: Watch
    _read: dict[int, Answers] = field(default_factory=dict)

    def model(self, as_of: int) -> Answers:
        if as_of not in self._read:
            self._read[as_of] = self.answers(as_of)
        return self._read[as_of]

    def shift(self, as_of: int, slot: int) -> np.ndarray:
        """What a recalibration after `slot` adds to a model's margins."""
        label, margin = self.season.slots[slot].rows.label, self.model(as_of).of(slot)
        return learn(label, margin, self.params.governor.recalibration_shrink, self.season.task)

    def losses(self, as_of: int, slot: int, level: bool) -> np.ndarray:
        """Loss of each row (n,) of a slot, answered by one model; with `level`, recalibrated
        after the slot before."""
        shift = self.shift(as_of, slot - 1) if level and slot > as_of else 0.0
        margin = self.model(as_of).of(slot) + shift
        task = self.season.task
        return task.losses(self.season.slots[slot].rows.label, answers_of(margin, task))

    def gain(self, champion: int, slot: int, level: bool) -> Interval:
        """How much less loss the model as of `slot` has than the champion, over the periods
        that follow."""
        ahead = range(slot + 1, min(slot + 1 + HORIZON, len(self.season.slots)))
        parts = [self.losses(champion, s, level) - self.losses(slot, s, level) for s in ahead]
        days = [self.season.slots[s].rows.day for s in ahead]
        return block_bootstrap(np.concatenate(parts), np.concatenate(days), **self.draws)

    @property
    def draws(self) -> dict[str, Any]:
        """Of every bootstrap."""
        gates, seed = self.params.gates, self.params.train.seed
        return {"samples": gates.bootstrap_samples, "confidence": gates.confidence, "seed": seed}
