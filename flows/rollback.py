"""Back to the version that served before: the traffic first, then the aliases."""

from prefect import flow

from bento import rollout
from bento.gateway import State
from data.errors import EvergreenError
from flows.project import Project
from flows.steps import Outcome, step
from models.registry import CHAMPION


def settle(project: Project, state: State, reason: str) -> Outcome:
    """Let the aliases follow the traffic, which was moved to `state.active` already.

    Raises:
        EvergreenError: if no slot is active.
    """
    champion = project.registry.alias(CHAMPION)
    back = state.slots[state.active] if state.active else None
    if back is None:
        raise EvergreenError("the gateway names no active slot: run `evergreen release`")
    version = project.registry.get(back.version)
    project.registry.promote(version, champion.number if champion else None)
    if champion and champion.number != version.number:
        project.registry.tag(champion, {"rolled_back": reason})
    return Outcome(f"version {version.number} serves again: {reason}")


@flow(name="rollback", flow_run_name="rollback · {reason}", log_prints=True)
def rollback(reason: str) -> Outcome:
    """Move the traffic back to the version that served before, then the aliases.

    Args:
        reason: kept with the version that is taken back.
    """
    project = Project.open()
    state = step(rollout.rollback, project.settings.serving)
    outcome = step(settle, project, state, reason)
    print(outcome.message)
    return outcome
