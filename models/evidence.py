"""What a challenger is judged by: rows that the gates read themselves, and a model of their own.

Nothing here believes what a training run says of itself. The windows follow from `as_of`, the rows
come from the verified partitions, features are fitted again, and a plain boosted model is trained
on them: the yardstick, so that a fault of a training (its labels, rows, features, parameters) shows
even where there is no champion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from data import features, matrix, windows
from data.gate_params import Gates
from data.params import Logistic, Params, Ridge
from data.partitions import Partitions
from data.problem import Problem
from data.task import Task
from data.windows import Labelled
from models import calibrate, rolling
from models.artifact import Artifact
from models.calibrate import Calibration
from models.candidates import CANDIDATES, CHALLENGER, LOGISTIC, RIDGE, linear_name
from models.quality import at_level
from models.rolling import LABEL, PERIOD
from models.slices import Scored, SliceFinding, findings
from models.yardstick import Noise, Seen, Yardstick, apart, noise

YARDSTICK = "yardstick"
DEFAULTS = {LOGISTIC: Logistic, RIDGE: Ridge}

NO_CALIBRATION = Calibration("none")


def gather(problem: Problem, partitions: Partitions, params: Params, as_of: datetime) -> Seen:
    """Read what may be learned from at `as_of`.

    Raises:
        EvergreenError: as `windows.select` and `Partitions` do.
    """
    chosen = windows.select(partitions, problem, as_of, params.train)
    past = matrix.count(problem, partitions, chosen.train, as_of)
    stride, parts, labels = -(-len(past) // params.gates.past_rows), [], []
    for part in windows.stream(partitions, problem, chosen.train, as_of):
        parts.append(part.take(np.arange(len(part)) % stride == 0))
        labels.append(part.label)
    task = problem.task.scaled(np.concatenate(labels))
    found = windows.fingerprint(partitions, chosen.periods, as_of)
    return Seen(chosen, windows.joined(problem, parts), len(past), task, past.fit(), found)


def calibration_due(table: pd.DataFrame, seen: Seen, params: Params) -> Calibration:
    """The calibration that the rolling scores of a training lead to, see `models.train.choose`."""
    if not len(table):
        return NO_CALIBRATION
    periods = rolling.origins(list(seen.windows.train), params).calibration
    rows = table[table[PERIOD].isin([period.name for period in periods])]
    label, period = rows[LABEL].to_numpy(), rows[PERIOD].to_numpy()
    score = seen.task.take(rows, CHALLENGER)
    return calibrate.decide(params.calibration.method, score, label, period, seen.task)


@dataclass(frozen=True)
class Case:
    """One challenger before the gates.

    Attributes:
        challenger: the artefact that would serve.
        champion: what serves now, if anything.
        seen: the training rows; holdout: the untouched ones.
        scores: the simpler candidates' answers for the holdout.
        decision: the threshold that the costs lead to, of two outcomes.
        calibration: that the training's rolling scores lead to.
        chance: what a retrain changes by chance; None: it is measured.
        seed: of bootstraps, drawn rows and the yardstick.
    """

    problem: Problem
    challenger: Artifact
    champion: Artifact | None
    seen: Seen
    holdout: Labelled
    scores: Mapping[str, np.ndarray]
    params: Gates
    decision: float
    seed: int
    calibration: Calibration = NO_CALIBRATION
    chance: Noise | None = None

    @property
    def task(self) -> Task:
        """At the scale of the training rows."""
        return self.seen.task

    @cached_property
    def score(self) -> np.ndarray:
        """The challenger's answers for the holdout, see `data.task`."""
        return self.challenger.score(self.holdout.columns)

    @cached_property
    def past_score(self) -> np.ndarray:
        """Those for the training rows."""
        return self.challenger.score(self.seen.rows.columns)

    @cached_property
    def champion_score(self) -> np.ndarray | None:
        return self.champion.score(self.holdout.columns) if self.champion else None

    @cached_property
    def yardstick(self) -> Yardstick:
        return Yardstick.fit(self.seen, self.params, self.seed)

    @cached_property
    def yardstick_score(self) -> np.ndarray:
        return self.yardstick.score(self.holdout.columns)

    @cached_property
    def yardstick_past_score(self) -> np.ndarray:
        return self.yardstick.predict(self.seen.values)

    @cached_property
    def yardstick_apart_score(self) -> np.ndarray:
        """The same, each day's from a yardstick that was trained on other days."""
        return apart(self.seen, self.params, self.seed)

    @cached_property
    def plain_score(self) -> np.ndarray:
        """Answers of a linear model of the gates' own to the held-out rows."""
        candidate = CANDIDATES[linear_name(self.task)]
        settings = DEFAULTS[candidate.name]().model_dump()
        seen = self.seen
        given = (self.task, seen.features, seen.values, seen.rows.label)
        model = candidate.train(*given, settings, self.seed)
        return model.predict(features.transform(seen.features, self.holdout.columns))

    @cached_property
    def compared(self) -> tuple[str, np.ndarray]:
        """Name and holdout answers of the champion, or of the yardstick without one."""
        if self.champion_score is None:
            return YARDSTICK, self.yardstick_score
        return "champion", self.champion_score

    @cached_property
    def retrain_noise(self) -> Noise:
        """What chance alone does to a retrain of these rows, times the factor that is allowed."""
        if self.chance is not None:
            return self.chance
        found = noise(self.yardstick, self.seen, self.holdout, self.problem, self.params, self.seed)
        return found.times(self.params)

    @cached_property
    def optimism(self) -> float:
        """Loss that the yardstick has less in training than the challenger, and not held out.

        At the rows' own level; 0 where the challenger fits its training rows no looser.
        """
        rows = (self.seen.rows, self.past_score, self.yardstick_past_score), (
            self.holdout, self.score, self.yardstick_score)  # fmt: skip
        there, here = (self._beyond(*each) for each in rows)
        return max(0.0, there - here)

    def _beyond(self, rows: Labelled, own: np.ndarray, other: np.ndarray) -> float:
        """The mean loss of a score beyond that of another, each at the level of the rows."""
        mine, its = (self.task.losses(rows.label, at_level(rows.label, score, self.task)).mean()
                     for score in (own, other))  # fmt: skip
        return float(mine - its)

    @cached_property
    def slices(self) -> tuple[SliceFinding, ...]:
        past = Scored(self.seen.rows, self.past_score, self.yardstick_past_score)
        held = Scored(self.holdout, self.score, self.compared[1])
        unseen = replace(held, other=self.yardstick_score)
        needed = self.params.slice_past_rows, self.params.slice_rows
        chance = self.retrain_noise.bias
        # Without optimism there is nothing to share out: no further yardsticks are trained.
        apart = self.yardstick_apart_score if self.optimism else self.yardstick_past_score
        return findings(self.problem, self.task, past, held, unseen, apart, needed, self.draws,
                        chance)  # fmt: skip

    @property
    def draws(self) -> dict[str, Any]:
        """Of every bootstrap."""
        samples, confidence = self.params.bootstrap_samples, self.params.confidence
        return {"samples": samples, "confidence": confidence, "seed": self.seed}
