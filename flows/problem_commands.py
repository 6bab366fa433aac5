"""A table becomes a problem, with questions on a terminal or by flags; its periods come in."""

import re
import sys
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

import data
from data.described import Described, describe, form_of, sample
from data.draft import Draft, Found, draft
from data.errors import EvergreenError
from data.new_problem import Written, places, write
from data.roles import Asked
from data.table_files import place
from flows.starting import start

app = typer.Typer()
console = Console(soft_wrap=True, highlight=False)
DELAY = re.compile(r"(\d+)\s*(h|d|w)")
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
LIKELY = ("target", "label", "outcome", "y", "class", "result")


class Length(StrEnum):
    """How long a period is."""

    WEEK = "week"
    DAY = "day"
    MONTH = "month"


class What(StrEnum):
    """Which part of a period to ingest."""

    ALL = "all"
    ROWS = "rows"
    LABELS = "labels"


class Kind(StrEnum):
    """What is predicted."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@app.command()
def ingest(
    period: Annotated[str, typer.Argument(help="Such as 2013-W05.")],
    from_file: Annotated[
        Path | None, typer.Option("--from", help="A parquet or CSV batch.", show_default=False)
    ] = None,
    what: Annotated[What, typer.Option(help="Its rows, its labels, or all.")] = What.ALL,
    to: Annotated[
        str | None, typer.Option(help="And every period up to this one.", show_default=False)
    ] = None,
) -> None:
    """Add a period to data/raw after its contract, and version it."""
    from data.periods import Period, span

    path = str(from_file.absolute()) if from_file else None
    first = Period.parse(period)
    last = Period.parse(to) if to else first
    if last.frequency != first.frequency or last < first:
        raise EvergreenError(f"--to {to} is not a {first.frequency} after {period}: write one")
    wanted = span(first, last)
    if path and len(wanted) > 1:
        raise EvergreenError("--from is the file of one period: leave --to out")
    for each in wanted:
        start("ingest", period=each.name, from_file=path, what=what.value)


def _option(said: str, *names: str) -> Any:
    return typer.Option(*names, help=said, show_default=False)


@app.command("new-problem")
def new_problem(
    name: Annotated[str, typer.Argument(help="Small letters, digits and _; such as churn.")],
    source: Annotated[Path, typer.Option("--from", help="A CSV or parquet table of events.")],
    target: Annotated[str | None, _option("The column to predict.")] = None,
    time: Annotated[str | None, _option("The column that says when.")] = None,
    order: Annotated[
        bool, _option("There is no time: the rows are in order of arrival.", "--order")
    ] = False,
    key: Annotated[list[str] | None, _option("A column that names a row; repeat for more.")] = None,
    frequency: Annotated[Length | None, _option("How long a period is.")] = None,
    task: Annotated[Kind | None, _option("What kind of outcome it is.")] = None,
    positive: Annotated[str | None, _option("Of two outcomes, the one to predict.")] = None,
    delay: Annotated[str | None, _option("Until an outcome is known: 12h, 3d, 2w.")] = None,
    exclude: Annotated[list[str] | None, _option("A column that is no field.")] = None,
    keep: Annotated[list[str] | None, _option("A field, in spite of a warning.")] = None,
    time_format: Annotated[str | None, _option("How the time is written: %d.%m.%Y")] = None,
    force: Annotated[bool, _option("Write over the files of that name.", "--force")] = False,
    yes: Annotated[bool, _option("Ask nothing.", "--yes", "-y")] = False,
) -> None:
    """Make a problem of a table: data/NAME.py and problems/NAME/, to be read and edited."""
    checkout = Path(data.__file__).parents[1]
    places(checkout, name, force=force)
    path = _path(source, checkout)
    asking = sys.stdin.isatty() and not yes
    columns = _columns(path) if asking or target is None else {}
    asked = Asked(
        path=path,
        target=target or _target(columns, asking),
        time=time,
        order=order,
        key=tuple(key or ()),
        frequency=frequency.value if frequency else None,
        task=task.value if task else None,
        positive=positive,
        delay=_delay(delay or "0d"),
        exclude=tuple(exclude or ()),
        keep=tuple(keep or ()),
        time_format=time_format,
    )  # fmt: skip
    if asking:
        asked = _questions(asked, columns)
    found = draft(name, asked)
    _show(found)
    if asking and not typer.confirm("Write it", True):
        raise typer.Exit(1)
    _written(found, write(found, checkout, force=force), checkout)


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
    if not asked.delay:
        asked = replace(asked, delay=_delay(typer.prompt("After how long is it known", "0d")))
    if not asked.key:
        said = typer.prompt("Which column names a row (empty: none)", "", show_default=False)
        asked = replace(asked, key=(said,) if said else ())
    return asked


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
