"""`evergreen doctor`: what is wrong with this machine, this checkout and this home, and its fix.

It needs no stack, on a laptop neither network nor store, and changes nothing. `python -m
flows.doctor` does the same where the command line itself does not start.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

import data
from data.errors import EvergreenError
from flows import doctor_access, doctor_home, doctor_host, doctor_team, leftovers, stores
from flows.finding import Finding, Level, fail, ok
from flows.settings import PARAMS, Settings

app = typer.Typer()
console = Console(soft_wrap=True, highlight=False)
STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
Look = Callable[[], Finding]


def examine(user: Mapping[str, str]) -> list[Finding]:
    """Every finding, each by itself: one that cannot be made does not keep the others back.

    Args:
        user: the environment as the shell gives it.
    """
    checkout = Path(data.__file__).parents[1]
    params, raw = _chosen(user, checkout)
    started = doctor_home.importing(checkout, params)
    looks: dict[str, Look] = {
        "python": lambda: doctor_host.python(sys.version_info[:3]),
        "packages": lambda: doctor_host.locked(checkout / "requirements.lock", sys.path),
        "wheels": lambda: doctor_host.wheels(sys.path),
        "git": lambda: doctor_host.tools(user.get("PATH")),
        "work tree": lambda: doctor_home.tree(checkout, params),
        "params.yaml": lambda: doctor_home.parameters(params),
        "problem": lambda: doctor_home.problem(started),
        "pipelines": lambda: doctor_home.pipelines(checkout),
        "disk of data/raw": lambda: doctor_host.disk("disk of data/raw", raw),
        "dvc lock": lambda: doctor_home.dvc_lock(checkout / ".dvc" / "tmp" / "rwlock"),
    }
    try:
        settings = Settings.read(user)
    except EvergreenError as error:
        rest = {"settings": _said(fail("settings", str(error), "set the variable as said"))}
    else:
        rest = _of_home(settings, user)
    return [_look(name, look) for name, look in {**looks, **rest}.items()]


def _chosen(user: Mapping[str, str], checkout: Path) -> tuple[Path, Path]:
    """Parameters and data of the problem that is asked for, or of the default one."""
    try:
        settings = Settings.read(user)
        return settings.params, settings.raw
    except EvergreenError:
        return checkout / PARAMS, checkout / "data" / "raw"


def _of_home(settings: Settings, user: Mapping[str, str]) -> dict[str, Look]:
    """What depends on where the state lies and which ports are ours."""
    home, now = settings.home, datetime.now(UTC)
    kept, mine = stores.ledger(settings), leftovers.ours(settings)
    return {
        "settings": _said(ok("settings", f"home {home}")),
        "home": lambda: doctor_host.writable(home),
        "disk of the home": lambda: doctor_host.disk("disk of the home", home),
        "ports": lambda: doctor_host.ports(settings, {each.pid for each in mine}),
        "processes": lambda: doctor_host.processes(settings, mine),
        "clock": lambda: doctor_host.clock(
            now, doctor_home.past(kept, settings.checkout), user.get("TZ", "")
        ),
        "variables": lambda: doctor_host.variables(user, settings.child_environment()),
        "ledger": lambda: doctor_home.ledger(kept),
        "rollout": lambda: doctor_home.rollout(settings),
        "signing key": lambda: doctor_home.signing_key(settings.signing_key),
        "sign-in": lambda: doctor_access.sign_in(settings),
        "certificate": lambda: doctor_home.certificate(settings.certificate, now),
        "locks": lambda: doctor_home.locks(doctor_home.lock_files(settings)),
        "dvc": lambda: doctor_home.dvc_remote(settings.checkout, settings.root),
        "database": lambda: doctor_team.database(settings),
        "bucket": lambda: doctor_team.bucket(settings),
    }


def _look(name: str, look: Look) -> Finding:
    """What a look finds; a doctor that dies of what it looks at is of no use."""
    try:
        return look()
    except Exception as error:
        said = f"could not be looked at: {type(error).__name__}: {error}"
        return fail(name, said, "mend what it says, and ask again")


def _said(finding: Finding) -> Look:
    return lambda: finding


def render(findings: list[Finding]) -> RenderableType:
    """A line for each finding, and under it what mends it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for each in findings:
        table.add_row(Text(each.level, style=STYLES[each.level]), each.name, Text(each.found))
        if each.fix:
            table.add_row("", "", Text(f"→ {each.fix}", style=STYLES[each.level]))
    return table


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what is wrong with machine, checkout and home, and what mends it; 1 if it has to be."""
    findings = examine(os.environ)
    if as_json:
        print(json.dumps([asdict(each) for each in findings]))
    else:
        console.print(render(findings))
    if any(each.level is Level.FAIL for each in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
