"""What MLflow and Prefect answer, over HTTP: no client library, and nobody is waited for long."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from bento.client import Door
from data.errors import EvergreenError
from flows import service
from flows.settings import Settings
from models.version import Version

PATIENCE = 3.0  # seconds
ALIVE = ("RUNNING", "PENDING", "PAUSED", "CANCELLING", "SCHEDULED")
ENDED_BADLY = ("FAILED", "CRASHED")
ONE_BY_ONE = ("Running", "Pending", "Paused", "Late", "Cancelling")
RUNS, BAD_RUNS = 40, 20
BAD_FOR = timedelta(days=7)
ABSENT = 404
RAISED = "Flow run encountered an exception: "


@dataclass(frozen=True)
class Registered:
    """Alias -> version number, and the versions by number."""

    aliases: Mapping[str, str]
    versions: Mapping[str, Version]


@dataclass(frozen=True)
class Run:
    """A Prefect run that is on, is to come, or ended badly.

    Attributes:
        at: when it began, or is to begin (UTC, ISO text).
        state: Prefect's word, such as Running, Paused, Late or Scheduled.
    """

    name: str
    deployment: str
    state: str
    kind: str
    at: str
    said: str
    url: str


def registered(settings: Settings, name: str) -> Registered:
    """Aliases and versions of a model.

    Raises:
        EvergreenError: if MLflow does not answer as it should.
    """
    mlflow = _door(settings, "mlflow")
    model = _mlflow(mlflow, "registered-models/get", name=name).get("registered_model", {})
    found = _mlflow(mlflow, "model-versions/search", filter=f"name='{name}'", max_results="500")
    versions = [_version(said) for said in found.get("model_versions", [])]
    aliases = {said["alias"]: str(said["version"]) for said in model.get("aliases", [])}
    return Registered(aliases, {version.number: version for version in versions})


def _version(said: Mapping[str, Any]) -> Version:
    tags = {tag["key"]: tag.get("value", "") for tag in said.get("tags", [])}
    return Version(
        str(said["version"]), tags.get("digest", ""), said["run_id"], said["source"], tags
    )


def run_page(settings: Settings, run_id: str) -> str:
    """The address of a run in MLflow's UI.

    Raises:
        EvergreenError: if MLflow does not answer as it should.
    """
    url = settings.url("mlflow")
    experiment = _experiment(_door(settings, "mlflow"), run_id)
    return f"{url}/#/experiments/{experiment}/runs/{run_id}"


@lru_cache(maxsize=64)
def _experiment(door: Door, run_id: str) -> str:
    """A run never moves to another experiment."""
    found = _mlflow(door, "runs/get", run_id=run_id)
    return str(found["run"]["info"]["experiment_id"])


def runs(settings: Settings, at: datetime) -> list[Run]:
    """Runs that are on or late, the next of each deployment, and the last that ended badly.

    Args:
        at: what ended badly long before is not shown any more.

    Raises:
        EvergreenError: if Prefect does not answer as it should.
    """
    names = {said["id"]: said["name"] for said in _prefect(settings, "deployments", {"limit": 100})}
    since = {"end_time": {"after_": (at - BAD_FOR).isoformat()}}
    alive = _runs_in(settings, ALIVE, "EXPECTED_START_TIME_ASC", RUNS)
    bad = _runs_in(settings, ENDED_BADLY, "END_TIME_DESC", BAD_RUNS, **since)
    found = [_run(settings, said, names) for said in [*alive, *bad]]
    return [run for place, run in enumerate(found) if not _follows(run, found[:place])]


def _follows(run: Run, earlier: list[Run]) -> bool:
    """Whether one like it stands for it: the next of its schedule, or its last failure."""
    return run.state not in ONE_BY_ONE and any(
        (other.state, other.deployment) == (run.state, run.deployment) for other in earlier
    )


def _runs_in(settings: Settings, kinds: tuple[str, ...], sort: str, limit: int, **more: Any) -> Any:
    wanted = {
        "state": {"type": {"any_": list(kinds)}},
        "parent_task_run_id": {"is_null_": True},
        **more,
    }
    return _prefect(settings, "flow_runs", {"flow_runs": wanted, "sort": sort, "limit": limit})


def _run(settings: Settings, said: Mapping[str, Any], names: Mapping[str, str]) -> Run:
    times = (said.get("end_time"), said.get("start_time"), said.get("expected_start_time"))
    at = next(filter(None, times), "")
    return Run(
        name=said["name"],
        deployment=names.get(said.get("deployment_id") or "", "run by hand"),
        state=said.get("state_name") or "",
        kind=said.get("state_type") or "",
        at=datetime.fromisoformat(at).isoformat(timespec="seconds") if at else "",
        said=((said.get("state") or {}).get("message") or "").removeprefix(RAISED)[:300],
        url=f"{settings.url('prefect')}/runs/flow-run/{said['id']}",
    )


def _door(settings: Settings, server: str) -> Door:
    return Door(settings.url(server), service.reading(settings))


def _mlflow(door: Door, path: str, **query: str) -> Mapping[str, Any]:
    """A GET; nothing is registered yet where there is no such thing."""
    reply = door.call("GET", f"/api/2.0/mlflow/{path}?{urlencode(query)}", timeout=PATIENCE)
    if reply.status == ABSENT:
        return {}
    found: Mapping[str, Any] = _checked(door, reply.status, reply.value, dict)
    return found


def _prefect(settings: Settings, what: str, body: Mapping[str, Any]) -> Any:
    door = _door(settings, "prefect")
    reply = door.call("POST", f"/api/{what}/filter", dict(body), timeout=PATIENCE)
    return _checked(door, reply.status, reply.value, list)


def _checked(door: Door, status: int, value: Any, kind: type) -> Any:
    if status != 200 or not isinstance(value, kind):
        raise EvergreenError(f"{door.url} answers {status}, not what was asked for")
    return value
