"""Who acts, and whether the run that acts may still do so."""

import getpass
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from data.errors import EvergreenError
from flows.settings import Settings
from flows.steps import flow_run_id
from models.ledger import Act


def who(settings: Settings, by: str | None = None) -> str:
    """The name that stands in the ledger, taken at its word."""
    return (by or "").strip() or settings.user or getpass.getuser()


def author(settings: Settings, by: str | None = None) -> str:
    """The same for what somebody else has to approve, and for who approves it.

    Raises:
        EvergreenError: where identities are on, if nobody is named or somebody else than
            EVERGREEN_USER.
    """
    named = (by or "").strip()
    if settings.identities and named and settings.user not in ("", named):
        raise EvergreenError(
            f"{named!r} is not {settings.user!r}, who EVERGREEN_USER says is at work: identities "
            "are on, so that everybody acts in their own name"
        )
    if settings.identities and not (named or settings.user):
        raise EvergreenError(
            "nobody is named, but identities are on: set EVERGREEN_USER, or the run's parameter by"
        )
    return who(settings, by)


def act(settings: Settings, reason: str, by: str | None = None) -> Act:
    """Something done now, in this run."""
    return Act(datetime.now(UTC), who(settings, by), reason, flow_run_id())


def still_owner() -> bool:
    """Whether this flow run is still the one that runs; a process without one is its own owner.

    A run that was forced to Crashed or cancelled goes on in its process, and so does one that was
    started again elsewhere: the server then has another state than the Running that began here.

    Raises:
        EvergreenError: if the server cannot be asked.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return True
    mine, now = context.flow_run.state, _run(context.flow_run.id).state
    return mine is not None and now is not None and now.is_running() and now.id == mine.id


def resumed() -> None:
    """After a pause this run goes on in a Running state of its own, which it is told here."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        context.flow_run.state = _run(context.flow_run.id).state


def _run(number: UUID) -> FlowRun:
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(number)
    except Exception as error:
        raise EvergreenError(
            f"whether run {number} is still the owner cannot be known ({type(error).__name__}): "
            "bring the Prefect server up, then start it again"
        ) from error
