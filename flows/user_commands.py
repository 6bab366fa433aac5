"""`evergreen users`: who may sign in, and as what."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows import roster, users
from flows.access import Role
from flows.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Who may sign in, and as what: add, list, revoke.")
console = Console(soft_wrap=True, highlight=False)
Name = Annotated[str, typer.Argument(help="As it stands in the ledger.")]


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What they may do; `docs/security.md` has the table.")],
) -> None:
    """Add a person and show their token, this once. From the first one on, everybody signs in."""
    with roster.one_writer(Settings.read(os.environ)) as (before, keep):
        after, token = users.add(before, name, role, datetime.now(UTC))
        keep(after)
    if not before:
        console.print("sign-in is on from now on; a stack that is up follows at its next `up`")
    console.print(f"{name} is {role}; they set EVERGREEN_TOKEN to this:")
    print(token)


@app.command("list")
def list_users() -> None:
    """Show everybody, those who were revoked too."""
    table = Table("name", "role", "added", "revoked")
    for user in users.load(Settings.read(os.environ).root):
        table.add_row(user.name, user.role, user.created, user.revoked or "")
    console.print(table if table.rows else "there are no users: nobody has to sign in")


@app.command()
def revoke(name: Name) -> None:
    """Take a person's token back; it opens nothing any more, at once."""
    with roster.one_writer(Settings.read(os.environ)) as (before, keep):
        keep(users.revoke(before, name, datetime.now(UTC)))
    console.print(f"{name} is revoked")
