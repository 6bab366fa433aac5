"""What the monitors say of a period that the champion served; no effect on anything.

`flows.watched` gathers the evidence: rows, log, labels. What it means is said by pure functions of
`data` and `models`. A monitor that fails says UNKNOWN, and the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pandas as pd

from bento import observe, target
from data import contracts, drift, labels, soundness
from data.contracts import KEY, to_columns
from data.errors import EvergreenError
from data.periods import Period, span
from data.verdicts import Finding, Verdict, find
from flows.project import Project
from flows.watched import Evidence
from models import concept, estimated, levels, monitors, serving_monitors
from models.artifact import Artifact
from models.governor import Watched
from models.serving_monitors import Counted, Replayed, Traffic
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


def _asked(name: str, ask: "Ask", evidence: Evidence, last: Finding | None) -> Finding:
    """What a monitor says; UNKNOWN if it fails, and why answers are missing where it needs them."""
    try:
        found = ask(evidence, last)
        if found.verdict is Verdict.UNKNOWN and name in OF_ANSWERS and evidence.unmatched:
            return replace(found, reason=f"{found.reason}; {evidence.unmatched}")
        return found
    except Exception as error:
        reason = f"the monitor failed ({type(error).__name__}: {error})"
        return Finding(name, Verdict.UNKNOWN, None, None, 0, reason)


def contract(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `contract`: all rows of the period, answered or not."""
    told = evidence.labels
    excluded = None if told is None or told.empty else float(told["excluded"].notna().mean())
    outcomes = None if told is None else told["label"].dropna().to_numpy(dtype=np.float64)
    return soundness.contract(
        evidence.model.reference,
        to_columns(evidence.rows, evidence.project.problem.fields),
        len(evidence.rows),
        excluded,
        evidence.project.params.monitor,
        outcomes,
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
        model.task.take(chosen, model.task.answer),
        model.predict(logged),
        model.task,
    )
    return serving_monitors.skew(
        found, project.params.release.smoke_tolerance, project.params.monitor
    )


def endpoint(evidence: Evidence, last: Finding | None) -> Finding:
    """Monitor `endpoint`: the log of the period, and what was counted since the one before."""
    served, moment = evidence.served, evidence.project.problem.event_time
    days, answered = (frame[moment].dt.date for frame in (evidence.rows, served))
    silent = sorted(set(days) - set(answered)) if len(served) else []
    found = Traffic(
        len(evidence.rows),
        len(served),
        int(served["degraded"].sum()),
        tuple(map(str, silent)),
    ).counting(_counted(evidence.project), last)
    return serving_monitors.endpoint(found, evidence.project.params.monitor)


def _counted(project: Project) -> dict[str, Counted]:
    """The counters of the slots in use, by slot; nothing if one cannot be read."""
    serving = project.settings.serving
    try:
        used = [slot for slot, release in target.load(serving).slots.items() if release]
        found = observe.read(serving, datetime.now(UTC), used).slots if used else {}
    except (EvergreenError, OSError):
        return {}
    return {
        slot: Counted(
            counted.started,
            sum(counted.statuses.values()) + counted.lost,
            sum(n for s, n in counted.statuses.items() if s >= 500) + counted.lost,
            counted.answered,
            {str(bound): many for bound, many in counted.at_most.items()},
        )
        for slot, counted in found.items()
    }


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
    limits, learned = evidence.project.params.governor, len(evidence.model.training["train"])
    return serving_monitors.model_age(age, limits.oldest(learned))


def concept_drift(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `concept_drift`."""
    params, model = evidence.project.params.monitor, evidence.model
    given = (params.false_alarm_rate, params.minimum_rows, model.task)
    return concept.concept_drift(model.reference.daily, evidence.daily, *given)


def estimated_quality(evidence: Evidence, _: Finding | None) -> Finding:
    """Monitor `estimated_quality`."""
    minimum, model = evidence.project.params.monitor.minimum_rows, evidence.model
    return estimated.estimated_quality(model.reference, evidence.scores, minimum, model.task)


OF_ANSWERS = {
    drift.FEATURE_DRIFT, drift.SCORE_DRIFT, estimated.ESTIMATED, monitors.QUALITY,
    levels.CALIBRATION, concept.CONCEPT_DRIFT, serving_monitors.SKEW, serving_monitors.ENDPOINT,
}  # fmt: skip
Ask = Callable[[Evidence, Finding | None], Finding]
MONITORS: dict[str, Ask] = {
    soundness.CONTRACT: contract,
    drift.FEATURE_DRIFT: lambda evidence, _: evidence.drift.finding(),
    drift.SCORE_DRIFT: lambda evidence, last: evidence.drift.score_finding(last),
    estimated.ESTIMATED: estimated_quality,
    monitors.QUALITY: lambda evidence, last: monitors.quality(
        evidence.judged, evidence.model.reference, evidence.project.params, last
    ),
    levels.CALIBRATION: lambda evidence, last: levels.calibration(
        evidence.judged, evidence.model.reference, evidence.project.params.monitor, last
    ),
    concept.CONCEPT_DRIFT: concept_drift,
    serving_monitors.SKEW: skew,
    serving_monitors.ENDPOINT: endpoint,
    serving_monitors.LABEL_ARRIVAL: label_arrival,
    serving_monitors.MODEL_AGE: model_age,
}
