"""The parameters of flows as people fill them in: what is wrong is refused in the form itself."""

from collections.abc import Callable
from typing import Annotated, Any

from prefect import runtime
from prefect.client.orchestration import get_client
from pydantic import Field

from flows.steps import in_flow

PERIOD = r"\d{4}-(W(0[1-9]|[1-4]\d|5[0-3])|(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)"
MOMENT = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?"

PeriodName = Annotated[
    str,
    Field(pattern=f"^{PERIOD}$", description="2013-W08, 2013-02 or 2013-02-05", max_length=10),
]
AsOf = Annotated[
    str,
    Field(
        pattern=f"^({PERIOD}|{MOMENT})$",
        description="a period (2013-W08, 2013-02 or 2013-02-05) or a timestamp (2013-02-25T12:00)",
    ),
]
Number = Annotated[
    str, Field(pattern=r"^[1-9]\d{0,8}$", description="a version's number, from 1 on")
]
Reason = Annotated[
    str, Field(min_length=1, max_length=500, description="up to 500 characters, and not none")
]
Person = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=r"^\S(.*\S)?$",
        description="a name of up to 100 characters",
    ),
]


def run_name(verb: str, *names: str) -> Callable[[], str]:
    """The name of a run: what it does, then its parameters, as far as somebody gave them."""

    def named() -> str:
        given: dict[str, Any] = runtime.flow_run.parameters
        parts = [str(given[name]) for name in names if given.get(name)]
        return " · ".join([f"{verb} {parts[0]}", *parts[1:]] if parts else [verb])

    return named


def add_to_name(said: str) -> None:
    """Say in the name of this run, if there is one, what came of it."""
    name, number = runtime.flow_run.name, runtime.flow_run.id
    if not in_flow() or not number:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(number, name=f"{name} · {said}")
