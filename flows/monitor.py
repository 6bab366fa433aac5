"""What happened in a period: drift, real quality, and the decision that follows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import flow
from prefect.events import emit_event

from bento import predictions
from data.contracts import KEY, to_columns
from data.digests import canonical_json, write_atomically
from data.drift import DriftReport, Verdict, compare
from data.errors import EvergreenError
from data.labels import known
from data.periods import Period, parse_as_of
from flows.governor import Action, Decision, Watched, decide
from flows.project import Project
from flows.steps import Outcome, in_flow, show, step
from models import artifact
from models.artifact import Artifact
from models.quality import Interval, Quality, block_bootstrap, log_losses, measure
from models.registry import CHAMPION
from models.version import Version

DRIFT_DETECTED = "evergreen.drift.detected"


@dataclass(frozen=True)
class QualityReport:
    """Real quality of the served answers whose labels had matured.

    Attributes:
        coverage: share of the answers with a matured label among those that can have one.
        missing: answers whose label has not matured.
    """

    verdict: Verdict
    quality: Quality | None
    log_loss: Interval | None
    coverage: float
    missing: int
    reason: str


@dataclass(frozen=True)
class MonitorReport:
    """Everything said of one period; kept as JSON under `reports/`."""

    period: str
    version: str
    served: int
    excluded_share: float | None
    drift: DriftReport
    quality: QualityReport
    trouble: str | None
    decision: Decision

    @property
    def message(self) -> str:
        decision, drift = self.decision, self.drift
        said = f"drift {drift.verdict} ({drift.reason}), quality {self.quality.verdict}"
        return f"{self.period}: {decision.action} ({decision.reason}); {said}"

    def to_markdown(self) -> str:
        """A page people read."""
        quality, drift = self.quality.quality, self.drift
        lines = [
            f"# {self.period}: {self.decision.action}",
            f"Version {self.version} answered {self.served} requests. {self.decision.reason}.",
            f"**Drift** {drift.verdict}: {drift.reason}.",
            f"**Quality** {self.quality.verdict}: {self.quality.reason}.",
            f"{self.quality.coverage:.1%} of the answers have a matured label, "
            f"{self.quality.missing} are missing.",
        ]
        if quality and quality.roc_auc is not None:
            lines.append(
                f"ROC-AUC {quality.roc_auc:.3f}, log loss {quality.log_loss:.3f}, observed rate "
                f"{quality.positive_rate:.3f} against {quality.mean_probability:.3f} predicted."
            )
        if self.excluded_share is not None:
            lines.append(f"{self.excluded_share:.1%} of the events will never have a label.")
        table = ["| feature | PSI | usual up to |", "|---|---|---|"]
        table += [f"| {c.name} | {c.psi:.3f} | {c.limit:.3f} |" for c in drift.columns]
        return "\n\n".join([*lines, "\n".join(table)])


def run_monitor(project: Project, period: str | None = None) -> MonitorReport:
    """Watch a period, decide, keep the report, and announce a retrain if one is due.

    Raises:
        EvergreenError: if nothing serves, or the period has not been ingested.
    """
    chosen = Period.parse(period) if period else project.newest_labelled()
    champion = project.registry.alias(CHAMPION)
    if champion is None:
        raise EvergreenError("nothing serves, so nothing can be watched: run `evergreen retrain`")
    model = artifact.load(project.registry.folder(champion))
    report = step(watch, project, chosen, champion, model)
    path = _folder(project) / f"{report.period}-v{report.version}.json"
    write_atomically(path, canonical_json(asdict(report)))
    show("monitor", report.to_markdown(), f"{chosen}: {report.decision.reason}")
    print(f"{chosen}: drift {report.drift.verdict}, {report.drift.reason}")
    print(f"{chosen}: quality {report.quality.verdict}, {report.quality.reason}")
    print(f"{chosen}: {report.decision.action}, {report.decision.reason}")
    if report.decision.action is Action.RETRAIN:
        announce(project, report)
    return report


def watch(project: Project, period: Period, champion: Version, model: Artifact) -> MonitorReport:
    """The report on a period, without any effect."""
    rows = project.partitions.rows(period)
    logged = _logged(project, period, champion)
    served = rows.merge(logged, how="inner", on=KEY, validate="1:1")
    columns = to_columns(served, project.problem.fields)
    scores = served["probability"].to_numpy(dtype=float)
    minimum = project.params.monitor.minimum_rows
    drift = compare(model.reference, model.matrix(columns), scores, minimum)
    labels = _matured(project, period)
    excluded = _excluded_share(labels)
    quality = _quality(project, period, served, labels)
    trouble = _trouble(project, excluded, drift)
    learned_until = Period.parse(model.training["holdout"][-1])
    history = [*_history(project, champion, period), Watched(period, drift.verdict, trouble)]
    return MonitorReport(
        period=period.name,
        version=champion.number,
        served=len(served),
        excluded_share=excluded,
        drift=drift,
        quality=quality,
        trouble=trouble,
        decision=decide(history, learned_until, project.params.governor),
    )


def _logged(project: Project, period: Period, champion: Version) -> pd.DataFrame:
    """Key and probability of every event of the period that the champion answered."""
    folder, columns = project.settings.serving.folder, ["logged_at", KEY, "probability"]
    predictions.archive(folder)
    found = predictions.table(folder, columns, period.start, period.end, champion.number)
    told = found[found[KEY].fillna("") != ""].sort_values("logged_at", kind="stable")
    return told.drop_duplicates(KEY, keep="last")[[KEY, "probability"]].astype({KEY: "str"})


def _matured(project: Project, period: Period) -> pd.DataFrame | None:
    """The labels known when the period's are due, one for each event; None before any arrives."""
    if not project.partitions.has_labels(period):
        return None
    as_of = parse_as_of(period.name, project.problem.label_delay)
    return known(project.partitions.labels(period), as_of)


