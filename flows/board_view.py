"""The overview as the board's template wants it: words, signs and the geometry of the year."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from data.periods import Period, span
from data.task import BINARY, Task
from data.verdicts import Verdict
from flows.overview import Overview
from flows.year import Week

SIGNS = {Verdict.OK: "✔", Verdict.WARN: "▲", Verdict.ALARM: "✘", Verdict.UNKNOWN: "?"}
ACTIONS = {"retrain": "↻", "recalibrate": "±", "investigate": "!", "wait": "·"}
KINDS = {
    "promoted": "↑",
    "released": "→",
    "rolled_back": "↩",
    "rejected": "✘",
    "refused": "✘",
    "approved": "✔",
    "waiver": "§",
}
WIDE, NARROW = (1120, 60), (350, 12)  # pixels, and at most how many periods
LEFT, RIGHT = 54, 8
PANELS = {"loss": (40, 140), "auc": (164, 256)}  # name -> top and bottom
TITLES = {
    "loss": "{loss} beyond what is usual (less is better)",
    "auc": "{ranking} (more is better)",
}
LABELS, MARKS = (278, 308), (322, 362)
HEIGHT = 384


def content(found: Overview) -> dict[str, Any]:
    """Everything that the template names."""
    weeks, task = found.year, found.monitor.task if found.monitor else BINARY
    shapes = ((*WIDE, "wide"), (*NARROW, "narrow"))
    return {
        "it": found,
        "signs": SIGNS,
        "actions": ACTIONS,
        "kinds": KINDS,
        "tone": _tone(found),
        "slots": _slots(found),
        "charts": [chart(weeks, *shape, task) for shape in shapes] if weeks else [],
        "task": task,
        "when": when,
        "number": number,
    }


def number(value: float | None) -> str:
    """Three significant digits; nothing for what is not known."""
    return "" if value is None else f"{value:.3g}"


def when(text: str | None) -> str:
    """An ISO moment as people read it, in UTC as it was written."""
    try:
        return datetime.fromisoformat(text or "").strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text or ""


def _tone(found: Overview) -> tuple[str, str]:
    """A class and a sentence for the whole."""
    if not found.up:
        return "UNKNOWN", "The stack is down: `evergreen up` starts it."
    if found.problems:
        return "ALARM", "Something does not fit."
    if found.unknown:
        return "UNKNOWN", "Something could not be read."
    if found.active is None:
        return "WARN", "Nothing serves yet: `evergreen retrain` makes a first model."
    if found.monitor and found.monitor.week.verdict is Verdict.ALARM:
        return "WARN", f"It serves; an alarm stands in {found.monitor.week.period}."
    return "OK", "It serves what it should."


def _slots(found: Overview) -> list[dict[str, Any]]:
    """One for each slot: what it holds, its share in percent, and its part."""
    total = sum(found.weights.values())
    shown = []
    for slot, release in found.slots.items():
        share = round(100 * found.weights[slot] / total) if total else 0
        part = "serves" if slot == found.active else "stands by" if release else "empty"
        if release and slot != found.active and share:
            part = "shares the traffic"
        shown.append({"slot": slot, "release": release, "share": share, "part": part})
    return shown


def chart(weeks: Sequence[Week], width: int, most: int, name: str, task: Task) -> dict[str, Any]:
    """The last periods in a picture of that width; periods that were not watched are gaps."""
    periods = span(Period.parse(weeks[0].period), Period.parse(weeks[-1].period))[-most:]
    by_name = {week.period: week for week in weeks}
    shown = [(place, by_name.get(period.name)) for place, period in enumerate(periods)]
    step = (width - LEFT - RIGHT) / len(periods)

    def x(place: float) -> float:
        return round(LEFT + (place + 0.5) * step, 1)

    seen = [(x(place), week) for place, week in shown if week]
    every = max(1, round(52 / step + 0.49))
    return {
        "name": name,
        "width": width,
        "height": HEIGHT,
        "left": LEFT,
        "right": width - RIGHT,
        "step": round(step, 1),
        "bands": _bands(shown, step),
        "panels": [panel for each in PANELS if (panel := _measured(seen, step, each, task))],
        "labels": _labels(seen, step),
        "marks": _marks(seen),
        "lanes": {"alarm": MARKS[0] + 12, "decision": MARKS[1] - 4},
        "ticks": [
            (x(place), periods[place].name)
            for place in range(len(periods) - 1, -1, -every)
        ],
        "says": _says([week for _, week in seen]),
    }  # fmt: skip


def _bands(shown: Sequence[tuple[int, Week | None]], step: float) -> list[dict[str, Any]]:
    """A band for each run of periods that one version served."""
    found: list[dict[str, Any]] = []
    for place, week in shown:
        if week is None:
            continue
        left, right = LEFT + place * step, LEFT + (place + 1) * step
        if found and found[-1]["version"] == week.version:
            found[-1]["right"] = right
        else:
            found.append({"version": week.version, "left": left, "right": right})
    for band in found:
        band["left"], band["width"] = round(band["left"], 1), round(band["right"] - band["left"], 1)
        band["text"] = f"version {band['version']}" if band["width"] > 62 else f"v{band['version']}"
        band["middle"] = round(band["left"] + band["width"] / 2, 1)
    return found


def _scale(values: Sequence[float], place: tuple[int, int]) -> tuple[Any, list[tuple[float, str]]]:
    """How a value becomes a y, and three ticks."""
    top, bottom = place
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 0.05
    low, high = low - room, high + room

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - low) / (high - low), 1)

    marks = [low + (high - low) * part for part in (0.1, 0.5, 0.9)]
    return y, [(y(value), f"{value:.2f}") for value in marks]


def _runs(points: Sequence[tuple[float, float]], step: float) -> list[str]:
    """Lines through neighbouring points; a gap ends one."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] < 1.5 * step:
            runs[-1].append(point)
        else:
            runs.append([point])
    return [" ".join(f"{x},{y}" for x, y in run) for run in runs]


