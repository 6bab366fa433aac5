"""How a plain function runs as a step: a Prefect task inside a flow run, itself anywhere else."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints
from uuid import UUID

from prefect import Flow, Task, runtime, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import ParameterTypeError
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import get_state_exception
from prefect.utilities.callables import get_call_parameters
from pydantic import TypeAdapter

from data.errors import EvergreenError

DELAYS = (10, 60)  # seconds before a step is tried again
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome:
    """What a flow did, in a sentence; `done` is False where it was refused by a judgement."""

    message: str
    done: bool = True


def in_flow() -> bool:
    """Whether a flow run is under way in this context."""
    return FlowRunContext.get() is not None


def step(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function, shown as a task where a flow run is under way."""
    if not in_flow():
        return function(*args, **kwargs)
    return _task(function)(*args, **kwargs)


def patient(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """As `step`, tried again where the disk, the network or a database failed it for a moment.

    It must be safe to call twice.
    """
    if not in_flow():
        return function(*args, **kwargs)
    made = _task(function).with_options(
        retries=len(DELAYS), retry_delay_seconds=list(DELAYS), retry_condition_fn=_passing
    )
    return made(*args, **kwargs)


def _task(function: Callable[P, R]) -> Task[P, R]:
    name = function.__name__.strip("_").replace("_", " ")
    return task(name=name, log_prints=True, cache_policy=NO_CACHE)(function)


def _passing(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether what failed a task may be over in a minute; our own errors say what is wrong."""
    error = get_state_exception(state)
    return isinstance(error, OSError | sqlite3.OperationalError)


def flow_run_id() -> str:
    """The Prefect run that this is part of, or `none`."""
    return runtime.flow_run.get_id() or "none"


def show(key: str, markdown: str, description: str) -> None:
    """Leave a page with the flow run, if there is one."""
    if in_flow():
        create_markdown_artifact(markdown, key=key, description=description)


def progress(key: str, description: str) -> Callable[[int, int, str], None]:
    """Tells how far something is: a printed line, and a bar where a flow run is under way."""
    bar: list[UUID] = []

    def tell(done: int, total: int, said: str) -> None:
        print(f"{key} {done} of {total}: {said}")
        if not in_flow():
            return
        share = 100 * done / total
        if bar:
            update_progress_artifact(bar[0], progress=share, description=said)
            return
        made = create_progress_artifact(share, key=key, description=f"{description}: {said}")
        bar.append(cast("UUID", made))

    return tell


def link(key: str, url: str, text: str) -> None:
    """Leave a link with the flow run, if there is one."""
    if in_flow():
        create_link_artifact(url, link_text=text, key=key)


def as_flow(function: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a flow in this process.

    It is watched by whoever started it, so that it needs no heartbeat (whose thread takes a second
    to end).

    Raises:
        EvergreenError: if a parameter is none that the flow's form would take.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            return function(*args, **kwargs)
        except ParameterTypeError as error:
            raise EvergreenError(wrong(function, str(error), *args, **kwargs)) from error


def wrong(function: Flow[P, R], said: str, *args: P.args, **kwargs: P.kwargs) -> str:
    """The first parameter that Prefect refused, with what was given and what is expected."""
    given = get_call_parameters(function.fn, args, kwargs)
    name = next((n for n in given if f" - {n}:" in said), "a parameter")
    expected = _described(function, name) or said.partition(f"{name}: ")[2].splitlines()[0]
    return f"{function.name}: {name} {given.get(name)!r} is not understood: write {expected}"


def _described(function: Flow[P, R], name: str) -> str | None:
    """What `flows.forms` says that such a parameter is."""
    hint: Any = get_type_hints(function.fn, include_extras=True).get(name)
    schema = TypeAdapter(hint).json_schema()
    return next(
        (s["description"] for s in schema.get("anyOf", [schema]) if "description" in s), None
    )
