"""A period's batch comes in and becomes a snapshot."""

from pathlib import Path
from typing import Literal

from prefect import flow

from data.ingest import Ingested, deliver, read_file
from data.ingest import ingest as add
from data.periods import Period
from flows import troubles
from flows.forms import PeriodName, run_name
from flows.project import Project
from flows.steps import Outcome, patient, step

What = Literal["all", "rows", "labels"]


def run_ingest(
    project: Project, period: str, from_file: str | None = None, what: What = "all"
) -> Ingested:
    """Add a period from the problem's source or from a file, then record the snapshot."""
    chosen = Period.parse(period)
    batch = (
        read_file(Path(from_file), project.problem)
        if from_file
        else patient(deliver, project.problem, chosen)
    )
    done = step(
        add,
        project.problem,
        project.partitions,
        chosen,
        batch,
        rows=what != "labels",
        labels=what != "rows",
        source=from_file or "the source's batch",
        quarantine=project.quarantine,
        contract=project.params.contract,
    )
    print(done.message)
    name = chosen.name if what != "labels" else f"{chosen.name}-labels"
    snapshot = step(project.record, name)
    print(f"snapshot {snapshot.tag}")
    return done


@flow(
    name="ingest",
    flow_run_name=run_name("ingest", "period", "what"),
    timeout_seconds=7200,
    **troubles.TOLD,
)
def ingest(period: PeriodName, from_file: str | None = None, what: What = "all") -> Outcome:
    """Add one period to data/raw after its contract, and version it.

    Args:
        period: what to add, such as 2013-W05.
        from_file: a parquet or CSV batch, or key, label and labelled_at alone; without it the
            problem's own source delivers.
        what: its rows, its labels (which arrive later), or all.
    """
    return Outcome(run_ingest(Project.open(), period, from_file, what).message)
