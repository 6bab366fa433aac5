"""What the monitors find, and what they alarm for when nothing is wrong: `make bench-monitors`.

A model of real weeks is watched on weeks resampled from them: each day is one of the reference's
days of the same weekday, scored by a model that did not see its block. That is the null; faults are
put into it. A season that returns is four of these weeks over and over, scored by models that
learned the weeks beside each, as one that learned the year before has; an unlearned season by
models that did not, which is no fault of the data, but one of the model. A monitor decides as in
production: feature drift two weeks running, contract and concept drift at once, the others by their
own two-week rule. The door (the ingest contract) is asked, too.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from data import features, matrix, soundness, windows
from data.admission import Terms, admit, examine
from data.contracts import KEY
from data.drift import FEATURE_DRIFT, SCORE_DRIFT, compare
from data.errors import RefusedError
from data.features import Feature
from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of, span
from data.reference import Reference
from data.task import BINARY
from data.verdicts import Finding, Verdict, find
from models import concept, levels, monitors, slices, tally
from models.candidates import CANDIDATES, XGBOOST
from models.monitors import Judged
from models.profile import profile
from tests.faults import (
    GROSS,
    HARMLESS,
    RELATION,
    SEASONS,
    SLOW,
    TOGETHER,
    UNLEARNED,
    Day,
    Fault,
    Stream,
)

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
WEEKS = 6
WITHIN = (1, 2, 4, 6)
DECIDING = ("contract", FEATURE_DRIFT, SCORE_DRIFT, "quality", "calibration", "concept_drift")
Score = Callable[[features.Columns], np.ndarray]


@dataclass(frozen=True)
class World:
    """A reference, its days, and how each day is scored by a model that did not see it.

    Attributes:
        days: weekday -> week, its block, and the rows of each such day.
        scorers: of each block of weeks that follow each other.
        beside: of each of as many groups of weeks that do not.
    """

    partitions: Partitions
    fitted: tuple[Feature, ...]
    reference: Reference
    days: Mapping[int, list[tuple[str, int, Day]]]
    scorers: Sequence[Score]
    beside: Sequence[Score]
    first: Period
    params: Params


def year(folder: Path) -> Partitions:
    partitions = Partitions(folder)
    for name in PROBLEM.periods():
        if Period.parse(name) not in set(partitions.periods()):
            ingest(PROBLEM, partitions, Period.parse(name), deliver(PROBLEM, Period.parse(name)))
    return partitions


def build(partitions: Partitions, first: str, last: str, params: Params) -> World:
    """The reference from the weeks `first` to `last`, made as training makes it."""
    weeks = span(Period.parse(first), Period.parse(last))
    as_of = parse_as_of(last, PROBLEM.label_delay)
    past = matrix.count(PROBLEM, partitions, weeks, as_of)
    fitted = past.fit()
    blocks = np.array_split(np.array(weeks, dtype=object), params.train.out_of_fold_blocks)
    scorers = [_scorer(past, block, params) for block in blocks]
    beside = [_scorer(past, weeks[i :: len(blocks)], params) for i in range(len(blocks))]
    days, scores = defaultdict(list), []
    for place, block in enumerate(blocks):
        for part in windows.stream(partitions, PROBLEM, block, as_of):
            scores.append(scorers[place](part.columns))
            for date in np.unique(part.day):
                cut = part.take(part.day == date)
                weekday = (date.astype(int) + 3) % 7
                day = Day(dict(cut.columns), cut.label)
                days[int(weekday)].append((str(part.period[0]), place, day))
    seen = past.matrix(fitted)
    reference = profile(past, fitted, seen, np.concatenate(scores), params.monitor.bins)
    return World(partitions, fitted, reference, days, scorers, beside, weeks[-1].next(), params)


def _scorer(past: matrix.Past, without: Sequence[Period], params: Params) -> Score:
    """A model of all weeks but these."""
    rest = [week for week in past.periods if week not in set(without)]
    own, settings = past.fit(rest), CANDIDATES[XGBOOST].settings(params)
    seen = past.matrix(own, rest)
    model = CANDIDATES[XGBOOST].train(
        PROBLEM.task, own, seen.values, seen.label, settings, params.train.seed
    )
    return lambda columns: model.predict(features.transform(own, columns))


@dataclass(frozen=True)
class Week:
    """A drawn week as the monitors see it."""

    columns: features.Columns
    label: np.ndarray
    score: np.ndarray
    day: np.ndarray


@dataclass(frozen=True)
class Return:
    """Weeks that come again.

    Attributes:
        learned: whether the model knows weeks beside each.
    """

    weeks: Sequence[str]
    learned: bool


def draw(
    world: World, period: Period, age: int, fault: Fault, stream: Stream, season: Return | None
) -> Week:
    """A week with the fault in it for `age` weeks; with a season only days of its weeks."""
    parts = []
    for weekday in range(7):
        pool = [d for d in world.days[weekday] if season is None or d[0] in season.weeks]
        week, block, day = pool[stream.random.integers(len(pool))]
        score_of = world.scorers[block]
        if season is not None and season.learned:
            score_of = world.beside[world.reference.periods.index(week) % len(world.beside)]
        date = np.datetime64(period.start + timedelta(days=weekday), "D")
        moment = day.columns["scheduled_departure"]
        moved = date.astype("datetime64[us]") + (moment - moment.astype("datetime64[D]"))
        changed = fault(day.put(scheduled_departure=moved), age, stream)
        score = score_of(changed.columns)
        parts.append((changed, score, np.full(len(changed), date)))
    columns = {n: np.concatenate([p[0].columns[n] for p in parts]) for n in parts[0][0].columns}
    return Week(columns, *(np.concatenate(v) for v in ([p[0].label for p in parts],
                [p[1] for p in parts], [p[2] for p in parts])))  # fmt: skip


def watch(world: World, weeks: Sequence[Week], last: Sequence[Finding]) -> list[Finding]:
    """What the monitors say of the last of these weeks."""
    week, params, reference = weeks[-1], world.params, world.reference
    limits = params.monitor
    report = compare(reference, features.transform(world.fitted, week.columns), week.score,
                     limits.minimum_rows, limits.false_alarm_rate)  # fmt: skip
    values = {name: slices.values(PROBLEM, name, week.columns) for name in PROBLEM.slices}
    judged = Judged(BINARY, week.label, week.score, week.day, len(week.label), values)
    daily = tally.joined(tally.residuals(w.label, w.score, w.day, BINARY) for w in weeks)
    return [
        soundness.contract(reference, week.columns, len(week.label), 0.0, limits),
        report.finding(),
        report.score_finding(find(last, SCORE_DRIFT)),
        monitors.quality(judged, reference, params, find(last, "quality")),
        levels.calibration(judged, reference, limits, find(last, "calibration")),
        concept.concept_drift(reference.daily, daily, limits.false_alarm_rate, 1, BINARY),
    ]


def decides(found: Finding, last: Sequence[Finding]) -> bool:
    """Whether something follows from it in production."""
    before = find(last, found.monitor)
    alarm = found.verdict is Verdict.ALARM
    if found.monitor != FEATURE_DRIFT:
        return alarm
    return alarm and before is not None and before.verdict is Verdict.ALARM


def run(world: World, fault: Fault, stream: Stream, season: Return | None) -> dict[str, int]:
    """Monitor -> the first week in which it decides, from 1."""
    weeks: list[Week] = []
    last: list[Finding] = []
    first: dict[str, int] = {}
    period = world.first
    for age in range(1, WEEKS + 1):
        weeks.append(draw(world, period, age, fault, stream, season))
        found = watch(world, weeks, last)
        for each in found:
            if decides(each, last):
                first.setdefault(each.monitor, age)
        last, period = found, period.next()
    return first


def door(world: World, fault: Fault, stream: Stream) -> bool:
    """Whether the ingest contract refuses the week."""
    week = draw(world, world.first, 1, fault, stream, None)
    keys = [f"{world.first}-{i}" for i in range(len(week.label))]
    rows = pd.DataFrame({KEY: keys, **week.columns})
    known = Before(world.partitions.folder, world.first)
    try:
        delivered = examine(PROBLEM, world.first, rows, "the week")
        admit(PROBLEM, known, delivered, Terms(world.params.contract), False)
    except RefusedError:
        return True
    return False


@dataclass(frozen=True)
class Before(Partitions):
    """The partitions before a week: the reference of a week that comes in order."""

    week: Period

    def periods(self) -> list[Period]:
        return [period for period in super().periods() if period < self.week]


def bench(world: World, names: Sequence[str], streams: int, doors: int) -> None:
    faults = {**GROSS, **RELATION, **SLOW, **HARMLESS, **UNLEARNED, **TOGETHER}
    table = Table("fault", *(f"<= {n}" for n in WITHIN), "door", "by", title=str(world.first))
    console = Console(width=150)
    for turn, name in enumerate(faults):
        if names and name not in names:
            continue
        quiet = name in HARMLESS
        count = streams * (4 if name == "nothing" else 1)
        found, refused = [], 0
        for i in range(count):
            drawn = turn - (name in UNLEARNED)  # the weeks of the season that returns
            stream = Stream(i, np.random.default_rng([20130101, drawn, i]))
            known = world.reference.periods
            start = int(stream.random.integers(len(known) - 3))
            season = None
            if name in SEASONS:
                season = Return(known[start : start + 4], learned=name == "seasonal return")
            found.append(run(world, faults[name], stream, season))
            if i < doors:
                refused += door(world, faults[name], Stream(i, np.random.default_rng(i)))
        by = Counter(monitor for first in found for monitor in first)
        if quiet:
            total = count * WEEKS
            share = sum(bool(first) for first in found) / total
            cells = [f"{share:.2%} a week", "", "", ""]
            said = ", ".join(f"{m} {n / total:.2%}" for m, n in by.most_common())
        else:
            when = np.array([min(first.values(), default=99) for first in found])
            cells = [f"{np.mean(when <= n):.0%}" for n in WITHIN]
            said = ", ".join(f"{m} {n / count:.0%}" for m, n in by.most_common())
        table.add_row(name, *cells, f"{refused}/{doors}", said)
        console.print(name, cells, said, highlight=False)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, help="partitions of the year; made anew without")
    parser.add_argument("--first", default="2013-W01")
    parser.add_argument("--last", default="2013-W25")
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--doors", type=int, default=6)
    parser.add_argument("--faults", nargs="*", default=[])
    arguments = parser.parse_args()
    began = perf_counter()
    with tempfile.TemporaryDirectory() as name:
        partitions = year(arguments.raw or Path(name))
        world = build(partitions, arguments.first, arguments.last, PARAMS)
        print(
            f"reference of {len(world.reference.periods)} weeks in {perf_counter() - began:.0f} s"
        )
        bench(world, arguments.faults, arguments.streams, arguments.doors)
    print(f"{perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
