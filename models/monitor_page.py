"""The monitor's report as one HTML file that a person wants to open: no network, no colour alone.

The verdicts come first, then for each how the value lies among those of earlier periods and of the
reference, then what the answers cost, the slices, and what was decided and why.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.ticker import MaxNLocator

from data.periods import Period
from data.task import BINARY, Task
from data.verdicts import Finding, Verdict, find
from models.gates_page import number
from models.monitor_words import METRICS, NEXT, about
from models.monitors import OWN

SIGNS = {Verdict.OK: "✔", Verdict.WARN: "▲", Verdict.ALARM: "✘", Verdict.UNKNOWN: "?"}
GRAVEST = (Verdict.ALARM, Verdict.UNKNOWN, Verdict.WARN, Verdict.OK)
LOGARITHMIC = frozenset({"feature_drift", "concept_drift"})
PERIODS, COLUMNS, SLICES = 26, 12, 12
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 190, 52, 12, 14, 34


@dataclass(frozen=True)
class Week:
    """What was said of one period."""

    period: str
    version: str
    served: int
    findings: tuple[Finding, ...]
    action: str
    reason: str
    task: Task = BINARY

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Week":
        """From a report as it is kept."""
        findings = tuple(Finding.from_json(said) for said in report["findings"])
        decision = report["decision"]
        task = Task.from_json(report["task"]) if "task" in report else BINARY
        return cls(report["period"], report["version"], report["served"], findings,
                   decision["action"], decision["reason"], task)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """One period of a chart, in pixels; `y` is None where nothing is known.

    Attributes:
        change: the version, where it is another one than in the period before.
    """

    x: float
    y: float | None
    period: str
    verdict: Verdict
    value: float | None
    change: str


@dataclass(frozen=True)
class Chart:
    """A monitor's values over the periods, in pixels.

    Attributes:
        line: points of unbroken stretches; limits: the threshold's steps, as one path.
        usual: heights of the reference's own periods.
        ticks: (height, value) of the axis.
    """

    monitor: str
    question: str
    axis: str
    marks: tuple[Mark, ...]
    line: tuple[str, ...]
    limits: str
    usual: tuple[float, ...]
    ticks: tuple[tuple[float, float], ...]
    step: float


def to_html(name: str, report: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """One self-contained page on a period.

    Args:
        name: of the problem.
        report: as it is kept; others: all reports, of which those up to its period are drawn.
    """
    week = Week.of(report)
    past = _past(week, [Week.of(other) for other in others])
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    order = sorted(week.findings, key=lambda finding: GRAVEST.index(finding.verdict))
    known = [w for w in past if w.findings]
    charts = [_chart(finding.monitor, known, week.task) for finding in order]
    return found.get_template("monitor.html.j2").render(
        name=name,
        week=week,
        findings=order,
        counts=_counts(week.findings),
        signs=SIGNS,
        next_step=NEXT.get(week.action, "").format(period=week.period),
        charts=[chart for chart in charts if chart],
        columns=_columns(week),
        costs=_costs(past, week.task),
        loss=week.task.loss,
        own=OWN[week.task.kind],
        answers=week.task.answers,
        unit=week.task.unit,
        worse=_evidence(week, "quality").get("worse", {}).get("log_loss"),
        classes=_evidence(week, "calibration").get("classes", {}),
        slices=_evidence(week, "calibration").get("slices", [])[:SLICES],
        past=past[::-1],
        details=[(f.monitor, _scalars(f, week.task)) for f in order],
        number=number,
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
    )


def _past(week: Week, others: Sequence[Week]) -> list[Week]:
    """The periods up to this one, oldest first; the one that answered most stands for each."""
    found = {other.period: other for other in sorted(others, key=lambda other: other.served)}
    found[week.period] = week
    upto = Period.parse(week.period)
    names = sorted((name for name in found if Period.parse(name) <= upto), key=Period.parse)
    return [found[name] for name in names][-PERIODS:]


def _counts(findings: Sequence[Finding]) -> str:
    said = [finding.verdict for finding in findings]
    return ", ".join(f"{said.count(v)} {v}" for v in GRAVEST if v in said)


def _evidence(week: Week, monitor: str) -> Mapping[str, Any]:
    found = find(week.findings, monitor)
    return found.evidence if found else {}


def _scalars(finding: Finding, task: Task) -> list[tuple[str, str]]:
    """What else a monitor noted, as far as it is a single value."""
    names = {"log_loss": task.loss, "roc_auc": task.ranking}
    return [
        (
            names.get(name, name).replace("_", " "),
            number(value) if isinstance(value, float) else str(value),
        )
        for name, value in finding.evidence.items()
        if isinstance(value, (str, int, float))
    ]


def _columns(week: Week) -> list[dict[str, Any]]:
    """Bars of the columns that drifted most beside their own limits, as shares of the longest."""
    shown = sorted(_evidence(week, "feature_drift").get("columns", []),
                   key=lambda c: -c["psi"] / max(c["limit"], 1e-9))[:COLUMNS]  # fmt: skip
    if not shown:
        return []
    low = 1e-3
    most = math.log(max(max(c["psi"], c["limit"], 2 * low) for c in shown) / low)

    def part(value: float) -> float:
        return round(100 * max(math.log(max(value, low) / low), 0.0) / most, 1)

    return [{**c, "bar": part(c["psi"]), "mark": part(c["limit"]),
             "times": c["psi"] / max(c["limit"], 1e-9)} for c in shown]  # fmt: skip


def _costs(
    past: Sequence[Week], task: Task
) -> list[tuple[str, float | None, float | None, float | None]]:
    """Metric, this period's value, the one before's, and the mean of all shown before it."""
    known = [_evidence(week, "quality") for week in past]
    before = known[:-1]
    rows = []
    names = {"log_loss": task.loss, "roc_auc": task.ranking, **METRICS}
    for key, name in names.items():
        values = [said[key] for said in before if said.get(key) is not None]
        mean = sum(values) / len(values) if values else None
        last = before[-1].get(key) if before else None
        if any(key in said for said in known):
            rows.append((name, known[-1].get(key), last, mean))
    return rows if any(value is not None for _, value, *_ in rows) else []


def _chart(monitor: str, past: Sequence[Week], task: Task) -> Chart | None:
    """A monitor's values over the periods; None where it never had one."""
    said = [find(week.findings, monitor) for week in past]
    values = [f.value for f in said if f and f.value is not None]
    limits = [f.threshold for f in said if f and f.threshold is not None]
    if not values or not said[-1]:
        return None
    usual = [float(v) for v in said[-1].evidence.get("past", ())]
    scale = _Scale.over([*values, *limits, *usual], monitor in LOGARITHMIC)
    step = (WIDTH - LEFT - RIGHT) / max(len(past), 1)
    marks = tuple(
        Mark(
            x=round(LEFT + step * (place + 0.5), 1),
            y=scale.height(f.value) if f and f.value is not None else None,
            period=week.period,
            verdict=f.verdict if f else Verdict.UNKNOWN,
            value=f.value if f else None,
            change=week.version if place and week.version != past[place - 1].version else "",
        )
        for place, (week, f) in enumerate(zip(past, said, strict=True))
    )
    question, axis = about(monitor, task)
    return Chart(
        monitor, question, axis, marks, _stretches(marks), _steps(said, step, scale),
        tuple(scale.height(v) for v in usual), scale.ticks(), round(step, 1),
    )  # fmt: skip


