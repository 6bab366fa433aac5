"""Models of the planted problem, trained once for the session."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from data.params import Params
from data.partitions import Partitions
from data.periods import parse_as_of
from data.problem import Problem
from models import artifact, signing
from models.artifact import Artifact, Trained
from models.train import train
from tests.planted import PROBLEM


@dataclass(frozen=True)
class Made:
    """A trained model and its artefact on disk."""

    trained: Trained
    artifact: Artifact

    @property
    def digest(self) -> str:
        return self.artifact.digest

    @property
    def folder(self) -> Path:
        return self.artifact.folder


@pytest.fixture(scope="session")
def partitions(tmp_path_factory, filled) -> Partitions:
    return filled(tmp_path_factory.mktemp("models") / "raw", "2024-W01", "2024-W14")


@pytest.fixture(scope="session")
def make(tmp_path_factory, partitions, params) -> Callable[..., Made]:
    def build(
        as_of: str = "2024-W08",
        problem: Problem = PROBLEM,
        of: Partitions = partitions,
        params: Params = params,
        **xgboost,
    ) -> Made:
        if xgboost:
            changed = params.xgboost.model_copy(update=xgboost)
            params = params.model_copy(update={"xgboost": changed})
        trained = train(problem, of, params, parse_as_of(as_of, problem.label_delay))
        folder = tmp_path_factory.mktemp("artefacts") / "artefact"
        artifact.write(trained, problem, params, folder)
        return Made(trained, artifact.load(folder))

    return build


@pytest.fixture(scope="session")
def good(make) -> Made:
    """A model of the world before the change."""
    return make()


@pytest.fixture(scope="module")
def signed(tmp_path_factory, good, keys) -> Path:
    """The folder of a version as a training leaves it, signed with the module's `keys`."""
    folder = tmp_path_factory.mktemp("signed") / "registered"
    shutil.copytree(good.folder, folder / "artefact")
    (folder / "card.md").write_text("# card")
    signing.sign(folder, keys)
    return folder
