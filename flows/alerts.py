"""Who is told what, and when: each thing once, again when it goes on, and that it is over.

What was told stands in `alerts.jsonl` in the home, so that a restart forgets nothing. Deciding is a
pure function of these lines and the moment; `flows.notify` sends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from data.alert_params import Alerts


class Severity(StrEnum):
    """`critical` wakes somebody; a `warning` waits for the morning; `info` is for the record."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class What(StrEnum):
    """What became of an alert at a moment."""

    SENT = "sent"
    HELD = "held"  # for quiet hours, or because it could not be sent
    KEPT = "kept"  # below the level
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Alert:
    """Something that somebody should know.

    Attributes:
        key: the same for the same trouble; while it lasts it is one alert.
        title: one line; body: what happened, how things stand, what to do.
    """

    key: str
    severity: Severity
    title: str
    body: str


@dataclass(frozen=True)
class Line:
    """One line of the record; `at` is UTC, ISO text."""

    at: str
    what: What
    alert: Alert
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Line":
        alert = value["alert"]
        kept = Alert(**{**alert, "severity": Severity(alert["severity"])})
        return cls(value["at"], What(value["what"]), kept, value["reason"])


@dataclass(frozen=True)
class Open:
    """An alert that is not over.

    Attributes:
        since: when it was first raised; told: when it was last sent, None if it never was.
        loudest: the severity that was sent.
    """

    alert: Alert
    since: datetime
    told: datetime | None = None
    loudest: Severity | None = None


@dataclass(frozen=True)
class Decided:
    """What to do with an alert, and why."""

    what: What | None
    reason: str


def standing(
    lines: Iterable[Line], already: Mapping[str, Open] = MappingProxyType({})
) -> dict[str, Open]:
    """The alerts that are not over, by key, oldest first.

    Args:
        already: those that were open before these lines.
    """
    found = dict(already)
    for line in lines:
        key, at = line.alert.key, datetime.fromisoformat(line.at)
        if line.what is What.RESOLVED:
            found.pop(key, None)
        if line.what in (What.RESOLVED, What.KEPT):
            continue
        before = found.get(key, Open(line.alert, at))
        told, loudest = before.told, before.loudest
        if line.what is What.SENT:
            told, loudest = at, line.alert.severity
        found[key] = Open(line.alert, before.since, told, loudest)
    return found


def decide(known: Open | None, alert: Alert, at: datetime, params: Alerts) -> Decided:
    """Whether an alert is sent now.

    Args:
        known: what was told of the same trouble.
        at: with a zone.
    """
    if alert.severity.rank < Severity(params.level).rank:
        return Decided(What.KEPT, f"below {params.level}")
    if known and known.told and known.loudest and alert.severity.rank <= known.loudest.rank:
        again = known.told + timedelta(hours=params.repeat_hours)
        if at < again:
            return Decided(None, f"told at {known.told:%Y-%m-%d %H:%M} UTC")
    if alert.severity is not Severity.CRITICAL and is_quiet(at, params):
        until = f"quiet until {params.quiet_until} {params.timezone}"
        waits = known is not None and known.alert == alert and known.told is None
        return Decided(None if waits else What.HELD, until)
    return Decided(What.SENT, "due")


def is_quiet(at: datetime, params: Alerts) -> bool:
    """Whether a moment lies in the quiet hours, which may go over midnight."""
    clock = f"{at.astimezone(ZoneInfo(params.timezone)):%H:%M}"
    begin, end = params.quiet_from, params.quiet_until
    if begin <= end:
        return begin <= clock < end
    return clock >= begin or clock < end


def due(open_: Iterable[Open], at: datetime, params: Alerts) -> list[Alert]:
    """Of what is not over, the alerts that waited and may be sent now."""
    return [
        known.alert
        for known in open_
        if known.told is None and decide(known, known.alert, at, params).what is What.SENT
    ]
