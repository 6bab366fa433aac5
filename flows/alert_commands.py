"""`evergreen alerts`: what is not over, and whether anybody can be told."""

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.alerts import Open
    from flows.notify import Desk

app = typer.Typer(help="What somebody was told, or should be.", invoke_without_command=True)


@app.callback()
def alerts(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List what is not over, oldest first."""
    if context.invoked_subcommand is not None:
        return
    found = _desk().open()
    if as_json:
        print(json.dumps([_said(each) for each in found.values()]))
        return
    for each in found.values():
        told = f"told {each.told:%Y-%m-%d %H:%M}" if each.told else "told nobody yet"
        alert = each.alert
        print(f"{alert.severity:8} since {each.since:%Y-%m-%d %H:%M} ({told}): {alert.title}")
        print(f"         {alert.body}")
    if not found:
        print("nothing is wrong that somebody should know")


@app.command()
def test() -> None:
    """Send a message that says it is a test, to everybody that EVERGREEN_NOTIFY names."""
    desk = _desk()
    desk.test(datetime.now(UTC))
    print(f"sent to {len(desk.targets)} of {len(desk.targets)}")


@app.command()
def check() -> None:
    """Has the monitor worked lately? 1 if not, or if nobody could be told of what is critical.

    Only files are read, so that cron can ask with every server down.
    """
    from data.alert_params import Alerts
    from data.errors import EvergreenError
    from flows import heartbeat
    from flows.alerts import Severity
    from flows.notify import Desk
    from flows.settings import Settings

    settings = Settings.read(os.environ)
    print(heartbeat.watched(settings.home / "reports", datetime.now(UTC)))
    waiting = [
        known.alert.title
        for known in Desk.of(settings, "", Alerts()).open().values()
        if known.alert.severity is Severity.CRITICAL and known.told is None
    ]
    if waiting:
        raise EvergreenError(f"nobody was told: {'; '.join(waiting)}: `evergreen alerts test`")


def _desk() -> "Desk":
    from flows import troubles
    from flows.project import Project

    return troubles.desk(Project.open())


def _said(known: "Open") -> dict[str, str | None]:
    alert, told = known.alert, known.told
    return {
        "key": alert.key,
        "severity": alert.severity,
        "title": alert.title,
        "body": alert.body,
        "since": known.since.isoformat(),
        "told": told.isoformat() if told else None,
    }
