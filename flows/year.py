"""The monitor's reports as they lie on disk, each read once; no monitor is run for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.errors import EvergreenError
from data.periods import Period
from data.task import BINARY, Task
from data.verdicts import Finding, Verdict, find

QUALITY = "quality"
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
class Measured:
    """A measure of quality, the interval of it, and the limit that it was held against."""

    value: float
    low: float
    high: float
    limit: float


@dataclass(frozen=True)
class Week:
    """What was said of a period, in short.

    Attributes:
        loss: beside that of the period's own constant answer, beyond the reference's median (more
            is worse); None where no label has matured.
        auc: ROC-AUC with its interval, and what is usual at least.
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
    loss: Measured | None
    auc: Measured | None
    log_loss: float | None
    coverage: float | None
    page: str | None


@dataclass(frozen=True)
class Report:
    """A report that was kept, and when it was made (UTC, ISO text)."""

    week: Week
    findings: tuple[Said, ...]
    made_at: str
    task: Task = BINARY

    def to_json(self) -> dict[str, Any]:
        week = self.week
        return {
            "period": week.period,
            "version": week.version,
            "action": week.action,
            "reason": week.reason,
            "made_at": self.made_at,
            "unknown": [f.monitor for f in self.findings if f.verdict is Verdict.UNKNOWN],
            "findings": [asdict(f) for f in self.findings],
        }


@dataclass(frozen=True)
class Kept:
    """Reports that were kept.

    Attributes:
        year: one for each period, oldest first: of several versions the one that answered most.
        newest: the last one made of the newest period; None without one.
        faults: which files could not be read.
    """

    year: tuple[Week, ...] = ()
    newest: Report | None = None
    faults: tuple[str, ...] = ()


def read(folder: Path) -> Kept:
    """The reports of a folder; one that was read before and is as it was is not read again."""
    found, faults = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            stat = path.stat()
            found.append(_read(path, stat.st_mtime_ns, stat.st_size, _page(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EvergreenError) as error:
            faults.append(f"{path} is no report of the monitor ({type(error).__name__})")
    found.sort(key=lambda report: (Period.parse(report.week.period), report.week.served))
    by_period = {report.week.period: report.week for report in found}
    newest = max(
        (report for report in found if report.week.period == found[-1].week.period),
        key=lambda report: report.made_at,
        default=None,
    )
    return Kept(tuple(by_period.values()), newest, tuple(faults))


def _page(path: Path) -> str | None:
    page = path.with_suffix(".html")
    return page.name if page.exists() else None


@lru_cache(maxsize=1024)
def _read(path: Path, changed: int, size: int, page: str | None) -> Report:
    """One report; a file that was changed since is read again."""
    said = json.loads(path.read_bytes(), parse_constant=_no_number)
    findings = [Finding.from_json(each) for each in said["findings"]]
    shown = tuple(
        Said(f.monitor, f.verdict, _number(f.value), _number(f.threshold), f.rows, f.reason)
        for f in findings
    )
    task = Task.from_json(said["task"]) if "task" in said else BINARY
    return Report(_week(said, findings, page), shown, str(said["made_at"]), task)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _week(said: Mapping[str, Any], findings: Sequence[Finding], page: str | None) -> Week:
    judged = find(findings, QUALITY)
    seen: Mapping[str, Any] = judged.evidence if judged else {}
    worse = seen.get("worse") or {}
    worst = max((f.verdict for f in findings), key=ORDER.index, default=Verdict.UNKNOWN)
    return Week(
        period=Period.parse(said["period"]).name,
        version=str(said["version"]),
        served=int(said["served"]),
        action=str(said["decision"]["action"]),
        reason=str(said["decision"]["reason"]),
        verdict=worst,
        alarms=tuple(f.monitor for f in findings if f.verdict is Verdict.ALARM),
        loss=_loss(worse.get("log_loss")),
        auc=_auc(seen.get("roc_auc"), worse.get("roc_auc")),
        log_loss=_number(seen.get("log_loss")),
        coverage=_number(seen.get("coverage")),
        page=page,
    )


def _loss(worse: Mapping[str, Any] | None) -> Measured | None:
    if worse is None:
        return None
    value, low = worse["value"], worse["low"]
    found = (value, low, worse.get("high", value), worse["usual"]["value"])
    return Measured(*map(float, found))


def _auc(value: float | None, worse: Mapping[str, Any] | None) -> Measured | None:
    """ROC-AUC itself: what the monitor keeps is by how much it is below the usual."""
    if value is None or worse is None:
        return None
    usual = float(value) + float(worse["value"])
    low, high = worse.get("high", worse["value"]), worse["low"]
    limit = worse["usual"]["value"]
    return Measured(float(value), *(usual - float(below) for below in (low, high, limit)))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
