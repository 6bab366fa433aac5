"""What somebody is told of: monitors that alarm or know nothing, failed runs, waiting versions."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bento import target
from data.alert_params import Alerts
from data.errors import EvergreenError
from data.verdicts import Finding, Verdict
from flows.alerts import Alert, Severity, What
from flows.notify import Desk
from flows.settings import Settings
from models.governor import Action, Decision

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

    from flows.project import Project

MONITOR, SUSPECT, SILENT, RUN, WAITING = (
    "monitor.",
    "data.suspect",
    "monitor-silent",
    "run.",
    "wait.",
)
SENT_BACK = "sent-back."


def desk(project: "Project") -> Desk:
    return Desk.of(project.settings, project.problem.name, project.params.alerts)


def of_report(
    project: "Project",
    period: str,
    findings: Sequence[Finding],
    decision: Decision,
    at: datetime,
) -> None:
    """Tell what a monitor's report says, and what is over since the last one."""
    own, raised = desk(project), []
    decided = f"decided for {period}: {decision.action} ({decision.reason})"
    for found in findings:
        if found.verdict not in (Verdict.ALARM, Verdict.UNKNOWN):
            continue
        word = "alarms" if found.verdict is Verdict.ALARM else "knows nothing"
        title = f"{found.monitor} {word} in {period}"
        alert = Alert(
            MONITOR + found.monitor, Severity.WARNING, title, f"{found.reason}; {decided}"
        )
        own.raise_(alert, at)
        raised.append(alert.key)
    if decision.action is Action.INVESTIGATE:
        title = f"the data of {period} is suspect"
        body = f"{decision.reason}; nothing is retrained on it, and a person should look at why"
        own.raise_(Alert(SUSPECT, Severity.CRITICAL, title, body), at)
    else:
        own.resolve(SUSPECT, at, decided)
    own.resolve_others(MONITOR, raised, at, f"well again in {period}")
    own.resolve(SILENT, at, f"{period} was watched")


def silent(project: "Project", said: str, at: datetime) -> None:
    """Tell that the monitor itself has stopped."""
    desk(project).raise_(Alert(SILENT, Severity.CRITICAL, "the monitor has stopped", said), at)


def waits(project: "Project", number: str, said: str, at: datetime) -> None:
    """Tell that a version waits for a person."""
    title = f"version {number} waits for approval"
    desk(project).raise_(Alert(WAITING + number, Severity.WARNING, title, said), at)


def decided(project: "Project", number: str, said: str, at: datetime) -> None:
    """A version waits no longer."""
    desk(project).resolve(WAITING + number, at, said)


def sent_back(project: "Project", number: str, reason: str, at: datetime) -> None:
    """Tell that a version did not stand its trial."""
    body = f"{reason}; {_serving(project.settings)}"
    title = f"version {number} was sent back"
    desk(project).raise_(Alert(SENT_BACK + number, Severity.CRITICAL, title, body), at)


def released(project: "Project", number: str, at: datetime) -> None:
    """What was sent back before is over."""
    desk(project).resolve_others(SENT_BACK, (), at, f"version {number} serves")


def failed(flow: "Flow[..., Any]", flow_run: "FlowRun", state: "State[Any]") -> None:
    """A hook of flows: tell that a run failed, how things stand, and where to look.

    Whoever runs one in a terminal reads the error there.
    """
    if flow_run.deployment_id is None:
        return
    at, settings = datetime.now(UTC), Settings.read(os.environ)
    said = (state.message or state.name or "no reason kept").removeprefix(
        "Flow run encountered an exception: "
    )
    url = f"{settings.url('prefect')}/runs/flow-run/{flow_run.id}"
    body = f"{said}\n{_serving(settings)}\n{url}"
    alert = Alert(RUN + flow.name, Severity.CRITICAL, f"{flow_run.name} failed", body)
    _of_settings(settings).raise_(alert, at)


def crashed(settings: Settings, name: str, flow: str, at: datetime) -> What | None:
    """Tell that a run's process died, as the server noticed."""
    body = f"its process is gone; start it again. {_serving(settings)}"
    alert = Alert(RUN + flow, Severity.CRITICAL, f"{name} crashed", body)
    return _of_settings(settings).raise_(alert, at)


def completed(flow: "Flow[..., Any]", flow_run: "FlowRun", state: "State[Any]") -> None:
    """A hook of flows: an earlier failure of the same flow is over."""
    settings, key = Settings.read(os.environ), RUN + flow.name
    if key in Desk.of(settings, "", Alerts()).open():  # rarely: only then is the project opened
        _of_settings(settings).resolve(key, datetime.now(UTC), f"{flow_run.name} completed")


# What every flow that does something is given.
TOLD: dict[str, Any] = {"log_prints": True, "on_failure": [failed], "on_completion": [completed]}


def _of_settings(settings: Settings) -> Desk:
    """The desk of a home, even where params.yaml or the problem is what is wrong."""
    from flows.project import Project

    try:
        return desk(Project.open(settings))
    except EvergreenError:
        return Desk.of(settings, "loop", Alerts())


def _serving(settings: Settings) -> str:
    """What answers meanwhile, from the gateway's own state."""
    try:
        state = target.load(settings.serving)
    except (OSError, EvergreenError):
        return "what serves is not known: `evergreen status`"
    release = state.slots[state.active] if state.active else None
    return f"version {release.version} keeps serving" if release else "nothing serves"
