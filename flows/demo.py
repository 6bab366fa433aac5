"""`make demo`: one whole life of a model, week by week, on the problem's own data.

Each step looks whether it is done already, so that a second run goes on where the first one
stopped, or shows what came of it.
"""

import json
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bento import auth
from data.contracts import to_columns
from data.errors import EvergreenError
from data.periods import Period, parse_as_of, span
from data.verdicts import Finding, Verdict
from data.windows import load
from flows import stack
from flows.governor import ENDED, Record
from flows.ingest import What, ingest
from flows.monitor import monitor
from flows.project import Project
from flows.reports import reports
from flows.retrain import retrain
from flows.settings import Settings
from flows.steps import as_flow
from flows.story import Week, chart, check, gain, table
from flows.traffic import send
from models import artifact
from models.artifact import to_requests
from models.governor import Action
from models.quality import measure
from models.registry import CHAMPION
from models.version import Version

RUN_SECONDS = 300
STARTED = (Action.RETRAIN, Action.RECALIBRATE)  # by an event


def run_demo(settings: Settings, console: Console, page: Path | None = None) -> None:
    """Bring the stack up and replay the periods that params.yaml names.

    Args:
        page: shows figures of the demo, which are held against what came of it.

    Raises:
        EvergreenError: if a step fails (run it again after mending the cause), or a figure of the
            page did not come out.
    """
    began = time.monotonic()
    if not stack.is_up(settings):
        stack.up(settings, console.print)
    project = Project.open(settings)
    first = Period.parse(project.params.demo.first_train)
    last = Period.parse(project.params.demo.last_period)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        _first_model(project, first, progress)
        weeks = span(first.next(), last)
        task = progress.add_task("weeks served and watched", total=len(weeks))
        for period in weeks:
            _live(project, period, progress)
            progress.advance(task)
    _summary(project, console, page)
    console.print(f"done in {time.monotonic() - began:.0f} s", highlight=False)


def _first_model(project: Project, first: Period, progress: Progress) -> None:
    """Ingest the first periods and release version 1."""
    past = span(Period.parse(project.params.train.first_period), first)
    task = progress.add_task(f"first {len(past)} periods ingested", total=len(past))
    for period in past:
        _ingest(project, period, "all")
        progress.advance(task)
    if project.registry.alias(CHAMPION) is None:
        task = progress.add_task("trained, judged, registered, released", total=1)
        outcome = as_flow(retrain, as_of=first.name, cause="first model")
        if not outcome.done:
            raise EvergreenError(outcome.message)
        progress.advance(task)
        progress.console.print(outcome.message, highlight=False)


def _ingest(project: Project, period: Period, what: What) -> None:
    """The flow, unless the partition is there and whole."""
    partitions = project.partitions
    here = period in partitions.periods()
    if what == "rows" and here:
        partitions.rows(period)
    elif what != "rows" and here and partitions.has_labels(period):
        partitions.rows(period), partitions.labels(period)
    else:
        as_flow(ingest, period=period.name, what=what)


def _live(project: Project, period: Period, progress: Progress) -> None:
    """One period: its rows, its traffic, its labels, its report, and a retrain if one is due."""
    if _is_over(project, period):
        return
    _ingest(project, period, "rows")
    task = progress.add_task(f"{period}: requests", total=len(project.partitions.rows(period)))
    sent = send(project, period, lambda rows: progress.advance(task, rows))
    progress.update(task, total=sent, completed=sent, visible=False)
    _ingest(project, period, "labels")
    before, started = project.registry.alias(CHAMPION), datetime.now(UTC)
    left = _left_out(project)
    as_flow(monitor, period=period.name, leave=left)
    report = _reports(project)[period.name]
    for found in map(Finding.from_json, report["findings"]):
        if found.verdict is Verdict.ALARM:
            progress.console.print(f"{period}: alarm, {found.reason}", highlight=False)
    decision = report["decision"]
    if decision["action"] != Action.WAIT:
        said = f"{period}: {decision['action']}, {decision['reason']}"
        progress.console.print(said, highlight=False)
    if decision["action"] == left:
        said = f"left out here; `evergreen {left} --as-of {period}` does it"
        progress.console.print(f"{period}: {said}", highlight=False)
    elif decision["action"] in STARTED:
        _see_change(project, period, Action(decision["action"]), before, started, progress)


def _see_change(
    project: Project,
    period: Period,
    action: Action,
    before: Version | None,
    since: datetime,
    progress: Progress,
) -> None:
    """Wait for the run that the event starts, and say what serves then."""
    task = progress.add_task(f"{period}: {action} started by the event", total=1)
    run = _await_run(action, min(since, _asked(project, period, action, since)))
    progress.update(task, completed=1, visible=False)
    after = project.registry.alias(CHAMPION)
    changed = after is not None and (before is None or after.number != before.number)
    said = f"version {after.number} serves" if after and changed else "the champion keeps serving"
    line = f"{period}: run {run.name!r} {run.state_name}: {said}"
    progress.console.print(line, highlight=False)


