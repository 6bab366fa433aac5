"""Past periods lived again: what every model that could have been trained would have answered.

The periods of a replay stand on a clock of their own. A season may start anywhere: the periods keep
their order and wrap round at the end, so that one year shows how a policy does in each season. A
period's labels are those that were known when they were due.

A model trained as of slot k has learned the slots before k, as in training; slot k is what it is
judged on. Which models serve is a policy's choice and changes no model, so that each is fitted
once, see `models.fits`, and any number of policies is replayed from their answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from time import thread_time

import numpy as np

from data import features, windows
from data.errors import EvergreenError
from data.features import Counts, Feature
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.task import Task
from data.windows import Labelled
from models.candidates import CANDIDATES, Settings
from models.fitted import Fitted

Moments = np.ndarray  # timedelta64[us] since the replay began


@dataclass(frozen=True)
class Slot:
    """One period at its place in a season.

    Attributes:
        end: when it is over.
        moment: when each row happens, shape (n,).
    """

    period: Period
    rows: Labelled
    end: np.timedelta64
    moment: Moments


@dataclass(frozen=True)
class Season:
    """Periods in the order in which they are lived.

    Attributes:
        first: slots that the first model learns; the one after them is what it is judged on.
    """

    problem: Problem
    slots: tuple[Slot, ...]
    first: int

    @property
    def name(self) -> str:
        return self.slots[0].period.name

    @property
    def decisions(self) -> range:
        """Slots after which something may be done that matters to a later one."""
        return range(self.first + 1, len(self.slots) - 1)

    @property
    def served(self) -> range:
        """Slots that a model answers."""
        return range(self.first + 1, len(self.slots))

    @property
    def fits(self) -> range:
        """Slots as of which a model may be trained."""
        return range(self.first, len(self.slots) - 1)

    def known(self, slot: int) -> np.timedelta64:
        """When the last label of a slot is known, and the decision about it is made."""
        return self.slots[slot].end + np.timedelta64(self.problem.label_delay)

    def stand_in(self, slot: int) -> Period:
        """The period that the clock shows: after the wrap, one that follows the last."""
        period = self.slots[0].period
        for _ in range(slot):
            period = period.next()
        return period

    @cached_property
    def task(self) -> Task:
        """The problem's, at the scale of what the first model learns."""
        return self.task_of(self.first)

    def task_of(self, as_of: int) -> Task:
        """The problem's, at the scale of what a model as of that slot learns."""
        learned = [slot.rows.label for slot in self.slots[:as_of]]
        return self.problem.task.scaled(np.concatenate(learned))

    @cached_property
    def counts(self) -> tuple[Counts, ...]:
        """What the features learn from each slot."""
        specs = self.problem.features
        return tuple(features.count(specs, s.rows.columns, s.rows.label) for s in self.slots)

    def features(self, learned: Iterable[int]) -> tuple[Feature, ...]:
        """The problem's features fitted on these slots."""
        counts = features.merge(self.counts[slot] for slot in learned)
        return features.fit_counts(self.problem.features, counts)


def read(problem: Problem, places: Mapping[Period, Partitions]) -> dict[Period, Labelled]:
    """The labelled rows of every period.

    Args:
        places: where each period's partition lies.
    """
    return {
        period: windows.load(partitions, problem, [period], period.end + problem.label_delay)
        for period, partitions in sorted(places.items())
    }


def season(problem: Problem, rows: Mapping[Period, Labelled], start: Period, first: int) -> Season:
    """All periods, from `start` on and round the end.

    Raises:
        EvergreenError: if `start` is not among them, or they are too few for one decision.
    """
    periods = sorted(rows)
    if start not in rows:
        raise EvergreenError(
            f"{start} cannot begin a replay of {periods[0]} to {periods[-1]}: choose one of these"
        )
    if len(periods) < first + 3:
        raise EvergreenError(
            f"{len(periods)} periods are too few for a replay whose first model learns {first}: "
            f"at least {first + 3} are needed"
        )
    turn = periods.index(start)
    slots, begin = [], timedelta(0)
    for period in [*periods[turn:], *periods[:turn]]:
        own = rows[period]
        happened = own.columns[problem.event_time].astype("datetime64[us]")
        moment = happened - np.datetime64(period.start, "us") + np.timedelta64(begin)
        begin += period.end - period.start
        slots.append(Slot(period, own, np.timedelta64(begin), moment))
    return Season(problem, tuple(slots), first)


@dataclass(frozen=True)
class Answers:
    """What one model says of every slot after those that it learned.

    Attributes:
        as_of: the slot that it is judged on, the first that it has not seen.
        margins: of each slot from `as_of` on, see `models.quality.margins`; one array each.
        seconds: CPU time of the fit.
    """

    as_of: int
    margins: tuple[np.ndarray, ...]
    seconds: float

    def of(self, slot: int) -> np.ndarray:
        """Margins of a slot's rows."""
        if slot < self.as_of:
            raise IndexError(f"slot {slot} was learned by the model as of {self.as_of}")
        return self.margins[slot - self.as_of]


def answers(season: Season, as_of: int, kind: str, settings: Settings, seed: int) -> Answers:
    """Train a model on the slots before `as_of` and ask it about all others."""
    began = thread_time()
    fitted, model = trained(season, range(as_of), kind, settings, seed)
    seconds = thread_time() - began
    later = [features.transform(fitted, slot.rows.columns) for slot in season.slots[as_of:]]
    kind_of = np.float64 if season.task.kind == "regression" else np.float32
    return Answers(as_of, tuple(model.margin(part).astype(kind_of) for part in later), seconds)


def trained(
    season: Season, learned: Sequence[int], kind: str, settings: Settings, seed: int
) -> tuple[tuple[Feature, ...], Fitted]:
    """A model of these slots, and the features that it takes."""
    fitted, seen = season.features(learned), [season.slots[slot].rows for slot in learned]
    matrix = np.concatenate([features.transform(fitted, rows.columns) for rows in seen])
    label = np.concatenate([rows.label for rows in seen])
    model = CANDIDATES[kind].train(season.problem.task, fitted, matrix, label, settings, seed)
    return fitted, model


def lengths(season: Season, as_of: int) -> Sequence[int]:
    """Rows of each slot from `as_of` on."""
    return [len(slot.rows) for slot in season.slots[as_of:]]
