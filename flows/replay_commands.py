"""`evergreen replay`: which policy pays on this data."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import EvergreenError
from flows.settings import Settings

app = typer.Typer()
console = Console(soft_wrap=True)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


Policies = Annotated[
    str,
    typer.Option(
        help="never, always, alarm, ours, every-K; +level: recalibrated too. Default: nine."
    ),
]
Error = Annotated[
    float, typer.Option(min=0, help="What a wrongly positive decision, or a wrong class, costs.")
]
Page = Annotated[
    Path | None, typer.Option(help="Write the page there, JSON and year.svg beside it.")
]


@app.command()
def replay(
    policies: Policies = "",
    starts: Annotated[
        str, typer.Option(help="First periods of the seasons. Default: four, evenly.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Every model is trained so many times.")] = 1,
    first: Annotated[int, typer.Option(min=2, help="Periods that the first model learns.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Fits at a time, one thread each.")] = 2,
    cost_retrain: Annotated[float, typer.Option(min=0, help="What a retrain costs.")] = 100.0,
    cost_error: Error = 1.0,
    ingested: Annotated[
        bool, typer.Option(help="Only periods in data/raw; else all that the source delivers.")
    ] = False,
    page: Page = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Live the past again under several policies, and say which costs least.

    Periods that data/raw lacks are ingested below replay/ in the home; data/raw stays as it is.
    Models are fitted once and kept there: stopped, the next run goes on.
    """
    from flows.project import Project
    from flows.replay import USUAL, Asked, keep, run_replay
    from flows.replay_view import advice, chart, tables
    from models.replayed import Prices

    project = Project.open(Settings.read(os.environ))
    asked = Asked(
        starts=_split(starts),
        policies=_split(policies) or USUAL,
        seeds=seeds,
        first=first,
        jobs=jobs,
        prices=Prices(cost_retrain, cost_error),
        ingested=ingested,
    )
    with _progress() as progress:
        content = run_replay(project, asked, progress)
    folder = project.settings.home / "replay"
    path = keep(content, folder, "replay")
    content = json.loads(path.read_text())
    chart(content, folder / "replay.png")
    if page is not None:
        _publish(content, page)
    if as_json:
        print(json.dumps(content))
        return
    for shown in (*tables(content), advice(content), f"{path} · {folder / 'replay.png'}"):
        console.print(shown, highlight=False)


def _publish(content: Mapping[str, Any], page: Path) -> None:
    """The page, with the JSON and the picture beside it."""
    from flows import replay_picture
    from flows.replay import keep
    from flows.replay_view import page as written

    keep(content, page.parent, page.stem)
    _write(page, written(content))
    replay_picture.draw(content, page.with_name(replay_picture.NAME))


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text)
    except OSError as error:
        raise EvergreenError(f"{page} cannot be written: {error}") from error


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
