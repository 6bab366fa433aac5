"""The monitor has stopped: a run that fails, so that a person sees it in the UI."""

from datetime import UTC, datetime

from prefect import flow

from data.errors import EvergreenError
from flows.project import Project
from flows.reports import newest, silence
from flows.steps import show


def stopped(project: Project, at: datetime) -> str | None:
    """What is known of the monitor's silence; None if it has watched lately."""
    if newest(project) is None:
        return "no run of the monitor has completed for eight days: look at its schedule in the UI"
    return silence(project, at)


@flow(name="alert", log_prints=True)
def alert() -> None:
    """Fail with what is known of the monitor's silence; one that works is left alone."""
    said = stopped(Project.open(), datetime.now(UTC))
    if said is None:
        print("nothing to tell: the monitor has watched lately")
        return
    show("monitor-stopped", f"# The monitor has stopped\n\n{said}", said)
    raise EvergreenError(said)
