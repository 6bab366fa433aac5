"""What git says and does in a checkout."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from data.errors import EvergreenError


def git(
    checkout: Path,
    *arguments: str,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    optional: bool = False,
) -> str:
    """Run git in a checkout; what it printed, without the newline at the end.

    Args:
        text: its standard input.
        env: variables beside those of this process.
        optional: a failure is an empty answer.

    Raises:
        EvergreenError: with what git said, if it fails.
    """
    command = ["git", "-C", str(checkout), *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    if done.returncode and not optional:
        said = done.stderr.strip() or f"exit {done.returncode}"
        raise EvergreenError(f"git could not `{' '.join(arguments[:3])} …`: {said}")
    return done.stdout.strip("\n")
