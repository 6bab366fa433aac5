"""How the command line starts a flow."""

import os
from importlib import import_module
from typing import Any

import typer
from rich.console import Console

from flows.settings import Settings

REFUSED = 3
console = Console(soft_wrap=True)


def start(name: str, **parameters: Any) -> None:
    """Run a flow, seen in the UI if the stack is up, and by itself if it is not."""
    settings = Settings.read(os.environ)
    from flows import stack
    from flows.steps import Outcome, as_flow

    function = getattr(import_module(f"flows.{name}"), name)
    if stack.is_up(settings):
        with console.status(f"{name} …"):
            outcome: Outcome = as_flow(function, **parameters)
        console.print(outcome.message, markup=False, highlight=False)
    else:
        outcome = function.fn(**parameters)
    if not outcome.done:
        raise typer.Exit(REFUSED)
