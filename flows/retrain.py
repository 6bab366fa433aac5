"""Train, judge, release: what an alarm, a schedule or a person starts."""

from prefect import flow

from flows.project import Project
from flows.release import run_release
from flows.steps import Outcome
from flows.train import run_train


def run_retrain(project: Project, as_of: str | None = None, cause: str = "asked for") -> Outcome:
    """Train a challenger and release it if it passed; what came of it, in a sentence."""
    judged = run_train(project, as_of, cause)
    number = judged.version.number
    if not judged.passed:
        return Outcome(f"{judged.message}; the champion keeps serving", done=False)
    run_release(project, number)
    return Outcome(f"version {number} serves, trained as of {judged.version.tags['as_of']}")


@flow(name="retrain", flow_run_name="retrain {as_of} · {cause}", log_prints=True)
def retrain(as_of: str | None = None, cause: str = "asked for") -> Outcome:
    """Train a challenger, judge it against the champion, and release it if it passes.

    Args:
        as_of: a period (2013-W08) or a timestamp; without it the newest labelled period.
        cause: why, for the log.
    """
    outcome = run_retrain(Project.open(), as_of, cause)
    print(outcome.message)
    return outcome
