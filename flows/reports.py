"""The reports that the monitor keeps, one JSON for each period and version."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.periods import Period
from flows import year
from flows.year import Report

if TYPE_CHECKING:  # who reads files only needs no pandas
    from flows.project import Project

SILENCE = timedelta(days=8)  # the schedule's week, and a day


def folder(project: "Project") -> Path:
    return project.settings.home / "reports"


def reports(project: "Project") -> list[dict[str, Any]]:
    """Every report kept, by period; there is one for each version that was watched in it."""
    found = [json.loads(path.read_text()) for path in folder(project).glob("*.json")]
    return sorted(found, key=lambda said: (Period.parse(said["period"]), int(said["version"])))


def newest(project: "Project") -> Report | None:
    """The report on the newest period that was watched; the last one made of it."""
    return year.read(folder(project)).newest


def silence(project: "Project", at: datetime) -> str | None:
    """What is wrong if no period was watched for longer than the schedule allows; None if well."""
    report = newest(project)
    return silent(report.week.period, report.made_at, at) if report else None


def silent(period: str, made_at: str, at: datetime) -> str | None:
    """The same of the newest report: the period that it is on, and when it was made."""
    since = at - datetime.fromisoformat(made_at)
    if since <= SILENCE:
        return None
    return (
        f"the monitor has been silent for {since.days} days (last: {period}): look at "
        "its schedule and runs in the Prefect UI, then `evergreen monitor`"
    )
