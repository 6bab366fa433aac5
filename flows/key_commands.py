"""`evergreen keys`: who may ask the endpoint, in force at once where the gateway runs."""

import os
import time
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bento import auth, gateway
from bento.auth import ApiKey
from bento.slots import Serving
from data.errors import EvergreenError
from flows.release_commands import last_day
from flows.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Keys of the endpoint: create, list, rotate, revoke.")
console = Console(soft_wrap=True, highlight=False)
PATIENCE = 10


class Scope(StrEnum):
    """What a key opens."""

    PREDICT = "predict"
    ADMIN = "admin"


Name = Annotated[str, typer.Argument(help="Whose key it is.")]
Expires = Annotated[str | None, typer.Option(help="The last day (UTC), such as 2026-12-31.")]


@app.command()
def create(
    name: Name,
    scope: Annotated[Scope, typer.Option(help="predict: /predict, /version. admin: everything.")],
    expires: Expires = None,
) -> None:
    """Make a key and show it, this once. From the first one on, nobody is let in without."""
    serving, at = _settings().serving, datetime.now(UTC)
    with auth.one_writer(serving.folder):
        before = auth.load(serving.folder)
        keys, made, secret = auth.create(before, name, scope.value, at, _end(expires))
        _keep(serving, keys)
    if not before:
        console.print("keys are on from now on")
    _show(made, secret)


@app.command("list")
def list_keys() -> None:
    """Show what is kept of all keys, revoked ones too."""
    at = datetime.now(UTC)
    table = Table("name", "id", "scope", "state", "created", "expires")
    for key in auth.load(_settings().serving.folder):
        expires = key.expires or "never"
        table.add_row(key.name, key.id, key.scope, key.state(at), key.created, expires)
    console.print(table if table.rows else "there are no keys: everyone on this machine is let in")


@app.command()
def rotate(name: Name, expires: Expires = None) -> None:
    """Make a second key for a name and show it, this once; the first one stays until revoked."""
    serving, at = _settings().serving, datetime.now(UTC)
    with auth.one_writer(serving.folder):
        keys, made, secret = auth.rotate(auth.load(serving.folder), name, at, _end(expires))
        _keep(serving, keys)
    _show(made, secret)
    (old,) = (key for key in keys if key.name == name and key.state(at) == "active" and key != made)
    console.print(f"when its clients use the new one: evergreen keys revoke {old.id}")


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|ID", help="All of a name, or one key.")],
) -> None:
    """Take keys back; they open nothing any more."""
    serving = _settings().serving
    with auth.one_writer(serving.folder):
        keys, back = auth.revoke(auth.load(serving.folder), which, datetime.now(UTC))
        _keep(serving, keys)
    for key in back:
        console.print(f"key {key.id} of {key.name} is revoked")


def _keep(serving: Serving, keys: auth.Keys) -> None:
    """Write the keys, then set them on the gateway, if one runs."""
    auth.save(serving.folder, keys)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return gateway.admit(serving)
        except gateway.GatewayDownError as error:
            if not _is_meant_to_run(serving):
                return console.print("no gateway runs: this is in force when it starts")
            if time.monotonic() > deadline:
                raise EvergreenError(f"the keys are written, but not in force: {error}") from error
            time.sleep(0.2)


def _is_meant_to_run(serving: Serving) -> bool:
    """A gateway that is just starting may have read the keys of before."""
    from bento import supervisor
    from bento.slots import GATEWAY

    try:
        supervisor.state(serving.supervisor_socket, GATEWAY)
    except EvergreenError:
        return False
    return True


def _show(key: ApiKey, secret: str) -> None:
    console.print(
        f"key {key.id} of {key.name}, scope {key.scope}, expires {key.expires or 'never'}"
    )
    print(secret)


def _end(expires: str | None) -> datetime | None:
    if expires is None:
        return None
    return datetime.combine(last_day(expires) + timedelta(days=1), clock.min, UTC)


def _settings() -> Settings:
    return Settings.read(os.environ)
