"""The monitor's reports as they lie on disk, each read once; no monitor is run for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.errors import EvergreenError
from data.periods import Period
from data.verdicts import Finding, Verdict, find

QUALITY = "quality"
SILENCE = timedelta(days=8)  # the schedule's week, and a day
ORDER = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARN, Verdict.ALARM)


@dataclass(frozen=True)
class Said:
    """A finding without its evidence."""

    monitor: str
    verdict: Verdict
    value: float | None
    threshold: float | None
    rows: int
    reason: str


@dataclass(frozen=True)
class Week:
    """What was said of a period, in short.

    Attributes:
        loss, low, high, limit: log loss beside the period's own rate, its interval and its limit;
            None where no label has matured.
        coverage: the share of answers with a label; None where nobody counted.
        alarms: the monitors that said ALARM.
        page: the report's page, as the board serves it; None without one.
    """

    period: str
    version: str
    served: int
    action: str
    reason: str
    verdict: Verdict
    alarms: tuple[str, ...]
    loss: float | None
    low: float | None
    high: float | None
    limit: float | None
    roc_auc: float | None
    log_loss: float | None
    coverage: float | None
    page: str | None


@dataclass(frozen=True)
class Report:
    """A report that was kept; `made_at` is empty where it was not written down."""

    week: Week
    findings: tuple[Said, ...]
    made_at: str


def read(folder: Path) -> tuple[list[Report], list[str]]:
    """The reports of a folder by period, and which could not be read.

    Of a period that several versions were watched in, the one that answered most counts.
    """
    found, faults = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            stat = path.stat()
            found.append(_read(path, stat.st_mtime_ns, stat.st_size, _page(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EvergreenError) as error:
            faults.append(f"{path} is no report of the monitor ({type(error).__name__})")
    found.sort(key=lambda report: (Period.parse(report.week.period), report.week.served))
    by_period = {report.week.period: report for report in found}
    return list(by_period.values()), faults


def _page(path: Path) -> str | None:
    page = path.with_suffix(".html")
    return page.name if page.exists() else None


@lru_cache(maxsize=1024)
def _read(path: Path, changed: int, size: int, page: str | None) -> Report:
    """One report; a file that was changed since is read again."""
    said = json.loads(path.read_bytes())
    findings = [Finding.from_json(each) for each in said["findings"]]
    shown = tuple(
        Said(f.monitor, f.verdict, f.value, f.threshold, f.rows, f.reason) for f in findings
    )
    return Report(_week(said, findings, page), shown, str(said.get("made_at", "")))


def _week(said: Mapping[str, Any], findings: Sequence[Finding], page: str | None) -> Week:
    judged = find(findings, QUALITY)
    seen: Mapping[str, Any] = judged.evidence if judged else {}
    interval = seen.get("interval") or {}
    worst = max((f.verdict for f in findings), key=ORDER.index, default=Verdict.UNKNOWN)
    return Week(
        period=Period.parse(said["period"]).name,
        version=str(said["version"]),
        served=int(said["served"]),
        action=str(said["decision"]["action"]),
        reason=str(said["decision"]["reason"]),
        verdict=worst,
        alarms=tuple(f.monitor for f in findings if f.verdict is Verdict.ALARM),
        loss=judged.value if judged else None,
        low=interval.get("low"),
        high=interval.get("high"),
        limit=judged.threshold if judged else None,
        roc_auc=seen.get("roc_auc"),
        log_loss=seen.get("log_loss"),
        coverage=seen.get("coverage"),
        page=page,
    )


def silent_since(period: str, made_at: str, at: datetime) -> str | None:
    """What is wrong if the newest report, of that period, is older than the schedule allows."""
    since = at - datetime.fromisoformat(made_at)
    if since <= SILENCE:
        return None
    return (
        f"the monitor has been silent for {since.days} days (last: {period}): look at its schedule "
        "and runs in the Prefect UI, then `evergreen monitor`"
    )
