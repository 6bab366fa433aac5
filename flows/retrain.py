"""Train, judge, release: what an alarm, a schedule or a person starts."""

from collections.abc import Callable

from prefect import flow

from flows import governor, troubles
from flows.approval import NotPromotedError
from flows.forms import AsOf, Person, Reason, add_to_name, run_name
from flows.project import Project
from flows.release import run_release
from flows.steps import Outcome
from flows.train import Judged, run_train
from models import standing
from models.governor import Action
from models.registry import CHAMPION


def run_retrain(
    project: Project, as_of: str | None = None, cause: str = "asked for", by: str | None = None
) -> Outcome:
    """Train a challenger and release it if it passed; what came of it, in a sentence.

    A version that was rolled back, or sent back by shadow or canary, comes back by a person's
    `evergreen release` only.
    """
    judged = run_train(project, as_of, cause, by)
    said = f"trained as of {judged.version.tags['as_of']}"
    return release_judged(project, judged, said, by)


def release_judged(project: Project, judged: Judged, said: str, by: str | None) -> Outcome:
    """Release what passed its gates, unless it was taken back or sent back before.

    Args:
        said: what is said of it when it serves.
    """
    number = judged.version.number
    if not judged.passed:
        return Outcome(f"{judged.message}; {_kept(project)}", done=False)
    if rolled := standing.taken_back(project.ledger.read(), number):
        refused = f"version {number} was rolled back ({rolled.reason}): {_kept(project)}"
        return Outcome(f"{refused}; `evergreen release {number}` brings it back", done=False)
    if ended := standing.aborted(project.ledger.read(), number):
        refused = f"version {number} was sent back ({ended.reason}): {_kept(project)}"
        return Outcome(f"{refused}; `evergreen release {number}` tries it again", done=False)
    try:
        run_release(project, number, by)
    except NotPromotedError as refusal:
        return Outcome(f"{refusal}; {_kept(project)}", done=False)
    return Outcome(f"version {number} serves, {said}")


def _kept(project: Project) -> str:
    """What is so after a refusal."""
    champion = project.registry.alias(CHAMPION)
    return "the champion keeps serving" if champion else "nothing serves yet"


def changing(
    project: Project, action: Action, as_of: str, cause: str, key: str, work: Callable[[], Outcome]
) -> Outcome:
    """Do what may change what serves, governed; the run's name says whether it did."""
    before = project.registry.alias(CHAMPION)
    outcome = governor.governed(project, action, as_of, cause, key, work)
    after = project.registry.alias(CHAMPION)
    if after and (before is None or before.number != after.number):
        add_to_name(f"v{before.number if before else 0} → v{after.number}")
    else:
        add_to_name(f"v{before.number} stays" if before else "nothing serves")
    return outcome


@flow(
    name="retrain",
    flow_run_name=run_name("retrain", "as_of", "cause"),
    **troubles.TOLD,
)
def retrain(
    as_of: AsOf | None = None,
    cause: Reason = "asked for",
    by: Person | None = None,
    key: str = "",
    once: bool = False,
) -> Outcome:
    """Train a challenger, judge it against the champion, and release it if it passes.

    Args:
        as_of: a period (2013-W08) or a timestamp; without it the newest labelled period.
        cause: why, for the log.
        by: who asks for it, for the ledger; where identities are on, somebody else approves.
        key: of what the monitor asked for; the same is done once.
        once: end at once if the newest labels were learned from before, as a late run of a schedule
            does.
    """
    project = Project.open()
    if once and (done := governor.overtaken(project)):
        print(done)
        return Outcome(done)
    chosen = project.as_of(as_of)

    def work() -> Outcome:
        return run_retrain(project, chosen, cause, by)

    outcome = changing(project, Action.RETRAIN, chosen, cause, key, work)
    print(outcome.message)
    return outcome
