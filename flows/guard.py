"""What stands before every command where people sign in: whose token is it, and does it suffice?"""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from typer.core import TyperGroup

from data.errors import EvergreenError
from flows import access, roster, service, users
from flows.access import COMMANDS, Role
from flows.settings import Settings
from flows.users import User

TOKEN = "EVERGREEN_TOKEN"


class Guarded(TyperGroup):
    """A command line whose every command is checked, those of its groups too."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for path, command in commands(self).items():
            command.callback = _checked(path, command)


def commands(group: TyperGroup) -> dict[str, Any]:
    """By path, what can be called: commands, and groups that are one themselves."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if not isinstance(command, TyperGroup):
            found[name] = command
            continue
        if command.invoke_without_command:
            found[name] = command
        found |= {f"{name} {rest}": part for rest, part in commands(command).items()}
    return found


def _checked(path: str, command: Any) -> Callable[..., Any]:
    callback = command.callback
    first_of_two = isinstance(command, TyperGroup)

    @wraps(callback)
    def checked(*args: Any, **kwargs: Any) -> Any:
        admit(path, kwargs.get("by"), keep_token=first_of_two)
        return callback(*args, **kwargs)

    return checked


def admit(path: str, by: str | None = None, keep_token: bool = False) -> None:
    """Let a command go on, in the name of who called it; nothing is asked where nobody signs in.

    Args:
        by: in whose name they say it is done.
        keep_token: for a check to come; else no child process is to have it.

    Raises:
        EvergreenError: if the role does not suffice, or the token is nobody's.
    """
    token = os.environ.get(TOKEN, "") if keep_token else os.environ.pop(TOKEN, "")
    settings = roster.refresh(Settings.read(os.environ))
    if not settings.sign_in:
        return
    known = users.load(settings.root)
    if path == "users add" and not known:
        return
    user = users.find(known, token)
    if user is None:
        said = "is nobody's, or was revoked" if token else "is not set"
        raise EvergreenError(
            f"sign-in is on, but {TOKEN} {said}: an approver adds people with "
            "`evergreen users add NAME --role viewer|operator|approver`"
        )
    access.check(user.name, user.role, COMMANDS.get(path), f"`evergreen {path}`")
    for said, name in (("EVERGREEN_USER", settings.user), ("--by", (by or "").strip())):
        if name not in ("", user.name):
            raise EvergreenError(
                f"{said} says {name!r}, but the token is that of {user.name!r}: leave it out"
            )
    _act_as(settings, user)


def _act_as(settings: Settings, user: User) -> None:
    """What is done from here on is done in this person's name."""
    os.environ["EVERGREEN_USER"] = user.name
    if user.role.includes(Role.OPERATOR):
        service.have_secret(settings)
        service.tell(settings, "prefect")  # before Prefect is imported, which reads it then
