"""What the monitors say of a period that the champion served; no effect on anything.

Here evidence is gathered: rows, log, labels, counters. What it means is said by pure functions of
`data` and `models`. A monitor that fails says UNKNOWN, and the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import msgspec
import numpy as np
import pandas as pd

from bento import observe, predictions
from data import contracts, drift, labels, soundness
from data.contracts import KEY, to_columns
from data.drift import DriftReport
from data.errors import EvergreenError
from data.features import Columns
from data.labels import known
from data.periods import Period, parse_as_of, span
from data.reference import Daily
from data.verdicts import Finding, Verdict, find
from flows.project import Project
from models import concept, monitors, serving_monitors, slices, tally
from models.artifact import Artifact
from models.governor import Watched
from models.monitors import Judged
from models.serving_monitors import Replayed, Traffic
from models.version import Version

SKEW_ROWS = 20_000  # of a period, evenly spaced
EARLIER = 4  # periods whose labels are counted again


@dataclass(frozen=True)
class Seen:
    """What the monitors said, and how many requests they looked at."""

    served: int
    findings: tuple[Finding, ...]


def watch(
    project: Project,
    period: Period,
    champion: Version,
    model: Artifact,
    history: Sequence[Watched] = (),
    family: Sequence[str] = (),
) -> Seen:
    """Every monitor's finding on the answers that the champion gave in a period.

    Args:
        history: what was said of the champion before, oldest first.
        family: numbers of all versions of the same training, whose levels alone differ; without
            them the champion's.

    Raises:
        EvergreenError: if the period has not been ingested, or its rows are damaged.
    """
    rows = project.partitions.rows(period)
    evidence = Evidence(project, period, champion, model, rows, tuple(family))
    last = history[-1].findings if history and history[-1].period == period.previous() else ()
    found = [_asked(name, ask, evidence, find(last, name)) for name, ask in MONITORS.items()]
    try:
        served = len(evidence.served)
    except (EvergreenError, OSError):
        served = 0
    return Seen(served, tuple(found))


def _asked(name: str, ask: "Ask", evidence: "Evidence", last: Finding | None) -> Finding:
    """What a monitor says; UNKNOWN if it fails."""
    try:
        return ask(evidence, last)
    except Exception as error:
        reason = f"the monitor failed ({type(error).__name__}: {error})"
        return Finding(name, Verdict.UNKNOWN, None, None, 0, reason)


@dataclass(frozen=True)
class Evidence:
    """What is known of a period, each part gathered when it is first asked for."""

    project: Project
    period: Period
    champion: Version
    model: Artifact
    rows: pd.DataFrame
    family: tuple[str, ...] = ()

    @property
    def learned_until(self) -> Period:
        """The newest period that the champion was trained or judged on."""
        return Period.parse(self.model.training["holdout"][-1])

    @property
    def due(self) -> datetime:
        """When all labels of the period are known."""
        return parse_as_of(self.period.name, self.project.problem.label_delay)

    @cached_property
    def logged(self) -> pd.DataFrame:
        """The last answer to every event of the period: key, probability, degraded, row."""
        wanted = ["probability", "degraded", "row"]
        return self._log(self.period.start, wanted, (self.champion.number,))

    @cached_property
    def served(self) -> pd.DataFrame:
        """Rows of the partition that were answered, with their answers."""
        return self.rows.merge(self.logged, how="inner", on=KEY, validate="1:1")

    @cached_property
    def columns(self) -> Columns:
        return to_columns(self.served, self.project.problem.fields)

    @cached_property
    def matrix(self) -> np.ndarray:
        return self.model.matrix(self.columns)

    @cached_property
    def scores(self) -> np.ndarray:
        return np.asarray(self.served["probability"].to_numpy(dtype=float))

    @cached_property
    def drift(self) -> DriftReport:
        params = self.project.params.monitor
        return drift.compare(
            self.model.reference,
            self.matrix,
            self.scores,
            params.minimum_rows,
            params.false_alarm_rate,
        )

    @cached_property
    def labels(self) -> pd.DataFrame | None:
        return matured(self.project, self.period, self.due)

    @cached_property
    def judged(self) -> Judged:
        return judged(self.project, self.period, self.served, self.labels)

    @cached_property
    def daily(self) -> Daily:
        """The champion's error on every labelled day since it learned, as known when this is due.

        What the same model answered at other levels counts, too. It is computed from the log each
        time, so that it can be told again at any time.
        """
        first = self.learned_until.next()
        versions = self.family or (self.champion.number,)
        answers = self._log(first.start, ["event_time", "probability"], versions)
        there = set(self.project.partitions.periods())
        parts = []
        for period in span(first, self.period):
            told = matured(self.project, period, self.due) if period in there else None
            if told is None:
                continue
            both = answers.merge(told[[KEY, "label"]].dropna(), on=KEY, validate="1:1")
            label, day = both["label"].to_numpy(), both["event_time"].to_numpy()
            parts.append(tally.residuals(label, both["probability"].to_numpy(), day))
        return tally.joined(parts)

    def _log(self, start: datetime, columns: list[str], versions: Sequence[str]) -> pd.DataFrame:
        folder = self.project.settings.serving.folder
        predictions.archive(folder)
        wanted = ["logged_at", KEY, *columns]
        found = predictions.table(folder, wanted, start, self.period.end, versions)
        told = found[found[KEY].fillna("") != ""].sort_values("logged_at", kind="stable")
        return told.drop_duplicates(KEY, keep="last")[[KEY, *columns]].astype({KEY: "str"})


def matured(project: Project, period: Period, due: datetime) -> pd.DataFrame | None:
    """The labels known at `due`, one for each event; None before any arrives."""
    if not project.partitions.has_labels(period):
        return None
    return known(project.partitions.labels(period), due)


def judged(
    project: Project, period: Period, served: pd.DataFrame, told: pd.DataFrame | None
) -> Judged:
    """Served answers with their matured labels."""
    nothing = np.empty(0)
    if told is None:
        reason = f"no labels of {period} have arrived"
        return Judged(nothing, nothing, nothing, len(served), why=reason)
    problem = project.problem
    every = served.merge(told, how="left", on=KEY, validate="1:1")
    every = every.sort_values([problem.event_time, KEY])
    found = every[every["label"].notna()]
    columns = to_columns(found, problem.fields)
    return Judged(
        found["label"].to_numpy(dtype=np.int8),
        found["probability"].to_numpy(dtype=float),
        found[problem.event_time].to_numpy().astype("datetime64[D]"),
        len(every) - int(every["excluded"].notna().sum()),
        {name: slices.values(problem, name, columns) for name in problem.slices},
    )


def contract(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `contract`: all rows of the period, answered or not."""
    told = evidence.labels
    excluded = None if told is None or told.empty else float(told["excluded"].notna().mean())
    return soundness.contract(
        evidence.model.reference.fields,
        to_columns(evidence.rows, evidence.project.problem.fields),
        len(evidence.rows),
        excluded,
        evidence.project.params.monitor,
    )


