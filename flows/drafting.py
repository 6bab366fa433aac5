"""A table becomes a problem: what is asked on a terminal, and what is shown of the draft."""

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

import data
from data.described import MANY, Described, describe, form_of, sample
from data.draft import Draft, Found, draft
from data.errors import EvergreenError
from data.new_problem import Written, places, write
from data.periods import Frequency
from data.pipelines import refresh
from data.roles import Asked
from data.table_files import place
from data.task import Kind

console = Console(soft_wrap=True, highlight=False)
DELAY = re.compile(r"(\d+)\s*(h|d|w)")
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
SUGGESTED = "auto"
LIKELY = ("target", "label", "outcome", "y", "class", "result")


@dataclass(frozen=True)
class Wishes:
    """What the flags say; see `data.roles.Asked`."""

    source: Path
    target: str | None
    time: str | None
    order: bool
    shuffle: bool
    key: tuple[str, ...]
    frequency: Frequency | None
    task: Kind | None
    positive: str | None
    delay: str | None
    exclude: tuple[str, ...]
    keep: tuple[str, ...]
    time_format: str | None
    text: tuple[str, ...]


def run_new_problem(name: str, wishes: Wishes, *, force: bool, asking: bool) -> None:
    """Draft a problem, show it, and write it.

    Raises:
        EvergreenError: if the table cannot be a problem as it is.
    """
    checkout = Path(data.__file__).parents[1]
    places(checkout, name, force=force)
    asked = _asked(wishes, checkout, asking)
    found = draft(name, asked)
    _show(found)
    if asking and not typer.confirm("Write it", True):
        raise typer.Exit(1)
    _written(found, write(found, checkout, force=force), checkout)


def run_refresh(name: str) -> None:
    """Make a problem's pipeline again from the checkout's.

    Raises:
        EvergreenError: if there is no such problem.
    """
    checkout = Path(data.__file__).parents[1]
    path = refresh(checkout, name)
    said = f"written    {path.relative_to(checkout)}" if path else f"{name} is as dvc.yaml is"
    console.print(said, markup=False)


def _asked(wishes: Wishes, checkout: Path, asking: bool) -> Asked:
    path = _path(wishes.source, checkout)
    columns = _columns(path) if asking or wishes.target is None else {}
    asked = Asked(
        path=path,
        target=wishes.target or _target(columns, asking),
        time=wishes.time,
        order=wishes.order or wishes.shuffle,
        shuffle=wishes.shuffle,
        key=wishes.key,
        frequency=wishes.frequency,
        task=wishes.task,
        positive=wishes.positive,
        delay=_delay(wishes.delay or "0d"),
        exclude=wishes.exclude,
        keep=wishes.keep,
        time_format=wishes.time_format,
        text=wishes.text,
    )
    return _questions(asked, columns) if asking else asked


def _path(source: Path, checkout: Path) -> str:
    """Relative if it lies in the checkout, so that a clone elsewhere finds it, too."""
    whole = source.expanduser().resolve()
    return str(whole.relative_to(checkout) if whole.is_relative_to(checkout) else whole)


def _delay(text: str) -> timedelta:
    if not (found := DELAY.fullmatch(text.strip())):
        raise EvergreenError(f"--delay {text!r} is not understood: write 12h, 3d or 2w")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _columns(path: str) -> dict[str, Described]:
    whole = place(path)
    form = form_of(whole)
    rows = sample(whole, form)
    return {str(name): describe(rows[name], form.decimal) for name in rows.columns}


def _target(columns: dict[str, Described], asking: bool) -> str:
    near = [name for name in columns if name.casefold() in LIKELY]
    if asking:
        console.print(f"columns: {', '.join(columns)}", markup=False)
        return str(typer.prompt("Which column is to be predicted", near[0] if near else None))
    raise EvergreenError(
        f"which column is to be predicted? Name it with --target: {', '.join(map(repr, columns))}"
    )