def _measured(
    seen: Sequence[tuple[float, Week]], step: float, name: str, task: Task
) -> dict[str, Any] | None:
    """A measure by period: points with intervals, and the limit of each; None if none is known."""
    known = [(x, week, found) for x, week in seen if (found := getattr(week, name)) is not None]
    if not known:
        return None
    place, title = PANELS[name], TITLES[name].format(loss=task.loss, ranking=task.ranking)
    y, ticks = _scale([v for _, _, m in known for v in (m.value, m.low, m.high, m.limit)], place)
    dots = [
        {
            "x": x,
            "y": y(found.value),
            "low": y(found.low),
            "high": y(found.high),
            "limit": y(found.limit),
            "week": week,
            "says": f"{number(found.value)} [{number(found.low)} to {number(found.high)}], "
            f"limit {number(found.limit)}",
        }
        for x, week, found in known
    ]
    line = _runs([(dot["x"], dot["y"]) for dot in dots], step)
    return {"title": title, "ticks": ticks, "dots": dots, "line": line, "top": place[0]}


def _labels(seen: Sequence[tuple[float, Week]], step: float) -> dict[str, Any]:
    """A bar for each period: the share of answers whose label is known."""
    top, bottom = LABELS
    bars = [
        {
            "x": round(x - step * 0.35, 1),
            "width": round(step * 0.7, 1),
            "y": round(bottom - (bottom - top) * (week.coverage or 0), 1),
            "height": round((bottom - top) * (week.coverage or 0), 1),
            "middle": x,
            "week": week,
        }
        for x, week in seen
    ]
    return {"bars": bars, "top": top, "bottom": bottom}


def _marks(seen: Sequence[tuple[float, Week]]) -> list[dict[str, Any]]:
    return [{"x": x, "week": week} for x, week in seen if week.alarms or week.action != "wait"]


def _says(weeks: Sequence[Week]) -> str:
    """The picture in a sentence, for who does not see it."""
    alarms = [week.period for week in weeks if week.alarms]
    done = [f"{week.action} in {week.period}" for week in weeks if week.action != "wait"]
    versions = list(dict.fromkeys(week.version for week in weeks))
    return (
        f"{weeks[0].period} to {weeks[-1].period}; versions {', '.join(versions)}; alarms: "
        f"{', '.join(alarms) or 'none'}; decided: {', '.join(done) or 'to wait, always'}."
    )