def _left_out(project: Project) -> Action | None:
    """Recalibrations, once there were as many as the demo has time for."""
    done = [line for line in Record.of(project).lines() if line.kind == ENDED]
    many = sum(line.action == Action.RECALIBRATE for line in done)
    return Action.RECALIBRATE if many >= project.params.demo.recalibrations else None


def _asked(project: Project, period: Period, action: Action, otherwise: datetime) -> datetime:
    """When it was asked for: perhaps by an earlier call of the demo, that was cut off."""
    lines = Record.of(project).lines()
    found = [line.at for line in lines if (line.period, line.action) == (period.name, action)]
    return datetime.fromisoformat(found[0]) if found else otherwise


def _is_over(project: Project, period: Period) -> bool:
    """Whether the period has its report, and nothing that it asked for was cut off."""
    report = _reports(project).get(period.name)
    if report is None:
        return False
    action = report["decision"]["action"]
    ended = [line for line in Record.of(project).lines() if line.kind == ENDED]
    if action not in STARTED or action == _left_out(project):
        return True
    return (period.name, action) in {(line.period, line.action) for line in ended}


def _reports(project: Project) -> dict[str, dict[str, Any]]:
    """By period, the report on the version that answered most of it."""
    found = sorted(reports(project), key=lambda report: int(report["served"]))
    return {report["period"]: report for report in found}


def _await_run(action: Action, since: datetime) -> FlowRun:
    """The run that the automation starts, when it has ended.

    Raises:
        EvergreenError: if none starts, it fails, or it takes too long.
    """
    deadline = time.monotonic() + RUN_SECONDS
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[action.value]))
    state = "has not been started"
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_flow_runs(
                deployment_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=20
            )
            started = [r for r in runs if r.created and r.created >= since and not r.auto_scheduled]
            for run in started:
                state = f"is {run.state_name}"
                if run.state and run.state.is_final():
                    return _completed(action, run)
            time.sleep(1)
    raise EvergreenError(
        f"the {action} {state} after {RUN_SECONDS} s: look at it in the Prefect UI and at "
        "var/logs/worker.log, then run the demo again"
    )


def _completed(action: Action, run: FlowRun) -> FlowRun:
    if run.state and not run.state.is_completed():
        raise EvergreenError(f"the {action} {run.name!r} is {run.state_name}: {run.state.message}")
    return run


def _summary(project: Project, console: Console, page: Path | None) -> None:
    """The table, the gain, the chart, the addresses and a request that works."""
    found = _reports(project)
    weeks = [Week.of(found[name], _first_version(project, name)) for name in sorted(found)]
    task = project.problem.task
    console.print(table(weeks, project.problem.frequency, task))
    if said := gain(weeks, task):
        console.print(said, highlight=False)
    path = project.settings.home / "demo" / "chart.png"
    chart(weeks, f"{project.problem.name}: served, watched, retrained", path, task)
    settings = project.settings
    links = {
        "chart": path.as_uri(),
        "Prefect UI": settings.url("prefect"),
        "MLflow UI": settings.url("mlflow"),
        "board": settings.url("board"),
        "endpoint": f"{settings.url('gateway')}/predict",
    }
    for name, target in links.items():
        console.print(f"{name:11} [link={target}]{target}[/link]", highlight=False)
    console.print(f"\ntry it:\n{_curl(project, weeks[-1].period)}", markup=False, highlight=False)
    if page is not None:
        same = check(weeks, project.problem.frequency, task, page)
        console.print(f"{page}: all {same} lines that it shows came out", highlight=False)


def _first_version(project: Project, name: str) -> tuple[float, float]:
    """ROC-AUC and loss of version 1 on a period's labelled rows."""
    period = Period.parse(name)
    model = artifact.load(project.registry.folder(project.registry.get("1")))
    as_of = parse_as_of(period.name, project.problem.label_delay)
    rows = load(project.partitions, project.problem, [period], as_of)
    quality = measure(rows.label, model.score(rows.columns), model.task)
    return quality.roc_auc or np.nan, quality.log_loss


def _curl(project: Project, period: str) -> str:
    """A request with a real row, as a client of this endpoint sends it."""
    rows = project.partitions.rows(Period.parse(period)).head(1)
    (row,) = to_requests(to_columns(rows, project.problem.fields), project.problem.fields)
    serving = project.settings.serving
    url, certificate = f"{serving.url}/predict", serving.certificate
    options = f" --cacert {shlex.quote(str(certificate))}" if certificate else ""
    options += " -H 'authorization: Bearer KEY'" if auth.load(serving.folder) else ""
    body = shlex.quote(json.dumps(row))
    return f"curl -s {url}{options} -H 'content-type: application/json' -d {body}"