def _quality(
    project: Project, period: Period, served: pd.DataFrame, labels: pd.DataFrame | None
) -> QualityReport:
    """Served answers against their matured labels."""
    if labels is None:
        reason = f"no labels of {period} have arrived"
        return QualityReport(Verdict.UNKNOWN, None, None, 0.0, len(served), reason)
    params, moment = project.params, project.problem.event_time
    told = served.merge(labels, how="left", on=KEY, validate="1:1").sort_values([moment, KEY])
    judged = told[told["label"].notna()]
    due = len(told) - int(told["excluded"].notna().sum())
    coverage, missing = len(judged) / due if due else 0.0, due - len(judged)
    limits = params.monitor
    if len(judged) < limits.minimum_rows or coverage < limits.minimum_label_coverage:
        reason = f"{len(judged)} of {due} answers have a matured label, {missing} are missing: "
        reason += f"too few to judge (at least {limits.minimum_label_coverage:.0%} of them and "
        reason += f"{limits.minimum_rows} are)"
        return QualityReport(Verdict.UNKNOWN, None, None, coverage, missing, reason)
    label = judged["label"].to_numpy(dtype=np.int8)
    probability = judged["probability"].to_numpy(dtype=float)
    day = judged[moment].to_numpy().astype("datetime64[D]")
    losses, gates = log_losses(label, probability), params.gates
    interval = block_bootstrap(
        losses, day, gates.bootstrap_samples, gates.confidence, params.train.seed
    )
    constant = log_losses(label, np.full(len(label), label.mean())).mean()
    worse = bool(interval.low > constant)
    verdict = Verdict.WARN if worse else Verdict.OK
    reason = f"log loss {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    reason += f", {'worse' if worse else 'no worse'} than the week's own rate ({constant:.3f})"
    reason += f", {missing} labels missing" if missing else ""
    quality = measure(label, probability)
    return QualityReport(verdict, quality, interval, coverage, missing, reason)


def _excluded_share(labels: pd.DataFrame | None) -> float | None:
    """Share of events that never get a label among those known; None before any is."""
    if labels is None or labels.empty:
        return None
    return float(labels["excluded"].notna().mean())


def _trouble(project: Project, excluded: float | None, drift: DriftReport) -> str | None:
    """Why a retrain would learn from broken data, if it would."""
    limit = project.params.monitor.excluded_share_limit
    if excluded is not None and excluded > limit:
        return f"{excluded:.0%} of events have no outcome (at most {limit:.0%} is usual)"
    if drift.verdict is Verdict.UNKNOWN:
        return drift.reason
    return None


def _history(project: Project, champion: Version, before: Period) -> list[Watched]:
    """What was said of this champion in earlier periods, oldest first."""
    found = []
    for content in reports(project):
        period = Period.parse(content["period"])
        if content["version"] == champion.number and period < before:
            verdict = Verdict(content["drift"]["verdict"])
            retrained = content["decision"]["action"] == Action.RETRAIN
            found.append(Watched(period, verdict, content["trouble"], retrained))
    return found


def reports(project: Project) -> list[dict[str, Any]]:
    """Every report kept, by period; there is one for each version that was watched in it."""
    found = [json.loads(path.read_text()) for path in _folder(project).glob("*.json")]
    return sorted(found, key=lambda content: (Period.parse(content["period"]), content["version"]))


def _folder(project: Project) -> Path:
    return project.settings.home / "reports"


def announce(project: Project, report: MonitorReport) -> None:
    """Emit the event that the automation answers with a retrain."""
    payload: Mapping[str, str] = {
        "as_of": report.period,
        "cause": report.decision.reason,
        "version": report.version,
    }
    resource = {
        "prefect.resource.id": f"evergreen.model.{project.problem.name}",
        "prefect.resource.name": project.problem.name,
    }
    if in_flow():
        emit_event(DRIFT_DETECTED, resource=resource, payload=dict(payload))
        print(f"announced {DRIFT_DETECTED}: {payload['cause']}")
    else:
        print(f"no Prefect server is up, so run `evergreen retrain --as-of {report.period}`")


@flow(name="monitor", flow_run_name="monitor {period}", log_prints=True)
def monitor(period: str | None = None) -> Outcome:
    """Watch a period: drift, real quality, and whether a retrain is due.

    Args:
        period: such as 2013-W10; without it the newest labelled period.
    """
    return Outcome(run_monitor(Project.open(), period).message)
