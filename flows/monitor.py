"""What happened in a period: what every monitor says, and the decision that follows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.events import emit_event

from data.digests import canonical_json, write_atomically
from data.errors import EvergreenError
from data.periods import Period
from data.verdicts import Finding, find
from flows.project import Project
from flows.steps import Outcome, in_flow, show, step
from flows.watch import watch
from models import artifact
from models.governor import Action, Decision, Watched, decide
from models.registry import CHAMPION
from models.version import Version

DRIFT_DETECTED = "evergreen.drift.detected"


@dataclass(frozen=True)
class MonitorReport:
    """Everything said of one period; kept as JSON under `reports/`."""

    period: str
    version: str
    served: int
    findings: tuple[Finding, ...]
    decision: Decision

    @property
    def message(self) -> str:
        said = ", ".join(f"{found.monitor} {found.verdict}" for found in self.findings)
        return f"{self.period}: {self.decision.action} ({self.decision.reason}); {said}"

    def to_markdown(self) -> str:
        """A page people read."""
        lines = [
            f"# {self.period}: {self.decision.action}",
            f"Version {self.version} answered {self.served} requests. {self.decision.reason}.",
        ]
        lines += [f"**{f.monitor}** {f.verdict}: {f.reason}." for f in self.findings]
        if drift := find(self.findings, "feature_drift"):
            table = ["| feature | PSI | usual up to |", "|---|---|---|"]
            columns = drift.evidence.get("columns", [])
            table += [f"| {c['name']} | {c['psi']:.3f} | {c['limit']:.3f} |" for c in columns]
            lines.append("\n".join(table))
        return "\n\n".join(lines)


def run_monitor(project: Project, period: str | None = None) -> MonitorReport:
    """Watch a period, decide, keep the report, and announce a retrain if one is due.

    Raises:
        EvergreenError: if nothing serves, or the period has not been ingested.
    """
    chosen = Period.parse(period) if period else project.newest_labelled()
    champion = project.registry.alias(CHAMPION)
    if champion is None:
        raise EvergreenError("nothing serves, so nothing can be watched: run `evergreen retrain`")
    report = step(judge, project, chosen, champion)
    path = _folder(project) / f"{report.period}-v{report.version}.json"
    write_atomically(path, canonical_json(asdict(report)))
    show("monitor", report.to_markdown(), f"{chosen}: {report.decision.reason}")
    for found in report.findings:
        print(f"{chosen}: {found.monitor} {found.verdict}, {found.reason}")
    print(f"{chosen}: {report.decision.action}, {report.decision.reason}")
    if report.decision.action is Action.RETRAIN:
        announce(project, report)
    return report


def judge(project: Project, period: Period, champion: Version) -> MonitorReport:
    """The report on a period, without any effect."""
    model = artifact.load(project.registry.folder(champion))
    before = _history(project, champion, period)
    seen = watch(project, period, champion, model, before)
    learned_until = Period.parse(model.training["holdout"][-1])
    history = [*before, Watched(period, seen.findings)]
    decision = decide(history, learned_until, project.params.governor)
    return MonitorReport(period.name, champion.number, seen.served, seen.findings, decision)


def _history(project: Project, champion: Version, before: Period) -> list[Watched]:
    """What was said of this champion in earlier periods, oldest first."""
    found = []
    for content in reports(project):
        period = Period.parse(content["period"])
        if content["version"] == champion.number and period < before:
            findings = tuple(Finding.from_json(said) for said in content["findings"])
            found.append(Watched(period, findings, Action(content["decision"]["action"])))
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
