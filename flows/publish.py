"""A report where people and machines look: a page, Prometheus' gauges, curves in MLflow."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bento.slots import monitor_file
from data.digests import write_atomically
from data.periods import Period, span
from data.verdicts import Verdict
from flows.project import Project
from models import monitor_page
from models.governor import Action
from models.version import Version

Report = Mapping[str, Any]
OF = "evergreen.monitoring_of"


def page(project: Project, report: Report, others: Sequence[Report], beside: Path) -> Path:
    """The page of a report, beside its JSON."""
    path = beside.with_suffix(".html")
    write_atomically(path, monitor_page.to_html(project.problem.name, report, others))
    return path


def gauges(project: Project, report: Report) -> None:
    """What both slots show on /metrics besides their own counters."""
    write_atomically(monitor_file(project.settings.serving.folder), exposition(report))


def exposition(report: Report) -> bytes:
    """The report in Prometheus' text format."""
    registry = CollectorRegistry()

    def gauge(name: str, doc: str, *labels: str) -> Gauge:
        return Gauge(f"evergreen_monitor_{name}", doc, labels, registry=registry)

    watched = gauge("timestamp_seconds", "when a period was last watched")
    watched.set(datetime.fromisoformat(report["made_at"]).timestamp())
    gauge("rows", "answers of the period").set(report["served"])
    about = gauge("info", "what was watched last", "period", "watched_version")
    about.labels(report["period"], report["version"]).set(1)
    verdicts = gauge("verdict", "1 for what a monitor says", "monitor", "verdict")
    values = gauge("value", "what a monitor measured", "monitor")
    limits = gauge("threshold", "what it was held against", "monitor")
    for said in report["findings"]:
        for verdict in Verdict:
            verdicts.labels(said["monitor"], verdict.value).set(said["verdict"] == verdict)
        for family, value in ((values, said["value"]), (limits, said["threshold"])):
            if value is not None:
                family.labels(said["monitor"]).set(value)
    decided = gauge("decision", "1 for what was decided", "action")
    for action in Action:
        decided.labels(action.value).set(report["decision"]["action"] == action)
    return generate_latest(registry)


def history(project: Project, report: Report, champion: Version) -> None:
    """Each value and limit as a metric of a run below the version's: MLflow draws the curves.

    Steps are periods since the first that may be learned from.
    """
    tracking = project.registry.tracking
    client, experiment = tracking.client(), tracking.experiment()
    wanted = f"tags.`{OF}` = '{champion.number}'"
    known = client.search_runs([experiment], wanted, max_results=1)
    tags = {
        OF: champion.number,
        MLFLOW_PARENT_RUN_ID: champion.run_id,
        MLFLOW_RUN_NAME: f"monitoring of version {champion.number}",
    }
    run = known[0] if known else client.create_run(experiment, tags=tags)
    at = int(datetime.fromisoformat(report["made_at"]).timestamp() * 1000)
    first = Period.parse(project.params.train.first_period)
    step = len(span(first, Period.parse(report["period"])))
    found = [
        Metric(f"{said['monitor']}.{what}", float(said[what]), at, step)
        for said in report["findings"]
        for what in ("value", "threshold")
        if said[what] is not None
    ]
    client.log_batch(run.info.run_id, metrics=found)
    client.set_tag(run.info.run_id, "last_period", report["period"])
    if not known:
        client.set_terminated(run.info.run_id)
