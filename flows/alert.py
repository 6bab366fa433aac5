"""The daily look at the loop itself: has the monitor stopped, and what waits to be told?"""

from datetime import UTC, datetime

from prefect import flow

from data.errors import EvergreenError
from flows import heartbeat, troubles
from flows.project import Project
from flows.reports import newest, silence
from flows.steps import Outcome, show


def stopped(project: Project, at: datetime, expected: bool = False) -> str | None:
    """What is known of the monitor's silence; None if it has watched lately.

    Args:
        expected: whether a run of it was due, so that no report at all is silence, too.
    """
    if newest(project) is None:
        if not expected:
            return None
        return "no run of the monitor has completed for eight days: look at its schedule in the UI"
    return silence(project, at)


@flow(name="alert", flow_run_name="look at the loop", log_prints=True)
def alert(crashed: str = "", flow_name: str = "", silent: bool = False) -> Outcome:
    """Tell what is due; fail if the monitor has stopped, so that the UI shows it, too.

    Args:
        crashed: the name of a run whose process died.
        flow_name: of that run.
        silent: no run of the monitor has completed for eight days.
    """
    project, at = Project.open(), datetime.now(UTC)
    if crashed:
        troubles.crashed(project.settings, crashed, flow_name, at)
        return Outcome(f"{crashed} crashed")
    sent = troubles.desk(project).flush(at)
    said = stopped(project, at, silent)
    if said is None:
        print(f"the monitor has watched lately; {sent} alerts were sent that had waited")
        heartbeat.beat(project.settings)
        return Outcome("the monitor has watched lately")
    troubles.silent(project, said, at)
    show("monitor-stopped", f"# The monitor has stopped\n\n{said}", said)
    raise EvergreenError(said)
