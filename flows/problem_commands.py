"""A table becomes a problem, with questions on a terminal or by flags; its periods come in."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from data.errors import EvergreenError
from flows.starting import start

app = typer.Typer()


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
    source: Annotated[Path | None, _option("A CSV or parquet table of events.", "--from")] = None,
    target: Annotated[str | None, _option("The column to predict.")] = None,
    time: Annotated[str | None, _option("The column that says when.")] = None,
    order: Annotated[
        bool, _option("There is no time: the rows are in order of arrival.", "--order")
    ] = False,
    shuffle: Annotated[
        bool, _option("There is no time, and no order: the rows are shuffled.", "--shuffle")
    ] = False,
    key: Annotated[list[str] | None, _option("A column that names a row; repeat for more.")] = None,
    frequency: Annotated[Length | None, _option("How long a period is.")] = None,
    task: Annotated[Kind | None, _option("What kind of outcome it is.")] = None,
    positive: Annotated[str | None, _option("Of two outcomes, the one to predict.")] = None,
    delay: Annotated[str | None, _option("Until an outcome is known: 12h, 3d, 2w.")] = None,
    exclude: Annotated[list[str] | None, _option("A column that is no field.")] = None,
    keep: Annotated[list[str] | None, _option("A field, in spite of a warning.")] = None,
    time_format: Annotated[str | None, _option("How the time is written: %d.%m.%Y")] = None,
    text: Annotated[list[str] | None, _option("Its numbers are codes, no amounts.")] = None,
    refresh: Annotated[
        bool, _option("Only make its dvc.yaml anew from that of the checkout.", "--refresh")
    ] = False,
    force: Annotated[bool, _option("Write over the files of that name.", "--force")] = False,
    yes: Annotated[bool, _option("Ask nothing.", "--yes", "-y")] = False,
) -> None:
    """Make a problem of a table: data/NAME.py and problems/NAME/, to be read and edited."""
    from flows.drafting import Wishes, run_new_problem, run_refresh

    if refresh:
        run_refresh(name)
        return
    if source is None:
        raise EvergreenError("from which table? Name it with --from, a CSV or parquet file")
    wishes = Wishes(
        source=source,
        target=target,
        time=time,
        order=order,
        shuffle=shuffle,
        key=tuple(key or ()),
        frequency=frequency.value if frequency else None,
        task=task.value if task else None,
        positive=positive,
        delay=delay,
        exclude=tuple(exclude or ()),
        keep=tuple(keep or ()),
        time_format=time_format,
        text=tuple(text or ()),
    )
    run_new_problem(name, wishes, force=force, asking=sys.stdin.isatty() and not yes)
