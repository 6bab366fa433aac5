"""One world for the tests of a module; whatever it started is ended with it."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.warm import Warm
from tests.e2e.world import World, make_world, processes_of


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="evergreen-"))
    made = make_world(folder)
    warm = Warm(folder)
    yield replace(made, warm=warm)
    warm.close()
    made.run("down")
    for process in processes_of(made):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)