def _stretches(marks: Sequence[Mark]) -> tuple[str, ...]:
    """Points of the lines between neighbours that are both known."""
    found: list[list[str]] = [[]]
    for mark in marks:
        if mark.y is None:
            found.append([])
        else:
            found[-1].append(f"{mark.x},{mark.y}")
    return tuple(" ".join(points) for points in found if len(points) > 1)


def _steps(said: Sequence[Finding | None], step: float, scale: "_Scale") -> str:
    """The thresholds as an SVG path of horizontal strokes."""
    strokes = []
    for place, finding in enumerate(said):
        if finding and finding.threshold is not None:
            x, y = round(LEFT + step * place, 1), scale.height(finding.threshold)
            strokes.append(f"M{x} {y}h{round(step, 1)}")
    return "".join(strokes)


@dataclass(frozen=True)
class _Scale:
    """Values to pixels, from the bottom up."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], logarithmic: bool) -> "_Scale":
        if logarithmic:
            inside = [math.log10(max(v, 1e-3)) for v in values]
            return cls(math.floor(min(inside)), max(math.ceil(max(inside)), min(inside) + 1), True)
        low, high = min([*values, 0.0]), max(values)
        room = (high - low or 1.0) * 0.08
        return cls(low - (room if low < 0 else 0.0), high + room, False)

    def height(self, value: float) -> float:
        at = math.log10(max(value, 1e-3)) if self.logarithmic else value
        part = (at - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    def ticks(self) -> tuple[tuple[float, float], ...]:
        if self.logarithmic:
            every = max(1, round((self.high - self.low) / 4))
            shown = [10.0**e for e in range(int(self.low), int(self.high) + 1, every)]
        else:
            found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            shown = [float(v) for v in found if self.low <= v <= self.high]
        return tuple((self.height(value), value) for value in shown)
