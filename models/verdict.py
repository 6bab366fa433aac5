"""A gate's finding, and all findings on one challenger: frozen, so that acting is another's job."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime
from typing import Any, Protocol

from data.task import BINARY, Task
from models.bootstrap import Interval
from models.quality import Quality
from models.slices import SliceFinding
from models.standing import NEVER_WAIVED

METRICS = {
    "roc_auc": "",
    "pr_auc": "PR-AUC",
    "accuracy": "accuracy",
    "f1": "macro F1",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "log_loss": "",
    "brier": "Brier",
    "calibration_error": "ECE",
    "mean_probability": "mean probability",
    "positive_rate": "rate",
    "mean_prediction": "mean prediction",
    "mean": "mean outcome",
}  # without a name: the task's own
MARKS = {True: "passed", False: "failed", None: "unknown"}


@dataclass(frozen=True)
class Verdict:
    """One gate's finding; `passed` is None where there was too little data, which blocks too.

    Attributes:
        threshold: what `value` was held against; the gate's docstring says on which side it is.
        n: rows, files or calls that it was found on.
        interval: low and high of a bootstrap over days, where the gate has one.
        waiver: who answers for a verdict that is not passed, until when and why.
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    n: int
    interval: tuple[float, float] | None
    reason: str
    waiver: str | None = None

    @property
    def blocks(self) -> bool:
        return not self.passed and self.waiver is None

    @property
    def mark(self) -> str:
        """`passed`, `failed` or `unknown`; a waiver does not change what was found."""
        return MARKS[self.passed] + (" (waived)" if self.waiver else "")

    def because(self, reason: str) -> "Verdict":
        """The same verdict, explained otherwise."""
        return replace(self, reason=reason)


def of_interval(
    name: str, metric: str, interval: Interval, threshold: float, n: int, passed: bool
) -> Verdict:
    """A verdict whose value has an interval."""
    reason = (
        f"{metric} {interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] "
        f"against {threshold:+.4f}"
    )
    bounds = (interval.low, interval.high)
    return Verdict(name, bool(passed), interval.value, threshold, n, bounds, reason)


def step(task: Task, outcome: str = "") -> str:
    """What people call the unit in which answers are too high, of one class of several."""
    return f"{task.unit} of {outcome}" if outcome else task.unit


def metrics(task: Task, found: Iterable[Quality]) -> dict[str, str]:
    """The figures that there are, by what people call them, in the order in which they read."""
    own, there = {"roc_auc": task.ranking, "log_loss": task.loss}, set[str]()
    for quality in found:
        there |= {one.name for one in fields(quality)}
    return {key: own.get(key, name) for key, name in METRICS.items() if key in there}


@dataclass(frozen=True)
class GateReport:
    """All verdicts on one challenger.

    Attributes:
        qualities: model -> its metrics on the holdout; the challenger's, the champion's and those
            that are compared.
        slices: what the slice gates looked at.
        curves: model -> (mean answer, mean outcome) of ten bins of the holdout.
        task: in whose words it is read.
    """

    digest: str
    champion: str | None
    verdicts: tuple[Verdict, ...]
    qualities: Mapping[str, Quality] = field(default_factory=dict)
    slices: tuple[SliceFinding, ...] = ()
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    task: Task = BINARY

    @property
    def passed(self) -> bool:
        """Whether it may serve; a report without verdicts passes nothing."""
        return bool(self.verdicts) and not any(verdict.blocks for verdict in self.verdicts)

    @property
    def reason(self) -> str:
        waived = [v for v in self.verdicts if not v.passed and v.waiver]
        if not self.verdicts:
            return "no gate has judged it"
        if self.passed and not waived:
            return f"all {len(self.verdicts)} gates passed"
        if self.passed:
            said = "; ".join(f"{v.name}: {v.waiver}" for v in waived)
            return f"{len(self.verdicts) - len(waived)} gates passed, waived: {said}"
        return "; ".join(f"{v.name}: {v.reason}" for v in self.verdicts if v.blocks)

    def and_also(self, verdict: Verdict) -> "GateReport":
        return replace(self, verdicts=(*self.verdicts, verdict))

    def to_tags(self) -> dict[str, str]:
        """`gate.<name>` -> verdict and reason, as text."""
        return {
            f"gate.{v.name}": f"{MARKS[v.passed]}: {v.reason.removeprefix(f'{v.name}: ')}"[:5000]
            for v in self.verdicts
        }

    def to_json(self) -> dict[str, Any]:
        return _finite({**asdict(self), "passed": self.passed, "reason": self.reason})  # type: ignore[no-any-return]

    def to_markdown(self) -> str:
        """A table people read."""
        lines = ["| gate | verdict | value | threshold | n | reason |", "|---|---|---|---|---|---|"]
        for v in self.verdicts:
            value = "" if v.value is None else f"{v.value:.2g}"
            mark = v.mark if v.passed else f"**{v.mark}**"
            reason = v.reason if v.waiver is None else f"{v.reason} — {v.waiver}"
            cells = (v.name, mark, value, f"{v.threshold:.2g}", str(v.n), reason)
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    """JSON knows no infinity: such a number is None, and the reason says what it was."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Waived(Protocol):
    """A person answers for one failed gate of one artefact until a day; the ledger keeps it."""

    @property
    def gate(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def expires(self) -> date: ...
    def holds(self, at: datetime) -> bool: ...


def waived(report: GateReport, waivers: Iterable[Waived], at: datetime) -> GateReport:
    """The report with what people answer for at that moment marked; nothing found is changed.

    A waiver counts for the artefact that it names and no other. Nobody can answer for the gates in
    `NEVER_WAIVED`: an artefact that breaks its contract, answers otherwise than it was trained, was
    trained on what it must not see or cannot be made again is no matter of judgement.
    """
    held = {
        w.gate: f"{w.by} answers for it until {w.expires}: {w.reason}"
        for w in waivers
        if w.digest == report.digest and w.holds(at) and w.by.strip() and w.reason.strip()
    }
    verdicts = tuple(
        v if v.passed or v.name in NEVER_WAIVED else replace(v, waiver=held.get(v.name))
        for v in report.verdicts
    )
    return replace(report, verdicts=verdicts)
