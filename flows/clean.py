"""Back to a fresh clone: no state, no data, no snapshots."""

import shutil
import subprocess
from collections.abc import Callable

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
    for folder in (settings.home, settings.runtime, checkout / "data" / "raw"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("dvc.lock", ".dvc/config.local"):
        (checkout / name).unlink(missing_ok=True)
    shutil.rmtree(checkout / ".dvc" / "tmp", ignore_errors=True)
    say(f"deleted {settings.home}, data/raw and {len(names)} snapshot tags")


def _snapshot_tags(settings: Settings) -> list[str]:
    """Tags of snapshots; a tag of the user's own that begins alike stays."""
    raw, workspace = settings.checkout / "data" / "raw", settings.home / "snapshots"
    try:
        return [snapshot.tag for snapshot in Snapshots(settings.checkout, raw, workspace).list()]
    except EvergreenError:  # not a repository
        return []
