"""Back to a fresh clone: no state, no data, no snapshots."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from data.errors import EvergreenError
from data.snapshots import Snapshots
from flows import stack
from flows.settings import PARAMS, Settings


def clean_all(settings: Settings, say: Callable[[str], None] = print) -> None:
    """The same for every problem of the checkout, the default one last."""
    names = sorted(path.parent.name for path in settings.checkout.glob(f"problems/*/{PARAMS}"))
    for name in (*names, ""):
        clean(replace(settings, problem=name), say)


def clean(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Stop the stack of a problem and delete everything that it and DVC wrote for it.

    Code and .venv stay, and so does what belongs to other problems, or to all of them.
    """
    if stack.is_up(settings):
        stack.down(settings)
        say("the stack is down")
    checkout = settings.checkout
    names = _snapshot_tags(settings)
    if names:
        command = ["git", "-C", str(checkout), "tag", "--delete", *names]
        subprocess.run(command, check=True, capture_output=True)
    others = _others(settings)
    shared = ("problems", "dvc", "keys") if settings.sign_in else ("problems", "dvc")
    kept = {settings.root / name for name in shared} if others else set()
    for path in (*_inside(settings.home, kept), settings.runtime, settings.raw):
        if path.is_file():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    settings.params.with_name("dvc.lock").unlink(missing_ok=True)
    if not others:
        (checkout / ".dvc" / "config.local").unlink(missing_ok=True)
        shutil.rmtree(checkout / ".dvc" / "tmp", ignore_errors=True)
    raw, problem = settings.raw.relative_to(checkout), settings.problem or "the default problem"
    say(f"{problem}: deleted {settings.home}, {raw} and {len(names)} snapshot tags")
    if others:
        say(f"kept: {', '.join(others)}, and the cache of DVC; `evergreen clean --all` deletes all")


def _others(settings: Settings) -> list[str]:
    """Other problems of this checkout that have state, and so a part of DVC's cache."""
    homes = sorted((settings.root / "problems").glob("*"))
    found = [home.name for home in homes if home != settings.home]
    default = replace(settings, problem="")
    used = (default.home / "ledger.jsonl").exists() or default.raw.exists()
    return ["the default problem", *found] if settings.problem and used else found


def _inside(home: Path, kept: set[Path]) -> list[Path]:
    """The home, or what is in it beside what is kept."""
    if not any(path.is_relative_to(home) for path in kept):
        return [home]
    return [path for path in home.iterdir() if path not in kept] if home.is_dir() else []


def _snapshot_tags(settings: Settings) -> list[str]:
    """Tags of snapshots; a tag of the user's own that begins alike stays."""
    workspace = settings.home / "snapshots"
    try:
        found = Snapshots(settings.checkout, settings.raw, workspace).list()
        return [snapshot.tag for snapshot in found]
    except EvergreenError:  # not a repository
        return []