def _questions(asked: Asked, columns: dict[str, Described]) -> Asked:
    """What flags have not said, where there is something to choose."""
    moments = [c for c, d in columns.items() if d.kind == "timestamp" and c != asked.target]
    if not asked.time and not asked.order:
        if moments:
            time = typer.prompt("Which column says when the decision is due", moments[0])
            asked = replace(asked, time=time)
        elif typer.confirm("No column has moments. Are the rows in order of arrival", False):
            asked = replace(asked, order=True)
        elif typer.confirm("Are they in no order at all, so that they may be shuffled", True):
            asked = replace(asked, order=True, shuffle=True)
    if not asked.frequency and not asked.order:
        asked = replace(asked, frequency=_length())
    if not asked.delay:
        asked = replace(asked, delay=_delay(typer.prompt("After how long is it known", "0d")))
    if not asked.key:
        asked = replace(asked, key=_names("Which columns name a row (a, b; empty: none)"))
    if not asked.text and (codes := _maybe_codes(columns, asked)):
        said = f"Which of these numbers are codes, not amounts: {', '.join(codes)} (empty: none)"
        asked = replace(asked, text=_names(said))
    if not asked.exclude:
        asked = replace(asked, exclude=_names("Which columns are no fields (a, b; empty: none)"))
    return asked


def _length() -> Frequency | None:
    """How long a period is; None for what the rows suggest."""
    lengths: dict[str, Frequency] = {"day": "day", "week": "week", "month": "month"}
    while True:
        said = str(typer.prompt("How long is a period (day, week, month)", SUGGESTED))
        if said in (*lengths, SUGGESTED):
            return lengths.get(said)


def _names(question: str) -> tuple[str, ...]:
    said = typer.prompt(question, "", show_default=False)
    return tuple(name.strip() for name in said.split(",") if name.strip())


def _maybe_codes(columns: dict[str, Described], asked: Asked) -> list[str]:
    """Whole numbers of few values: a quantity, or the number of a thing?"""
    taken = {asked.target, asked.time, *asked.key}
    few = [c for c, d in columns.items() if d.kind == "integer" and 2 < d.distinct <= MANY]
    return [column for column in few if column not in taken]


def _show(found: Draft) -> None:
    grid = Grid(box=None, pad_edge=False)
    for title in ("column", "type", "missing", "values", "alone", "use"):
        grid.add_column(title, justify="right" if title in ("missing", "alone") else "left")
    for each in found.found:
        d = each.described
        missing = f"{d.missing:.1%}" if d.missing else ""
        alone = f"{each.alone:.2f}" if each.alone is not None else ""
        style = "dim" if each.use.startswith("left out") else ""
        cells = (d.column, d.kind, missing, _values(each), alone, each.use)
        grid.add_row(*(Text(cell, style=style) for cell in cells))
    console.print(grid)
    when, told = found.timing, found.outcome
    console.print()
    task = told.task.kind + (f" of {len(told.task.classes)} classes" if told.task.classes else "")
    console.print(f"task       {task}: {told.reason}", markup=False)
    console.print(
        f"periods    {len(when.learned)} {when.frequency}s, {when.first} to {when.last}, about "
        f"{when.usual:,} rows each",
        markup=False,
    )
    for said in found.said:
        console.print(f"note       {said}", markup=False)


def _values(each: Found) -> str:
    d = each.described
    if d.minimum is not None and d.maximum is not None:
        return f"{d.minimum:.4g} to {d.maximum:.4g}"
    if d.kind == "text" and d.closed:
        return ", ".join(sorted(d.words))[:40]
    return f"{d.distinct:,} different"


def _written(found: Draft, files: Written, checkout: Path) -> None:
    name, when = found.name, found.timing
    paths = [
        str(path.relative_to(checkout)) for path in (files.problem, files.params, files.pipeline)
    ]
    console.print(f"written    {', '.join(paths)}", markup=False)
    lines = (
        f"git add {files.problem.relative_to(checkout)} problems/{name} && git commit -m '{name}'",
        f"export EVERGREEN_PROBLEM={name}",
        f"evergreen ingest {when.first} --to {when.last}",
        "evergreen up",
        "evergreen retrain",
    )
    console.print("next", markup=False)
    for line in lines:
        console.print(f"           {line}", markup=False)
