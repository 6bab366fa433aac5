"""What the monitors say of a period that the champion served; no effect on anything."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bento import predictions
from data.contracts import KEY, to_columns
from data.drift import compare
from data.labels import known
from data.periods import Period, parse_as_of
from data.verdicts import Finding, Verdict
from flows.project import Project
from models import monitors
from models.artifact import Artifact
from models.version import Version


@dataclass(frozen=True)
class Seen:
    """What the monitors said, and how many requests they looked at."""

    served: int
    findings: tuple[Finding, ...]


def watch(project: Project, period: Period, champion: Version, model: Artifact) -> Seen:
    """Every monitor's finding on the answers that the champion gave in a period."""
    rows = project.partitions.rows(period)
    logged = _logged(project, period, champion)
    served = rows.merge(logged, how="inner", on=KEY, validate="1:1")
    columns = to_columns(served, project.problem.fields)
    scores = served["probability"].to_numpy(dtype=float)
    minimum = project.params.monitor.minimum_rows
    drift = compare(model.reference, model.matrix(columns), scores, minimum)
    labels = matured(project, period)
    findings = (
        contract(project, labels),
        drift.finding(),
        quality(project, period, served, labels),
    )
    return Seen(len(served), findings)


def _logged(project: Project, period: Period, champion: Version) -> pd.DataFrame:
    """Key and probability of every event of the period that the champion answered."""
    folder, columns = project.settings.serving.folder, ["logged_at", KEY, "probability"]
    predictions.archive(folder)
    found = predictions.table(folder, columns, period.start, period.end, champion.number)
    told = found[found[KEY].fillna("") != ""].sort_values("logged_at", kind="stable")
    return told.drop_duplicates(KEY, keep="last")[[KEY, "probability"]].astype({KEY: "str"})


def matured(project: Project, period: Period) -> pd.DataFrame | None:
    """The labels known when the period's are due, one for each event; None before any arrives."""
    if not project.partitions.has_labels(period):
        return None
    as_of = parse_as_of(period.name, project.problem.label_delay)
    return known(project.partitions.labels(period), as_of)


def quality(
    project: Project, period: Period, served: pd.DataFrame, labels: pd.DataFrame | None
) -> Finding:
    """Served answers against their matured labels."""
    if labels is None:
        reason = f"no labels of {period} have arrived"
        return monitors.unknown_quality(0, len(served), 0.0, reason)
    params, moment = project.params, project.problem.event_time
    told = served.merge(labels, how="left", on=KEY, validate="1:1").sort_values([moment, KEY])
    judged = told[told["label"].notna()]
    due = len(told) - int(told["excluded"].notna().sum())
    return monitors.quality(
        judged["label"].to_numpy(dtype=np.int8),
        judged["probability"].to_numpy(dtype=float),
        judged[moment].to_numpy().astype("datetime64[D]"),
        due,
        params,
    )


def contract(project: Project, labels: pd.DataFrame | None) -> Finding:
    """Whether the data is what it should be: too many events without an outcome are not."""
    limit = project.params.monitor.excluded_share_limit
    if labels is None or labels.empty:
        reason = "no outcome is known"
        return Finding("contract", Verdict.UNKNOWN, None, limit, 0, reason)
    share = float(labels["excluded"].notna().mean())
    verdict = Verdict.ALARM if share > limit else Verdict.OK
    reason = f"{share:.0%} of events have no outcome (at most {limit:.0%} is usual)"
    return Finding("contract", verdict, share, limit, len(labels), reason)
