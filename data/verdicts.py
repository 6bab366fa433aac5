"""What a monitor says of a period: one type for all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

EXCEEDED = "exceeded"


class Verdict(StrEnum):
    """What a monitor says; a monitor without enough data says UNKNOWN, never OK."""

    OK = "OK"
    WARN = "WARN"
    ALARM = "ALARM"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Finding:
    """What one monitor says of one period.

    Attributes:
        monitor: its name, such as feature_drift.
        value: the statistic; None where it could not be computed.
        threshold: what it was held against.
        rows: what it was computed from.
        reason: a sentence.
        evidence: what a page shows beside it, as JSON.
    """

    monitor: str
    verdict: Verdict
    value: float | None
    threshold: float | None
    rows: int
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Finding":
        return cls(**{**value, "verdict": Verdict(value["verdict"])})


def find(findings: Iterable[Finding], monitor: str) -> Finding | None:
    """What that monitor says; None if it did not run."""
    return next((found for found in findings if found.monitor == monitor), None)


def twice(found: Finding, exceeded: bool, last: Finding | None) -> Finding:
    """WARN where a period exceeds its limit, ALARM where the one before it did, too.

    Args:
        found: what is said of the period if it does not.
        last: the same monitor on the period before, of the same model; None if it did not run.
    """
    before = last is not None and bool(last.evidence.get(EXCEEDED))
    verdict = (Verdict.ALARM if before else Verdict.WARN) if exceeded else found.verdict
    reason = found.reason + (", for the second period running" if exceeded and before else "")
    evidence = {**found.evidence, EXCEEDED: exceeded}
    return replace(found, verdict=verdict, reason=reason, evidence=evidence)
