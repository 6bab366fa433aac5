"""The reports that the monitor keeps, one JSON for each period and version."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from data.periods import Period
from flows.project import Project
from flows.year import silent_since


def folder(project: Project) -> Path:
    return project.settings.home / "reports"


def reports(project: Project) -> list[dict[str, Any]]:
    """Every report kept, by period; there is one for each version that was watched in it."""
    found = [json.loads(path.read_text()) for path in folder(project).glob("*.json")]
    return sorted(found, key=lambda said: (Period.parse(said["period"]), int(said["version"])))


def newest_report(project: Project) -> dict[str, Any] | None:
    """The report on the newest period that was watched; the last one made of it."""

    def order(said: dict[str, Any]) -> tuple[Period, str]:
        return Period.parse(said["period"]), said["made_at"]

    return max(reports(project), key=order, default=None)


def silence(project: Project, at: datetime) -> str | None:
    """What is wrong if no period was watched for longer than the schedule allows; None if well."""
    report = newest_report(project)
    return silent_since(report["period"], report["made_at"], at) if report else None
