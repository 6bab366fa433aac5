"""The events by which a decision is acted on, and by which a person is told what is not known."""

from collections.abc import Mapping, Sequence

from prefect.events import emit_event

from data.periods import Period
from data.verdicts import Finding
from flows.governor import ASKED, Line, Record, key_of, now
from flows.project import Project
from flows.steps import flow_run_id, in_flow
from models.governor import Action, Decision
from models.version import Version

UNKNOWN = "evergreen.monitor.unknown"
EVENTS = {
    Action.RETRAIN: "evergreen.drift.detected",
    Action.RECALIBRATE: "evergreen.level.shifted",
    Action.INVESTIGATE: "evergreen.data.suspect",
}


def decision(project: Project, period: Period, champion: Version, decided: Decision) -> bool:
    """Emit the event that an automation, or a person, answers; whether it was emitted.

    The same thing is asked for once a minute at most, and not again once it was done.
    """
    event = EVENTS.get(decided.action)
    if event is None:
        return False
    key = key_of(project, period, champion, f"{decided.action}: {decided.reason}")
    asked = Line(ASKED, decided.action, now(), period.name, key, decided.reason, flow_run_id())
    if in_flow() and not Record.of(project).ask(asked):
        print(f"{event} was announced for {period} before (key {key}): not again")
        return False
    cause = {"as_of": period.name, "cause": decided.reason}
    _emit(project, event, {**cause, "version": champion.number, "key": key})
    if not in_flow() and decided.action is not Action.INVESTIGATE:
        command = f"evergreen {decided.action} --as-of {period}"
        print(f"no Prefect server is up, so run `{command}`")
    return True


def unknown(
    project: Project, period: Period, champion: Version, findings: Sequence[Finding]
) -> None:
    """Tell which monitors know nothing of a period."""
    if not findings:
        return
    names = ", ".join(found.monitor for found in findings)
    reasons = "; ".join(f"{found.monitor}: {found.reason}" for found in findings)
    told = {"as_of": period.name, "monitors": names, "reasons": reasons[:1000]}
    _emit(project, UNKNOWN, {**told, "version": champion.number, "key": ""})
    print(f"{period}: nobody knows about {names}: a person should look at why")


def _emit(project: Project, event: str, payload: Mapping[str, str]) -> None:
    if not in_flow():
        return
    resource = {
        "prefect.resource.id": f"evergreen.model.{project.problem.name}",
        "prefect.resource.name": project.problem.name,
        "evergreen.key": payload["key"],
    }
    emit_event(event, resource=resource, payload=dict(payload))
    print(f"announced {event} for {payload['as_of']}")