def skew(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `skew`: logged rows through training's path; degraded answers are not the model's."""
    project, model = evidence.project, evidence.model
    sound = evidence.served[~evidence.served["degraded"].astype(bool)]
    step = max(1, -(-len(sound) // SKEW_ROWS))
    chosen = sound.iloc[::step]
    sent = pd.DataFrame([msgspec.json.decode(row) for row in chosen["row"]])
    sent = sent.reindex(columns=[field.name for field in project.problem.fields])
    typed = contracts.typed(project.problem, sent.assign(**{KEY: chosen[KEY].to_numpy()}))
    logged = model.matrix(to_columns(typed.rows, project.problem.fields))
    found = Replayed(
        tuple(feature.name for feature in model.features),
        chosen[KEY].to_numpy(),
        logged,
        model.matrix(to_columns(chosen, project.problem.fields)),
        chosen["probability"].to_numpy(dtype=float),
        model.predict(logged),
    )
    return serving_monitors.skew(
        found, project.params.release.smoke_tolerance, project.params.monitor
    )


def endpoint(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `endpoint`: the log of the period, and the counters of what runs now."""
    served, moment = evidence.served, evidence.project.problem.event_time
    days, answered = (frame[moment].dt.date for frame in (evidence.rows, served))
    silent = sorted(set(days) - set(answered)) if len(served) else []
    found = Traffic(
        len(evidence.rows),
        len(served),
        int(served["degraded"].sum()),
        tuple(map(str, silent)),
        *_counted(evidence.project),
    )
    return serving_monitors.endpoint(found, evidence.project.params.monitor)


def _counted(project: Project) -> tuple[int | None, int, float | None]:
    """Requests, errors and the ninth decile of seconds of both slots since they began."""
    try:
        reading = observe.read(project.settings.serving, datetime.now(UTC))
    except (EvergreenError, OSError):
        return None, 0, None
    slots = reading.slots.values()
    requests = sum(sum(slot.statuses.values()) + slot.lost for slot in slots)
    errors = sum(n for slot in slots for s, n in slot.statuses.items() if s >= 500)
    errors += sum(slot.lost for slot in slots)
    answered = sum(slot.answered for slot in slots)
    bounds = sorted({bound for slot in slots for bound in slot.at_most})
    within = (b for b in bounds if sum(slot.at_most[b] for slot in slots) >= 0.9 * answered)
    return requests, errors, next(within, float("inf")) if answered else None


def label_arrival(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `label_arrival`: of the period when due, and of those before it by then."""
    partitions, period = evidence.project.partitions, evidence.period
    earlier = [p for p in partitions.periods() if p < period][-EARLIER:]
    before = {p.name: labels.coverage_of(partitions, p, evidence.due).share for p in earlier}
    found = labels.coverage_of(partitions, period, evidence.due)
    return serving_monitors.label_arrival(found, before, evidence.project.params.monitor)


def model_age(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `model_age`."""
    age = len(span(evidence.learned_until.next(), evidence.period))
    return serving_monitors.model_age(age, evidence.project.params.governor.maximum_age_periods)


def concept_drift(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `concept_drift`."""
    params, reference = evidence.project.params.monitor, evidence.model.reference
    return concept.concept_drift(
        reference.daily, evidence.daily, params.false_alarm_rate, params.minimum_rows
    )


Ask = Callable[[Evidence, Finding | None], Finding]
MONITORS: dict[str, Ask] = {
    soundness.CONTRACT: contract,
    drift.FEATURE_DRIFT: lambda evidence, _: evidence.drift.finding(),
    drift.SCORE_DRIFT: lambda evidence, last: evidence.drift.score_finding(last),
    monitors.ESTIMATED: lambda evidence, _: monitors.estimated_quality(
        evidence.model.reference, evidence.scores, evidence.project.params.monitor.minimum_rows
    ),
    monitors.QUALITY: lambda evidence, last: monitors.quality(
        evidence.judged, evidence.model.reference, evidence.project.params, last
    ),
    monitors.CALIBRATION: lambda evidence, last: monitors.calibration(
        evidence.judged, evidence.model.reference, evidence.project.params.monitor, last
    ),
    concept.CONCEPT_DRIFT: concept_drift,
    serving_monitors.SKEW: skew,
    serving_monitors.ENDPOINT: endpoint,
    serving_monitors.LABEL_ARRIVAL: label_arrival,
    serving_monitors.MODEL_AGE: model_age,
}
