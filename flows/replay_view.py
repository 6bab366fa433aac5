"""What a replay came to, for people: a table, a chart and a page, all from its JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.table import Table

from data.task import BINARY, Task
from models.policies import MODEL

Content = Mapping[str, Any]
Row = Mapping[str, Any]


def _number(digits: int, share: bool = False) -> Callable[[Any], str]:
    def say(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.{digits}%}" if share else f"{value:.{digits}f}"

    return say


def _versus(value: Any) -> str:
    """Thousandths, with the interval and in how many seasons it is better."""
    if value is None:
        return "–"
    found, starts = value["difference"], value["starts"]
    low, high = found["low"] * 1e3, found["high"] * 1e3
    better = sum(each < 0 for each in starts.values())
    return f"{found['value'] * 1e3:+.1f} [{low:+.1f}, {high:+.1f}] {better}/{len(starts)}"


Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


def task_of(content: Content) -> Task:
    """The task of the problem that was replayed; files of before are of two outcomes."""
    return Task.from_json(content["task"]) if "task" in content else BINARY


def _worth(task: Task) -> Columns:
    """What each policy came to; a number has no Brier score."""
    brier: Columns = {} if task.kind == "regression" else {"brier": ("Brier", _number(4))}
    return {
        "policy": ("policy", str),
        "retrains": ("retrains", _number(1)),
        "vain": ("without benefit", _number(0, share=True)),
        "recalibrations": ("recalibrations", _number(1)),
        "log_loss": (task.loss, _number(4)),
        **brier,
        "roc_auc": (task.ranking, _number(4)),
        "regret": ("regret", _number(2)),
        "cost": ("cost", _number(0)),
    }


TIMING: Columns = {
    "policy": ("policy", str),
    "evenly": ("vs even", _versus),
    "evenly_level": ("vs even+level", _versus),
    "alarms": ("alarms", _number(1)),
    "false_alarms": ("false", _number(0, share=True)),
    "delay": ("delay", _number(1)),
    "missed": ("missed", _number(1)),
    "seconds": ("CPU s", _number(0)),
}


def _cells(line: Row, columns: Columns) -> list[str]:
    return [say(line[name]) for name, (_, say) in columns.items()]


COSTS = {
    "binary": "a false positive",
    "multiclass": "a wrong class",
    "regression": "for each unit of loss",
}


def tables(content: Content) -> tuple[Table, Table]:
    """What each policy is worth, and how well it times; the recommended one stands out."""
    return _table(content, _worth(task_of(content))), _table(content, TIMING)


def _table(content: Content, columns: Columns) -> Table:
    shown = Table(box=None, padding=(0, 1))
    for title, _ in columns.values():
        shown.add_column(title, justify="left" if title == "policy" else "right")
    for line in content["policies"]:
        style = "bold green" if line["policy"] == content["recommended"] else None
        shown.add_row(*_cells(line, columns), style=style)
    return shown


def advice(content: Content) -> str:
    """Which policy to take at these prices, in a sentence."""
    prices, name = content["prices"], content["recommended"]
    best = next(line for line in content["policies"] if line["policy"] == name)
    return (
        f"at {prices['retrain']:g} a retrain and {prices['error']:g} "
        f"{COSTS[task_of(content).kind]}, {name} "
        f"costs least: {best['cost']:.0f} a season, {best['retrains']:.1f} retrains in it"
    )


def chart(content: Content, path: Path) -> None:
    """Loss against retrains, and ROC-AUC through the first season."""
    task = task_of(content)
    figure, (traded, weekly) = plt.subplots(2, 1, figsize=(10, 10), layout="constrained")
    for level, style in ((False, ":"), (True, "--")):
        evens = [e for e in content["evenly"] if e["level"] is level]
        label = f"even schedules{', recalibrated' if level else ''}"
        traded.plot([e["retrains"] for e in evens], [e["log_loss"] for e in evens], style,
                    color="grey", label=label)  # fmt: skip
    places: dict[tuple[float, float], list[str]] = {}
    for line in content["policies"]:
        places.setdefault((line["retrains"], line["log_loss"]), []).append(line["policy"])
    for place, names in places.items():
        traded.plot(*place, "o")
        traded.annotate(", ".join(names), place, xytext=(5, 4), textcoords="offset points")
    traded.margins(x=0.15)
    traded.set(xlabel="retrains in a season", ylabel=f"{task.loss}, mean of periods")
    traded.legend()
    weeks = content["weeks"]
    for name in ("never", "always", content["recommended"]):
        values = np.array(weeks["roc_auc"][name], dtype=float)
        smooth = np.convolve(values, np.ones(4) / 4, mode="valid")
        weekly.plot(range(3, len(values)), smooth, label=f"{name}, mean of four periods")
    weekly.set_ylabel(task.ranking)
    marks = range(0, len(weeks["periods"]), 4)
    weekly.set_xticks(list(marks), [weeks["periods"][p] for p in marks], rotation=45, ha="right")
    weekly.legend()
    for axes in (traded, weekly):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def page(content: Content) -> str:
    """The page of docs/: what was replayed, every figure, and how to read them."""
    return "\n".join([*_head(content), *_policies(content), *_seasons(content), *_quarters(content),
                      *_reading(content)]) + "\n"  # fmt: skip


def _head(content: Content) -> Iterator[str]:
    first, last, count = content["periods"]
    settings = ", ".join(f"{k} {v}" for k, v in content["settings"].items())
    governor = ", ".join(f"{k} {v}" for k, v in content["governor"].items())
    seeds = content["seeds"]
    yield "# The year under other policies"
    yield ""
    yield (
        "Written by `evergreen replay --page docs/replay.md`; the JSON beside it has every figure."
    )
    yield ""
    yield (
        f"{content['problem']}: {content['rows']:,} labelled rows of {count} periods, {first} to "
        f"{last}. Seasons begin at {', '.join(content['starts'])} and wrap round the end; the "
        f"first model learns {content['first']} periods and is judged on the next, then "
        f"{content['decisions']} decisions follow. {seeds} seed{'s' if seeds > 1 else ''}. Every "
        f"model is {content['kind']} as params.yaml has it ({settings}), neither selected nor "
        f"tuned anew. `ours` is the governor with {governor}."
    )
    yield ""


def _policies(content: Content) -> Iterator[str]:
    worth = _worth(task_of(content))
    for title, columns in (("What they are worth", worth), ("How well they time", TIMING)):
        yield f"## {title}"
        yield ""
        yield from _markdown([name for name, _ in columns.values()],
                             [_cells(line, columns) for line in content["policies"]])  # fmt: skip
        yield ""
    yield f"{advice(content).capitalize()}."
    yield ""


def _seasons(content: Content) -> Iterator[str]:
    """Every policy by season: retrains, and how it compares with even schedules."""
    yield "## By season"
    yield ""
    yield f"{_loss(content)}, retrains (without benefit), in mean over seeds."
    yield ""
    starts, rows = content["starts"], []
    for line in content["policies"]:
        row = [line["policy"]]
        for start in starts:
            mine = [x for x in content["lives"]
                    if x["policy"] == line["policy"] and x["season"] == start]  # fmt: skip
            loss, made, vain = (
                sum(x[name] for x in mine) / len(mine) for name in ("log_loss", "retrains", "vain")
            )
            row.append(f"{loss:.4f}, {made:.1f} ({vain:.1f})")
        rows.append(row)
    yield from _markdown(["policy", *starts], rows)
    yield ""


def _quarters(content: Content) -> Iterator[str]:
    """Mean ROC-AUC of the periods of each quarter, over all lives."""
    names = sorted({name for found in content["quarters"].values() for name in found})
    rows = [[policy, *(f"{found[name]:.4f}" for name in names)]
            for policy, found in content["quarters"].items()]  # fmt: skip
    yield f"## {task_of(content).ranking} by quarter"
    yield ""
    yield "Mean over the periods whose middle is in the quarter, over seasons and seeds."
    yield ""
    yield from _markdown(["policy", *names], rows)
    yield ""
    made = content["weeks"]["retrained"]
    for policy in (name for name in made if made[name] and len(made[name]) < 12):
        yield f"- `{policy}` retrained as of {', '.join(made[policy])} (first season)."
    yield ""


def _loss(content: Content) -> str:
    return task_of(content).loss.capitalize()


def _reading(content: Content) -> Iterator[str]:
    task = task_of(content)
    metrics = ", ".join(_worth(task)[name][0] for name in ("log_loss", "brier", "roc_auc")
                        if name in _worth(task))  # fmt: skip
    decisions = {
        "binary": "decisions at the threshold of params.yaml",
        "multiclass": "answers whose likeliest class is wrong",
        "regression": f"the sum of {task.loss} over all rows",
    }[task.kind]
    yield "## How to read it"
    yield ""
    for line in (
        f"**{metrics}**: means over the periods served, over seasons and seeds.",
        f"**regret**: where the {task.loss} lies between `always` (0) and `never` (1).",
        "**without benefit**: retrains that the gates refused, or whose model had no lower "
        f"{task.loss} than the one before over the next four periods (recalibrated if the "
        "policy is).",
        f"**vs even**: {task.loss}, in thousandths, minus that of schedules with as many retrains "
        "at equal distances, in mean over five phases; the interval holds 90 % of resamples of "
        "blocks of four periods; then in how many seasons the policy is better. **+level**: these "
        "schedules recalibrate after every period, too.",
        f"**alarms**: {_alarms()}; **false**: those after which a new model was no better "
        "over the next four periods.",
        "**delay**: periods from when a new model was shown to be worth it (the whole interval of "
        "its gain above 0, known only afterwards) to the retrain; **missed**: times a season that "
        "none came any more.",
        f"**cost**: retrains, and {decisions}, at the prices given.",
        "A decision comes when a period's labels are known, and rows until then are answered as "
        "before. A retrain learns all periods but the newest, on which the gates compare it with "
        "the champion; the noise of retraining is not allowed for, and the other gates are not "
        f"replayed. {_watched(content)}.",
        "One year, and parameters chosen on it: no proof beyond it.",
    ):
        yield f"- {line}"


def _alarms() -> str:
    """What counts as one, by policy."""
    return (
        "of `ours` periods further, by PSI, from all that was learned together than any learned "
        "one is from the others, or a proven change of the relation; of `alarm` periods in which a "
        f"monitor alarms that says something of the model ({', '.join(MODEL)})"
    )


def _watched(content: Content) -> str:
    """Which monitors spoke."""
    return (
        f"The monitors {', '.join(content['monitors'])} say what they would have said of the rows "
        "that the champion answered; those of servers and deliveries are not replayed"
    )


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
