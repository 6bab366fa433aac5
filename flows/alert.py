"""The monitor has stopped: a run that fails, so that a person sees it in the UI."""

from datetime import UTC, datetime

from prefect import flow

from data.errors import EvergreenError
from flows.project import Project
from flows.reports import silence
from flows.steps import show


@flow(name="alert", log_prints=True)
def alert() -> None:
    """Fail with what is known of the monitor's silence."""
    said = silence(Project.open(), datetime.now(UTC)) or (
        "no run of the monitor has completed for eight days: look at its schedule in the UI"
    )
    show("monitor-stopped", f"# The monitor has stopped\n\n{said}", said)
    raise EvergreenError(said)
