"""Back to the version that served before."""

from prefect import flow

from bento import rollout
from data.errors import EvergreenError
from flows.project import Project
from flows.steps import Outcome, step
from models.registry import CHAMPION


def run_rollback(project: Project, reason: str) -> str:
    """Move the traffic back first, then the aliases; the number that serves now.

    Raises:
        EvergreenError: if no slot holds a version that has served before.
    """
    champion = project.registry.alias(CHAMPION)
    state = step(rollout.rollback, project.settings.serving)
    back = state.slots[state.active] if state.active else None
    if back is None:
        raise EvergreenError("the gateway names no active slot: run `evergreen release`")
    version = project.registry.get(back.version)
    project.registry.promote(version, champion.number if champion else None)
    if champion:
        project.registry.tag(champion, {"rolled_back": reason})
    print(f"version {version.number} serves again: {reason}")
    return version.number


@flow(name="rollback", flow_run_name="rollback · {reason}", log_prints=True)
def rollback(reason: str) -> Outcome:
    """Move the traffic back to the version that served before, then the aliases.

    Args:
        reason: kept with the version that is taken back.
    """
    return Outcome(f"version {run_rollback(Project.open(), reason)} serves again")
