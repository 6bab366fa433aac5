"""What the monitors say in a replay: those that a decision may follow from, by their own functions.

Of the others `skew`, `endpoint` and `label_arrival` watch servers and deliveries, which a replay
does not have; `model_age` is a rule of the governor; `estimated_quality` decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from data import drift, features, soundness
from data.drift import FEATURE_DRIFT, SCORE_DRIFT
from data.params import Params
from data.reference import Reference
from data.soundness import CONTRACT
from data.verdicts import Finding, find
from models import concept, levels, monitors, slices
from models.concept import CONCEPT_DRIFT
from models.levels import CALIBRATION
from models.monitors import QUALITY, Judged
from models.quality import answers
from models.replay import Season
from models.scene import Lived

MONITORS = (CONTRACT, FEATURE_DRIFT, SCORE_DRIFT, QUALITY, CALIBRATION, CONCEPT_DRIFT)


@dataclass
class Overseer:
    """Watches one season; profiles are kept once read.

    Attributes:
        profile: slot -> the profile of the model as of it.
    """

    season: Season
    params: Params
    profile: Callable[[int], Reference]
    _read: dict[int, Reference] = field(default_factory=dict)

    def __call__(self, lived: Lived) -> tuple[Finding, ...]:
        """The findings about a slot, as `flows.watch` has them."""
        champion, limits = lived.champion, self.params.monitor
        if champion not in self._read:
            self._read[champion] = self.profile(champion)
        usual, slot = self._read[champion], self.season.slots[lived.slot].rows
        judged, fitted = self._judged(lived), self.season.features(range(champion))
        matrix = features.transform(fitted, slot.take(lived.mine).columns)
        rate, minimum = limits.false_alarm_rate, limits.minimum_rows
        report = drift.compare(usual, matrix, judged.score, minimum, rate)
        excluded = slot.excluded / max(len(slot) + slot.excluded, 1)
        return (
            soundness.contract(usual, slot.columns, len(slot), excluded, limits, slot.label),
            report.finding(),
            report.score_finding(find(lived.last, SCORE_DRIFT)),
            monitors.quality(judged, usual, self.params, find(lived.last, QUALITY)),
            levels.calibration(judged, usual, limits, find(lived.last, CALIBRATION)),
            concept.concept_drift(usual.daily, lived.daily, rate, minimum, judged.task),
        )

    def _judged(self, lived: Lived) -> Judged:
        """What the champion answered, with its labels: of a period that is due none is missing."""
        season, task = self.season, self.season.task_of(lived.champion)
        rows = season.slots[lived.slot].rows.take(lived.mine)
        score, problem = answers(lived.margin[lived.mine], task), season.problem
        values = {name: slices.values(problem, name, rows.columns) for name in problem.slices}
        return Judged(task, rows.label, score, rows.day, len(rows), values)
