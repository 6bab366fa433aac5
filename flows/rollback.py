"""Back to the version that served before: the traffic first, then the ledger and the aliases."""

from prefect import flow

from bento import rollout
from data.errors import EvergreenError
from flows import back, progressive, troubles
from flows.back import Ended
from flows.forms import Person, Reason, add_to_name, run_name
from flows.owner import act
from flows.project import Project
from flows.release import slot_for
from flows.steps import Outcome, step
from models import standing
from models.ledger import Kind
from models.standing import Served


def settle(
    project: Project, target: Served, moved: bool, reason: str, by: str | None = None
) -> Outcome:
    """Let the ledger and the aliases follow the traffic.

    A version that no slot holds any more is built and deployed again first.

    Args:
        moved: whether the traffic is the target's already.
        reason: kept in the ledger, and with the version that is taken back.

    Raises:
        EvergreenError: if the registry's version is another one, or the endpoint does not answer
            as the target.
    """
    serving, registry = project.settings.serving, project.registry
    version = registry.get(target.version)
    if version.digest != target.digest:
        raise EvergreenError(
            f"version {version.number} served as {target.digest[:16]}, but the registry has "
            f"{version.digest[:16]}: restore var/mlflow from a backup"
        )
    if not moved:
        step(rollout.switch, serving, slot_for(project, version))
    rollout.confirm(serving, version.number, version.digest)
    champion, _ = standing.holders(project.ledger.read())
    done = act(project.settings, reason, by)
    registry.promote(version, champion, done, kind=Kind.ROLLED_BACK)
    if champion and champion != version.number:
        registry.tag(registry.get(champion), {"rolled_back": reason})
    return Outcome(f"version {version.number} serves again, as the endpoint says: {reason}")


def settle_ended(project: Project, ended: Ended, reason: str, by: str | None = None) -> Outcome:
    """Write down that a canary or an A/B test was ended; the champion never moved."""
    print(f"all traffic is the champion's again after {ended.milliseconds:.0f} ms")
    version = project.registry.get(ended.release.version)
    said = f"{ended.what}, ended: {reason}"
    if ended.test:
        done = act(project.settings, said, by)
        project.registry.record(Kind.AB_ENDED, version, done)
    else:
        progressive.mark(project, version, said, by)
    return Outcome(f"{ended.what}: ended ({reason}), and the champion has all traffic")


@flow(
    name="rollback",
    flow_run_name=run_name("rollback", "reason"),
    timeout_seconds=1800,
    **troubles.TOLD,
)
def rollback(reason: Reason, by: Person | None = None) -> Outcome:
    """Move the traffic back to the version that served before, then the aliases.

    While a canary or an A/B test is on, that is what is taken back, and the champion stays.

    Args:
        reason: kept in the ledger, and with the version that is taken back.
        by: who asks for it, for the ledger.
    """
    project = Project.open()
    if ended := back.wait_or_end(project.settings):
        outcome = settle_ended(project, ended, reason, by)
        print(outcome.message)
        return outcome
    with rollout.one_release(project.settings.serving, back.PATIENCE):
        target, moved = step(back.move, project.settings)
        outcome = settle(project, target, moved, reason, by)
    add_to_name(f"v{target.version} serves")
    print(outcome.message)
    return outcome
