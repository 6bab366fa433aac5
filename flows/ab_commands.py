"""`evergreen ab`: two versions side by side, until a person ends it."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.settings import Settings

if TYPE_CHECKING:
    from flows.project import Project

app = typer.Typer(no_args_is_help=True, help="Compare a version with the champion on live traffic.")
console = Console(soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
By = Annotated[str | None, typer.Option(help="Who; default: EVERGREEN_USER.")]


@app.command()
def start(
    version: Annotated[str, typer.Argument(help="Its number in the registry.")],
    share: Annotated[
        int | None, typer.Option(min=1, max=99, help="Percent; default: params.yaml.")
    ] = None,
    by: By = None,
) -> None:
    """Deploy a version beside the champion and give it a share of the clients."""
    from flows import ab

    console.print(ab.start(_project(), version, share, by), markup=False, highlight=False)


@app.command()
def report(as_json: Json = False) -> None:
    """Show requests, decisions and quality of both, and who is better."""
    from flows import ab

    _show(ab.report(_project()), as_json)


@app.command()
def stop(
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "ended",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Give the champion all traffic again, and keep the report."""
    from flows import ab

    _show(ab.stop(_project(), reason, by), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    from flows import ab

    if as_json:
        print(json.dumps(found))
    else:
        console.print(ab.render(found))


def _project() -> "Project":
    from flows.project import Project

    return Project.open(Settings.read(os.environ))
