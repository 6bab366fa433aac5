"""The year in one picture, for the README: how well each policy's model answered, week by week.

`evergreen replay --page` draws it beside its page; `python -m flows.replay_picture JSON SVG` draws
it again from the JSON alone.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from flows.replay_view import task_of
from models.policies import ALWAYS, NEVER, OURS

SMOOTH = 4  # periods
NAME = "year.svg"
# Told apart by line and width as well as by colour.
LOOKS: Mapping[str, Mapping[str, Any]] = {
    ALWAYS: {"color": "#7a7a7a", "linestyle": (0, (1, 1.2)), "linewidth": 2.0},
    NEVER: {"color": "#b3541e", "linestyle": "--", "linewidth": 1.8},
}
RECOMMENDED: Mapping[str, Any] = {"color": "#14638c", "linestyle": "-", "linewidth": 2.6}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "evergreen",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Quality through the first season: never retrained, always, and as recommended.

    The same JSON gives the same file. What a line is called says its retrains and its mean.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(10, 4.4), layout="constrained")
        lines = {name: smoothed(content, name) for name in (ALWAYS, content["recommended"], NEVER)}
        for name, values in lines.items():
            axes.plot(_places(values), values, label=_called(content, name), gid=f"line-{name}",
                      **LOOKS.get(name, RECOMMENDED))  # fmt: skip
        gap = lines[content["recommended"]], lines[NEVER]
        axes.fill_between(_places(gap[0]), *gap, color=RECOMMENDED["color"], alpha=0.1, linewidth=0)
        _retrains(axes, content, lines[content["recommended"]])
        _finish(axes, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)


def smoothed(content: Mapping[str, Any], policy: str) -> np.ndarray:
    """Mean ranking of each period and the three before it, shape (periods - 3,)."""
    values = np.array(content["weeks"]["roc_auc"][policy], dtype=float)
    return np.convolve(values, np.full(SMOOTH, 1 / SMOOTH), mode="valid")


def _places(values: np.ndarray) -> range:
    """Where on the axis they lie: a mean stands at its last period."""
    return range(SMOOTH - 1, SMOOTH - 1 + len(values))


def _called(content: Mapping[str, Any], policy: str) -> str:
    """The policy, its retrains and its mean in the season that is shown."""
    weeks = content["weeks"]
    retrains = len(weeks["retrained"][policy])
    mean = np.mean(np.array(weeks["roc_auc"][policy], dtype=float))
    said = {
        NEVER: "never retrained",
        ALWAYS: f"retrained every period ({retrains} times)",
        OURS: f"retrained when the governor decides ({retrains} times)",
    }.get(policy, f"{policy} ({retrains} retrains)")
    return f"{said}: {mean:.3f}"


def _retrains(axes: Axes, content: Mapping[str, Any], values: np.ndarray) -> None:
    """A mark on the recommended line in each period as of which it was retrained."""
    periods, first = content["weeks"]["periods"], SMOOTH - 1
    made = [periods.index(name) for name in content["weeks"]["retrained"][content["recommended"]]]
    shown = [place for place in made if place >= first]
    axes.plot(shown, [values[place - first] for place in shown], "^", color="black",
              markersize=9, linestyle="none", label="a retrain", gid="line-retrains")  # fmt: skip


def _finish(axes: Axes, content: Mapping[str, Any]) -> None:
    weeks = content["weeks"]
    axes.set_title(
        f"{content['problem']}, {weeks['periods'][0]} to {weeks['periods'][-1]}: "
        f"{task_of(content).ranking} of what served, mean of {SMOOTH} periods",
        loc="left",
        fontsize=12,
    )
    marks = range(SMOOTH - 1, len(weeks["periods"]), SMOOTH)
    axes.set_xticks(list(marks), [weeks["periods"][place] for place in marks], rotation=30)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="upper right", ncols=2)
    axes.margins(x=0.01)
    axes.set_ylim(top=axes.get_ylim()[1] + 0.02)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m flows.replay_picture JSON SVG")
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
