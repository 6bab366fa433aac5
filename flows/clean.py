"""Back to a fresh clone: no state, no data, no snapshots."""

import shutil
import subprocess
from collections.abc import Callable

from data.snapshots import TAG
from flows import stack
from flows.settings import Settings


def clean(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Stop the stack and delete everything that it and DVC wrote; code and .venv stay."""
    if stack.is_up(settings):
        stack.down(settings)
        say("the stack is down")
    checkout = settings.checkout
    git = ["git", "-C", str(checkout)]
    tags = subprocess.run([*git, "tag", "--list", f"{TAG}*"], capture_output=True, text=True)
    if names := tags.stdout.split():
        subprocess.run([*git, "tag", "--delete", *names], check=True, capture_output=True)
    for folder in (settings.home, settings.runtime, checkout / "data" / "raw"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("dvc.lock", ".dvc/config.local"):
        (checkout / name).unlink(missing_ok=True)
    shutil.rmtree(checkout / ".dvc" / "tmp", ignore_errors=True)
    say(f"deleted {settings.home}, data/raw and {len(names)} snapshot tags")
