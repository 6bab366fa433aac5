"""One world for the tests of a module; whatever it started is ended with it.

With EVERGREEN_TEST_TEAM=on it is a team's: PostgreSQL and S3 keep what a laptop keeps in files.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.warm import Warm
from tests.e2e.world import World, make_world, processes_of

TEAM = os.environ.get("EVERGREEN_TEST_TEAM") == "on"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="evergreen-"))
    with _stores() as told:
        made = make_world(folder, told)
        warm = Warm(folder)
        yield replace(made, warm=warm) if sys.platform == "linux" else made
        warm.close()
        made.run("down")
        for process in processes_of(made):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _stores() -> contextlib.AbstractContextManager[dict[str, str]]:
    if not TEAM:
        return contextlib.nullcontext({})
    from tests import stores

    return stores.team()
