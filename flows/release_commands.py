"""What a person says of a version, and whether all that is kept agrees."""

import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.console import Console

from data.errors import EvergreenError
from flows.settings import Settings

app = typer.Typer()
console = Console(soft_wrap=True)
REFUSED = 3
Number = Annotated[str, typer.Argument(metavar="VERSION", help="Its number in the registry.")]
By = Annotated[str | None, typer.Option(help="Who; default: EVERGREEN_USER.")]


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept with the version taken back.")],
) -> None:
    """Move the traffic back to the version that served before, at once, then the aliases."""
    from bento import rollout
    from flows import back

    settings = _settings()
    if ended := back.wait_or_end(settings):
        from flows.project import Project
        from flows.rollback import settle_ended

        done = settle_ended(Project.open(settings), ended, reason)
        console.print(done.message, highlight=False)
        return
    with rollout.one_release(settings.serving, back.PATIENCE):
        target, moved = back.move(settings)
        # The traffic has moved; what takes seconds to import comes now.
        from flows.project import Project
        from flows.rollback import settle

        done = settle(Project.open(settings), target, moved, reason)
    console.print(done.message, highlight=False)


@app.command()
def approve(
    version: Number, by: By = None, note: Annotated[str, typer.Option(help="Why.")] = ""
) -> None:
    """Say that a version may serve; `release` then lets it."""
    _decide(version, "approve", note, by)


@app.command()
def reject(version: Number, note: Annotated[str, typer.Option(help="Why.")], by: By = None) -> None:
    """Say that a version must not serve."""
    _decide(version, "reject", note, by)


@app.command()
def waive(
    version: Number,
    gate: Annotated[str, typer.Argument(help="Of those that failed, such as log_loss.")],
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why the gate may be passed over.")],
    expires: Annotated[str, typer.Option(help="The last day (UTC), such as 2026-12-31.")],
) -> None:
    """Answer for a gate that a version failed, up to a day; the ledger keeps it."""
    from flows.approval import waive as write
    from flows.project import Project

    waiver = write(Project.open(_settings()), version, gate, by, reason, last_day(expires))
    console.print(
        f"gate {waiver.gate} of version {version} is waived until {waiver.expires}", highlight=False
    )


@app.command()
def challenge(
    experiment: Annotated[str, typer.Argument(help="Its name, as `dvc exp show` has it.")],
    by: By = None,
) -> None:
    """Judge and register the model of a `dvc exp` as a challenger; 3 if its gates refuse it."""
    from flows.challenge import run_challenge
    from flows.project import Project

    judged = run_challenge(Project.open(_settings()), experiment, by)
    console.print(f"`evergreen release {judged.version.number}` brings it to traffic")
    if not judged.passed:
        raise typer.Exit(REFUSED)


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    offline: Annotated[
        bool, typer.Option(help="Exit 0 although the endpoint could not be asked.")
    ] = False,
) -> None:
    """Check ledger, aliases, artefacts and what serves; exit 1 on any difference."""
    from flows.verify import render, run_verify

    checks = run_verify(_settings())
    if as_json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        console.print(render(checks))
    skipped = [c for c in checks if c.ok is None and not (offline and c.name == "endpoint")]
    if skipped or any(check.ok is False for check in checks):
        raise typer.Exit(1)


@app.command()
def reload() -> None:
    """Put settings or a renewed certificate in force at the gateway; no request is lost."""
    from flows import stack

    stack.reload(_settings(), console.print)
    console.print("the next gateway has taken over")


def _decide(number: str, word: str, note: str, by: str | None) -> None:
    from flows.approval import Decision, decide
    from flows.owner import author
    from flows.project import Project

    project = Project.open(_settings())
    person = author(project.settings, by)
    said = decide(project, project.registry.get(number), Decision(word), note, person)
    console.print(f"version {number} is {said.kind} by {said.by}", highlight=False)


def last_day(text: str) -> date:
    """The day that `--expires` names; it is over with its end.

    Raises:
        EvergreenError: if it is none, or is over.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise EvergreenError(f"--expires {text!r} is not a day: write 2026-12-31") from error
    if day < datetime.now(UTC).date():
        raise EvergreenError(f"--expires {text} is over already: name a day to come")
    return day


def _settings() -> Settings:
    return Settings.read(os.environ)
