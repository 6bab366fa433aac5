"""What Prefect's server is told at every start: the work pool, deployments and automations.

In this process, which has Prefect already: an interpreter for each would take seconds.
"""

import asyncio
import runpy
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from data.errors import EvergreenError
from flows.automations import register, zombies


def register_all(checkout: Path, pool: str, *kind: str) -> None:
    """Make or renew the pool, every deployment of prefect.yaml, and the automations.

    Args:
        kind: of the pool, as options of `prefect work-pool create`.

    Raises:
        EvergreenError: with Prefect's last words, if it refuses one of them.
    """
    with chdir(checkout):
        prefect("work-pool", "create", pool, "--overwrite", *kind)
        prefect("--no-prompt", "deploy", "--all")
    asyncio.run(register(zombies()))


def prefect(*arguments: str) -> None:
    """As `python -m prefect …`.

    Raises:
        EvergreenError: with its last words if it fails.
    """
    said, before = StringIO(), sys.argv
    sys.argv = ["prefect", *arguments]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            runpy.run_module("prefect", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            words = said.getvalue().strip()[-800:]
            raise EvergreenError(f"`prefect {' '.join(arguments[:3])}` failed: {words}") from ended
    finally:
        sys.argv = before
