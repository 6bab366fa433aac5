"""What the weeks of a replay came to: a table for the terminal, and the same as a picture."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from data.errors import EvergreenError
from data.task import Task
from data.verdicts import Finding, Verdict, find

FIGURES = re.compile(r"^(?:\d{4}-\w+(?:-\d\d)? {2,}.+|the \d+ periods after .+)$", re.MULTILINE)


@dataclass(frozen=True)
class Week:
    """One period of the replay; `first_*` is what version 1 answers for the same rows.

    Attributes:
        trained: the version whose training the model's is; another one if it is recalibrated.
    """

    period: str
    version: str
    trained: str
    rows: int
    roc_auc: float
    log_loss: float
    first_roc_auc: float
    first_log_loss: float
    drift: float
    drift_limit: float
    verdict: str
    action: str

    @classmethod
    def of(cls, report: Mapping[str, Any], first: tuple[float, float]) -> "Week":
        """From a monitor's report and version 1's ROC-AUC and loss on the same rows."""
        findings = [Finding.from_json(said) for said in report["findings"]]
        drift, judged = find(findings, "feature_drift"), find(findings, "quality")
        quality, missing = judged.evidence if judged else {}, float("nan")
        return cls(
            period=report["period"],
            version=report["version"],
            trained=report["trained"],
            rows=report["served"],
            roc_auc=quality.get("roc_auc", missing),
            log_loss=quality.get("log_loss", missing),
            first_roc_auc=first[0],
            first_log_loss=first[1],
            drift=missing if drift is None or drift.value is None else drift.value,
            drift_limit=missing if drift is None or drift.threshold is None else drift.threshold,
            verdict=drift.verdict if drift else Verdict.UNKNOWN,
            action=report["decision"]["action"],
        )


def table(weeks: Sequence[Week], period: str, task: Task) -> Table:
    """One row for each period."""
    shown = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    first = "v1 AUC" if task.ranking.endswith("ROC-AUC") else f"v1 {task.ranking}"
    for name in (period, "rows", task.ranking, task.loss, "drift", "verdict", "decision",
                 "model", first):  # fmt: skip
        number = name not in (period, "verdict", "decision")
        shown.add_column(name, justify="right" if number else "left", no_wrap=True)
    for week in weeks:
        later = "" if week.version == "1" else f"{week.first_roc_auc:.3f}"
        shown.add_row(
            week.period,
            f"{week.rows:,}",
            f"{week.roc_auc:.3f}",
            f"{week.log_loss:.3f}",
            f"{week.drift:.2f}",
            week.verdict,
            week.action,
            week.version,
            later,
            style="bold" if week.action in ("retrain", "recalibrate") else None,
        )
    return shown


def gain(weeks: Sequence[Week], task: Task) -> str | None:
    """How the retrained versions compare with version 1 on the weeks that they served."""
    later = [week for week in weeks if week.trained != "1"]
    if not later:
        return None
    mean = {
        name: sum(getattr(week, name) for week in later) / len(later)
        for name in ("roc_auc", "first_roc_auc", "log_loss", "first_log_loss")
    }
    return (
        f"the {len(later)} periods after the retrain: {task.ranking} {mean['roc_auc']:.3f} "
        f"(version 1 would have {mean['first_roc_auc']:.3f}), {task.loss} {mean['log_loss']:.3f} "
        f"({mean['first_log_loss']:.3f})"
    )


def figures(text: str) -> list[str]:
    """The lines of the table, and of the gain, that a text shows; each space is one."""
    return [" ".join(line.split()) for line in FIGURES.findall(text)]


def check(weeks: Sequence[Week], period: str, task: Task, page: Path) -> int:
    """Hold what a page shows of the demo against what came of it; how many lines are the same.

    Raises:
        EvergreenError: naming the first line that did not come out, or if the page shows none.
    """
    out = io.StringIO()
    Console(file=out, width=200).print(table(weeks, period, task), gain(weeks, task), sep="\n")
    came, shown = figures(out.getvalue()), figures(page.read_text())
    if not shown:
        raise EvergreenError(
            f"{page} shows no figures of the demo: name the page that has its table"
        )
    for line in shown:
        if line not in came:
            like = [other for other in came if other.split()[0] == line.split()[0]]
            raise EvergreenError(
                f"{page} shows {line!r}, but the demo came to {(like or came)[0]!r}: the page is "
                "of other data, code or parameters"
            )
    return len(shown)


def chart(weeks: Sequence[Week], title: str, path: Path, task: Task) -> None:
    """Quality and drift by period, versions as bands, alarms and retrains as marks."""
    figure, (auc, loss, drift) = plt.subplots(
        3, 1, figsize=(10, 8), sharex=True, layout="constrained"
    )
    places = range(len(weeks))
    for axes in (auc, loss, drift):
        _bands(axes, weeks)
        axes.grid(axis="y", alpha=0.3)
    for axes, name, label in ((auc, "roc_auc", task.ranking), (loss, "log_loss", task.loss)):
        axes.plot(places, [getattr(w, name) for w in weeks], "o-", label="served")
        first = [getattr(w, f"first_{name}") for w in weeks]
        axes.plot(places, first, "s:", color="grey", label="version 1", zorder=1)
        axes.set_ylabel(label)
        axes.legend(loc="best")
    drift.plot(places, [w.drift for w in weeks], "o-", color="tab:red", label="drift")
    limits = [w.drift_limit for w in weeks]
    drift.step(places, limits, where="mid", color="black", linestyle="--", label="usual up to")
    for place, week in enumerate(weeks):
        if week.action in ("retrain", "recalibrate"):
            drift.annotate(week.action, (place, week.drift), xytext=(0, 8), ha="center",
                           textcoords="offset points", weight="bold")  # fmt: skip
    drift.set_ylabel("drift")
    drift.margins(y=0.2)
    drift.legend(loc="upper left")
    drift.set_xlim(-0.5, len(weeks) - 0.5)
    drift.set_xticks(list(places), [w.period for w in weeks], rotation=45, ha="right")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bands(axes: Axes, weeks: Sequence[Week]) -> None:
    """A shade for each version, with its number at the top."""
    start = 0
    for place, week in enumerate(weeks):
        if place + 1 < len(weeks) and weeks[place + 1].version == week.version:
            continue
        shade = 0.12 if int(week.version) % 2 == 0 else 0.0
        axes.axvspan(start - 0.5, place + 0.5, color="tab:green", alpha=shade, zorder=0)
        middle = (start + place) / 2
        axes.text(middle, 0.97, f"version {week.version}", ha="center", va="top",
                  transform=axes.get_xaxis_transform())  # fmt: skip
        start = place + 1
