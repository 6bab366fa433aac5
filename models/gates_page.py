"""The gate report as one HTML file that people read: no network, and no colour without a word."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.bootstrap import Interval
from models.slices import SliceFinding
from models.verdict import GateReport, metrics

SIGNS = {True: "✔", False: "✘", None: "?"}
LINES = {
    "challenger": ("#1f77b4", ""),
    "champion": ("#d95f02", "7 4"),
    "yardstick": ("#888", "2 3"),
}
SIDE, LEFT, BOTTOM = 370, 50, 380


def to_html(report: GateReport, title: str) -> str:
    """One self-contained page; what blocks comes first."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    blocking = [verdict for verdict in report.verdicts if verdict.blocks]
    others = sorted((v for v in report.verdicts if not v.passed), key=lambda v: not v.blocks)
    low, top = _ends(report)
    return found.get_template("gates.html.j2").render(
        report=report,
        title=title,
        counts=_counts(report),
        blocking=blocking,
        others=others,
        passed=[verdict for verdict in report.verdicts if verdict.passed],
        signs=SIGNS,
        metrics=metrics(report.task, report.qualities.values()),
        plot=_plot(report, low, top),
        low=low,
        top=top,
        ticks=[low + (top - low) * part / 4 for part in range(5)],
        observed="mean outcome" if _of_numbers(report) else "observed rate",
        slices=sorted(report.slices, key=_loss, reverse=True),
        against="the champion" if report.champion else "the yardstick",
        number=number,
        between=between,
    )


def number(value: float | None) -> str:
    """A number as people read it: three significant digits, small ones not in powers of ten."""
    if value is None:
        return ""
    if abs(value) < 1e-12:  # a sum of rows that are 0 on the whole
        return "0"
    if 1e-4 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.1e}"


def between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _counts(report: GateReport) -> str:
    marks = [verdict.mark for verdict in report.verdicts]
    return ", ".join(f"{marks.count(mark)} {mark}" for mark in sorted(set(marks), reverse=True))


def _loss(finding: SliceFinding) -> float:
    return finding.regression.value if finding.regression else float("-inf")


def _of_numbers(report: GateReport) -> bool:
    return report.task.kind == "regression"


def _ends(report: GateReport) -> tuple[float, float]:
    """Both axes: from 0 to the next tenth above every point, or what numbers range over."""
    known = [end for name in LINES for pair in report.curves.get(name, ()) for end in pair]
    if _of_numbers(report):
        low, top = min(known, default=0.0), max(known, default=1.0)
        return low, top if top > low else low + 1.0
    return 0.0, min(1.0, -(-max(known, default=1.0) * 10 // 1) / 10)


def _plot(report: GateReport, low: float, top: float) -> list[dict[str, Any]]:
    """Points of each line, in pixels of the picture."""

    def pixels(value: float) -> float:
        return SIDE * (value - low) / (top - low)

    return [
        {
            "name": name,
            "color": color,
            "dash": dash,
            "points": [(round(LEFT + pixels(told), 1), round(BOTTOM - pixels(observed), 1))
                       for told, observed in report.curves[name]],
        }
        for name, (color, dash) in LINES.items()
        if name in report.curves
    ]  # fmt: skip
