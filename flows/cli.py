"""The command line.

Exit codes are 0 (done), 1 (an error, with its cause on stderr), 2 (wrong usage) and 3 (a challenger
was refused by its gates, and the champion keeps serving; or a reproduced model differs).
"""

import gc
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from data.errors import EvergreenError
from flows import (
    ab_commands,
    alert_commands,
    doctor,
    file_commands,
    key_commands,
    problem_commands,
    quarantine,
    release_commands,
    replay_commands,
    user_commands,
)
from flows.data_commands import app as data_app
from flows.guard import Guarded
from flows.settings import PROBLEM, Settings
from flows.starting import start

app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="An end-to-end MLOps loop: data arrives, a model is trained, judged, served and watched.",
)
for name, part in {"data": data_app, "quarantine": quarantine.app, "keys": key_commands.app,
                   "ab": ab_commands.app, "alerts": alert_commands.app,
                   "users": user_commands.app}.items():  # fmt: skip
    app.add_typer(part, name=name)
for part in (
    release_commands.app,
    file_commands.app,
    replay_commands.app,
    doctor.app,
    problem_commands.app,
):
    app.add_typer(part)
console = Console(soft_wrap=True)
DIFFERS = 3


@app.callback()
def _environment(
    context: typer.Context,
    problem: Annotated[
        str | None, typer.Option(help="One of problems/; default: EVERGREEN_PROBLEM.")
    ] = None,
) -> None:
    """Tell this process its settings before any library reads its own."""
    if problem is not None:
        os.environ[PROBLEM] = problem
    if context.invoked_subcommand == "doctor":  # it looks at what is set, and makes nothing
        return
    environment = Settings.read(os.environ).child_environment()
    os.environ.update(environment)
    Path(environment["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    # Flow logs go to the server; the terminal shows what the command itself says.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


AsOf = Annotated[
    str | None, typer.Option(help="A period (2013-W08) or a timestamp; default: the newest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def up(
    team: Annotated[bool, typer.Option("--team", help="Refuse if no team is named.")] = False,
) -> None:
    """Start Prefect, MLflow, the board, the gateway and the slots on loopback."""
    from flows import stack

    settings = _settings()
    if team and settings.team is None:
        raise EvergreenError("no team is named: docs/team.md says which variables do that")
    stack.up(settings, console.print)
    _finish(settings)
    _print_addresses(settings)


@app.command()
def down() -> None:
    """Stop what `up` started, and nothing else."""
    from flows import stack

    stack.down(_settings())
    console.print("the stack is down; its state is kept")


@app.command()
def status(as_json: Json = False) -> None:
    """Say what serves, and what should."""
    from flows.overview import gather
    from flows.status import render

    found = gather(_settings(), datetime.now(UTC))
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        console.print(render(found))


@app.command()
def train(as_of: AsOf = None) -> None:
    """Train and judge a challenger; nothing serves because of it."""
    start("train", as_of=as_of)


@app.command()
def release(
    version: Annotated[
        str | None, typer.Argument(help="Its number; default: the challenger.")
    ] = None,
) -> None:
    """Package a judged version, smoke-test it, and move the traffic to it."""
    start("release", version=version)


@app.command()
def retrain(
    as_of: AsOf = None, cause: Annotated[str, typer.Option(help="Why.")] = "asked for"
) -> None:
    """Train, judge, and release if it passes."""
    start("retrain", as_of=as_of, cause=cause)


@app.command()
def recalibrate(
    as_of: AsOf = None, cause: Annotated[str, typer.Option(help="Why.")] = "asked for"
) -> None:
    """Move the champion's level towards that of the newest labels, and release it if it passes."""
    start("recalibrate", as_of=as_of, cause=cause)


@app.command()
def monitor(
    period: Annotated[str | None, typer.Argument(help="Default: the newest with labels.")] = None,
) -> None:
    """Watch a period: drift, real quality, and whether a retrain is due."""
    start("monitor", period=period)


@app.command()
def lineage(
    of: Annotated[str, typer.Argument(help="A version, a snapshot's tag or md5, a request id.")],
    as_json: Json = False,
) -> None:
    """Say where a version, a snapshot or one answer comes from, and what came of it."""
    from flows.lineage import to_json, trace
    from flows.lineage_view import render
    from flows.project import Project

    found = trace(Project.open(_settings()), of)
    if as_json:
        print(json.dumps(to_json(found)))
    else:
        console.print(render(found))


@app.command()
def explain(
    request_id: Annotated[str, typer.Argument(help="As it stood in an answer.")],
    as_json: Json = False,
) -> None:
    """Say what each field of a request added to its answer."""
    from flows.explain import render, run_explain
    from flows.project import Project

    found = run_explain(Project.open(_settings()), request_id)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        console.print(render(found))


@app.command()
def card(
    version: Annotated[str, typer.Argument(help="Its number in the registry.")],
    html: Annotated[Path | None, typer.Option(help="Write it there, for a browser.")] = None,
) -> None:
    """Show the model card of a version, as it was signed."""
    from flows.project import Project
    from models.page import HTML, MARKDOWN

    registry = Project.open(_settings()).registry
    folder = registry.registered(registry.get(version))
    if html is None:
        console.print(Markdown((folder / MARKDOWN).read_text()))
    else:
        html.write_bytes((folder / HTML).read_bytes())
        console.print(f"the card of version {version} is in {html}", highlight=False)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="Its number in the registry.")],
    python: Annotated[
        Path | None, typer.Option(help="An interpreter with the version's packages.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a version again from its commit, data, parameters and lock, and compare."""
    from flows.project import Project
    from flows.reproduce import render, run_reproduce

    project = Project.open(_settings())
    with console.status(f"making version {version} again …"):
        found = run_reproduce(project, version, python)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        console.print(render(found))
    if not found.equal:
        raise typer.Exit(DIFFERS)


@app.command()
def demo(
    check: Annotated[
        Path | None, typer.Option(help="A page, README.md: are the figures it shows those?")
    ] = None,
) -> None:
    """Live a model's whole life on the problem's own data; run again, it goes on or shows it."""
    from flows.demo import run_demo

    run_demo(_settings(), console, check)


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Of every problem.")] = False,
) -> None:
    """Stop the stack and delete all state of the problem: var/, data/raw, the snapshots' tags."""
    from flows.clean import clean as wipe
    from flows.clean import clean_all

    (clean_all if everything else wipe)(_settings(), console.print)


def _settings() -> Settings:
    return Settings.read(os.environ)


def _finish(settings: Settings) -> None:
    """Complete a release that was killed before its switch; what keeps it from that is said."""
    from flows.project import Project
    from flows.release import finish

    try:
        done = finish(Project.open(settings))
    except EvergreenError as error:
        done = f"problem: {error}"
    if done:
        console.print(done, markup=False, highlight=False)


def _print_addresses(settings: Settings) -> None:
    for title, address in settings.addresses.items():
        console.print(f"{title:9} {address}", highlight=False)


def main() -> None:
    """Entry point; an `EvergreenError` is one line on stderr."""
    # What a command imports stays: to look for garbage among it takes a sixth of the start.
    gc.set_threshold(100_000, 20, 100)
    try:
        app()
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
