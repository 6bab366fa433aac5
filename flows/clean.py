"""Back to a fresh clone: no state, no data, no snapshots."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from data.errors import EvergreenError
from data.snapshots import Snapshots
from flows import stack
from flows.settings import Settings


def clean(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Stop the stack and delete everything that it and DVC wrote; code and .venv stay."""
    if stack.is_up(settings):
        stack.down(settings)
        say("the stack is down")
    checkout = settings.checkout
    names = _snapshot_tags(settings)
    if names:
        command = ["git", "-C", str(checkout), "tag", "--delete", *names]
        subprocess.run(command, check=True, capture_output=True)
    shared = ("problems", "dvc", "keys") if settings.sign_in else ("problems", "dvc")
    others = {settings.root / name for name in shared} if _others(settings) else set()
    for path in (*_inside(settings.home, others), settings.runtime, settings.raw):
        shutil.rmtree(path, ignore_errors=True)
    settings.params.with_name("dvc.lock").unlink(missing_ok=True)
    if not others:
        (checkout / ".dvc" / "config.local").unlink(missing_ok=True)
        shutil.rmtree(checkout / ".dvc" / "tmp", ignore_errors=True)
    raw = settings.raw.relative_to(checkout)
    say(f"deleted {settings.home}, {raw} and {len(names)} snapshot tags")


def _others(settings: Settings) -> bool:
    """Whether another problem of this checkout has state, and so a part of DVC's cache."""
    homes = [settings.root / "ledger.jsonl", *(settings.root / "problems").glob("*")]
    mine = {settings.home, settings.home / "ledger.jsonl"}
    return any(home.exists() for home in homes if home not in mine)


def _inside(home: Path, kept: set[Path]) -> list[Path]:
    """The home, or what is in it beside what is kept."""
    if not any(path.is_relative_to(home) for path in kept):
        return [home]
    return [path for path in home.iterdir() if path not in kept]


def _snapshot_tags(settings: Settings) -> list[str]:
    """Tags of snapshots; a tag of the user's own that begins alike stays."""
    workspace = settings.home / "snapshots"
    try:
        found = Snapshots(settings.checkout, settings.raw, workspace).list()
        return [snapshot.tag for snapshot in found]
    except EvergreenError:  # not a repository
        return []
