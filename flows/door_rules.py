"""What a person may ask of Prefect's API by their role, and what becomes of what they send."""

import re
from collections.abc import Mapping
from typing import Any

from data.errors import EvergreenError
from flows import access
from flows.access import DEPLOYMENTS, Role
from flows.users import User

# By these questions the pages read; they are POSTs because their filters are long.
READS = re.compile(
    r"/api/(?!block_documents)[a-z0-9_/-]*/(filter|count|paginate|history|lateness|counts"
    r"|count-deployments|next-runs|count-task-runs|concurrency_status)|/api/events/count-by/[a-z]+"
)
# Blocks hold secrets, and Prefect gives them to whoever asks.
SECRET = re.compile(r".*/block_documents.*")
ID = "[0-9a-f-]{36}"
RUN = re.compile(f"/api/deployments/({ID})/create_flow_run")
STATE = re.compile(f"/api/flow_runs/{ID}/set_state")
RESUME = re.compile(f"/api/flow_runs/{ID}/resume")
OPERATED = re.compile(f"/api/deployments/{ID}/(pause|resume)_deployment|/api/ui/schemas/validate")
# What the pages' switches change of a deployment and of one of its schedules, and nothing else.
SWITCHES = {
    "paused": re.compile(f"/api/deployments/{ID}"),
    "active": re.compile(f"/api/deployments/{ID}/schedules/{ID}"),
}
# What a person may make of a run: end it, or let it run again.
STATES = ("CANCELLING", "CANCELLED", "CRASHED", "FAILED", "SCHEDULED")
LATER = {"type": "SCHEDULED"}
# What changes how a run is run, rather than with what: a command line among it.
FIXED = ("job_variables", "infrastructure_document_id", "work_queue_name", "parent_task_run_id")


def needed(method: str, path: str) -> Role | None:
    """The role that a request takes; None if no person may make it."""
    if SECRET.fullmatch(path):
        return None
    if method in ("GET", "HEAD", "OPTIONS"):
        return Role.VIEWER
    if method == "PATCH" and switch(path):
        return Role.OPERATOR
    if method != "POST":
        return None
    if READS.fullmatch(path):
        return Role.VIEWER
    if any(form.fullmatch(path) for form in (RUN, STATE, OPERATED)):
        return Role.OPERATOR
    return Role.APPROVER if RESUME.fullmatch(path) else None


def switch(path: str) -> str | None:
    return next((name for name, form in SWITCHES.items() if form.fullmatch(path)), None)


def sent_on(
    user: User, path: str, body: Mapping[str, Any], deployment: Mapping[str, Any]
) -> dict[str, Any]:
    """What goes on to Prefect of what somebody sent who may send it.

    Args:
        deployment: the one of which a run is started, as Prefect knows it.

    Raises:
        EvergreenError: if it may not be sent so.
    """
    if RUN.fullmatch(path):
        return run_of(user, body, deployment)
    if RESUME.fullmatch(path):
        return answer_of(user, body)
    return state_of(body) if STATE.fullmatch(path) else switch_of(path, body)


def run_of(user: User, body: Mapping[str, Any], deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent on for a run that somebody starts: in their name, where the flow wants one.

    Raises:
        EvergreenError: if they may not start it, or not so.
    """
    name = str(deployment.get("name"))
    access.check(user.name, user.role, DEPLOYMENTS.get(name), f"starting `{name}`")
    changed = [key for key in FIXED if body.get(key) and body[key] != deployment.get(key)]
    if changed:
        raise EvergreenError(f"{changed[0]} cannot be set: a run is run as prefect.yaml says")
    if body.get("enforce_parameter_schema") is False:
        raise EvergreenError("enforce_parameter_schema cannot be off: parameters are checked")
    if (kind := (body.get("state") or LATER).get("type")) != LATER["type"]:
        raise EvergreenError(f"a run does not begin as {kind}: leave its state out")
    given = dict(body.get("parameters") or {})
    known = (deployment.get("parameter_openapi_schema") or {}).get("properties", {})
    if "by" in known or "by" in given:
        given["by"] = _own(user, given.get("by"))
    return {**body, "parameters": given}


def answer_of(user: User, body: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent on for a form that somebody answers: in their name.

    Raises:
        EvergreenError: if it says another name.
    """
    said = dict(body.get("run_input") or {})
    return {**body, "run_input": {**said, "by": _own(user, said.get("by"))}}


def state_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent on for a state that somebody gives a run.

    Raises:
        EvergreenError: if it is not one of those that end it or let it run again.
    """
    kind = (body.get("state") or {}).get("type")
    if kind not in STATES:
        raise EvergreenError(f"a run is not set to {kind} by hand: only to {', '.join(STATES)}")
    return dict(body)


def switch_of(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent on where somebody turns a deployment or a schedule off or on.

    Raises:
        EvergreenError: if it would change anything else.
    """
    name = switch(path)
    given = {key: value for key, value in body.items() if value is not None}
    if set(given) != {name} or not isinstance(given.get(name or ""), bool):
        raise EvergreenError(f"only `{name}` is set by hand: prefect.yaml says the rest")
    return given


def _own(user: User, said: Any) -> str:
    if said not in (None, "", user.name):
        raise EvergreenError(f"`by` says {said!r}, but you are {user.name}: leave it empty")
    return user.name
