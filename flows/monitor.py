"""What happened in a period: what every monitor says, and the decision that follows."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from prefect import flow

from data.digests import canonical_json, write_atomically
from data.errors import EvergreenError
from data.periods import Period
from data.task import BINARY, Task
from data.verdicts import Finding, Verdict, find
from flows import announce, governor, heartbeat, publish, troubles
from flows.forms import PeriodName, run_name
from flows.governor import Record
from flows.project import Project
from flows.reports import folder, newest, reports
from flows.steps import Outcome, patient, show
from flows.watch import watch
from models import artifact
from models.governor import Action, Decision, Watched, decide
from models.registry import CHAMPION
from models.version import Version


@dataclass(frozen=True)
class MonitorReport:
    """Everything said of one period; kept as JSON under `reports/`, with a page beside it.

    Attributes:
        trained: the version whose training the champion's is; another one if it is recalibrated.
        made_at: UTC, ISO text; task: of the model.
    """

    period: str
    version: str
    trained: str
    served: int
    findings: tuple[Finding, ...]
    decision: Decision
    made_at: str
    task: Task = BINARY

    @property
    def unknown(self) -> list[Finding]:
        return [found for found in self.findings if found.verdict is Verdict.UNKNOWN]

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
            table = ["| feature | PSI to the nearest period | usual up to |", "|---|---|---|"]
            columns = drift.evidence.get("columns", [])
            table += [f"| {c['name']} | {c['psi']:.3f} | {c['limit']:.3f} |" for c in columns]
            lines.append("\n".join(table))
        return "\n\n".join(lines)


def run_monitor(
    project: Project, period: str | None = None, leave: Action | None = None
) -> MonitorReport:
    """Watch a period, decide, keep the report, and announce what is due or unknown.

    Args:
        leave: is decided and not announced.

    Raises:
        EvergreenError: if nothing serves, or the period has not been ingested.
    """
    chosen = Period.parse(period) if period else project.newest_labelled()
    champion = serving(project)
    report = patient(judge, project, chosen, champion)
    content = json.loads(canonical_json(asdict(report)))
    path = folder(project) / f"{report.period}-v{report.version}.json"
    write_atomically(path, canonical_json(content))
    page = publish.page(project, content, reports(project), path)
    for found in report.findings:
        print(f"{chosen}: {found.monitor} {found.verdict}, {found.reason}")
    print(f"{chosen}: {report.decision.action}, {report.decision.reason}")
    if report.decision.action is not leave:
        announce.decision(project, chosen, champion, report.decision)
    announce.unknown(project, chosen, champion, report.unknown)
    at = datetime.fromisoformat(report.made_at)
    troubles.of_report(project, report.period, report.findings, report.decision, at)
    text = f"{report.to_markdown()}\n\n[The page with its charts]({page.as_uri()})"
    show("monitor", text, f"{chosen}: {report.decision.reason}")
    publish.gauges(project, content)
    publish.history(project, content, champion)
    return report


def serving(project: Project) -> Version:
    """The champion.

    Raises:
        EvergreenError: if nothing serves.
    """
    champion = project.registry.alias(CHAMPION)
    if champion is None:
        raise EvergreenError("nothing serves, so nothing can be watched: run `evergreen retrain`")
    return champion


def judge(project: Project, period: Period, champion: Version) -> MonitorReport:
    """The report on a period, without any effect."""
    model = artifact.load(project.registry.folder(champion))
    before = _history(project, champion, period)
    versions = project.registry.versions()
    family = [version.number for version in versions if version.trained == champion.trained]
    seen = watch(project, period, champion, model, before, family)
    learned_until = Period.parse(model.training["holdout"][-1])
    history = [*before, Watched(period, seen.findings)]
    params, attempts = project.params.governor, Record.of(project).attempts()
    learned = len(model.training["train"])
    return MonitorReport(
        period=period.name,
        version=champion.number,
        trained=champion.trained,
        served=seen.served,
        findings=seen.findings,
        decision=decide(history, learned_until, params, attempts, learned),
        made_at=governor.now(),
        task=model.task,
    )


def _history(project: Project, champion: Version, before: Period) -> list[Watched]:
    """What was said of this champion in earlier periods, oldest first.

    A recalibrated version goes on with the history of the one that it came from: its drift is the
    same. Where a period was watched twice, what answered more of it counts.
    """
    found: dict[Period, Watched] = {}
    for content in sorted(reports(project), key=lambda report: int(report["served"])):
        period = Period.parse(content["period"])
        if content["trained"] == champion.trained and period < before:
            findings = tuple(Finding.from_json(said) for said in content["findings"])
            action = Action(content["decision"]["action"])
            found[period] = Watched(period, findings, action)
    return [found[period] for period in sorted(found)]


def watched_already(project: Project) -> str | None:
    """Why a scheduled run has nothing to do: the newest period was watched, labels and all."""
    wanted, report = project.newest_labelled(), newest(project)
    if report is None or Period.parse(report.week.period) < wanted:
        return None
    said = report.week
    return f"nothing to do: {wanted} was watched already ({said.action}, {said.reason})"


@flow(
    name="monitor",
    flow_run_name=run_name("monitor", "period"),
    timeout_seconds=7200,
    **troubles.TOLD,
)
def monitor(
    period: PeriodName | None = None, once: bool = False, leave: Action | None = None
) -> Outcome:
    """Watch a period: drift, real quality, and whether a retrain is due.

    Args:
        period: such as 2013-W10; without it the newest labelled period.
        once: end at once if the newest period was watched before, as a late run of a schedule does
            whose work another one has done.
        leave: an action that is decided and not announced, so that nothing starts.
    """
    project = Project.open()
    if once and (done := watched_already(project)):
        print(done)
        heartbeat.beat(project.settings)
        return Outcome(done)
    message = run_monitor(project, period, leave).message
    heartbeat.beat(project.settings)
    return Outcome(message)
