"""The planted problem on disk, for every room; state and telemetry stay inside the tests."""

import gc
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

os.environ.update(DVC_NO_ANALYTICS="1", DO_NOT_TRACK="1", MLFLOW_DISABLE_TELEMETRY="true")
# Threads of a library that wait for each other spin, where every core has work already.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ["PREFECT_HOME"] = str(
    Path(tempfile.gettempdir()) / f"evergreen-tests-prefect-{os.getenv('PYTEST_XDIST_WORKER', '')}"
)

from data.ingest import ingest
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import Period, span
from data.problem import Problem
from tests import planted

ROOT = Path(__file__).parents[1]
CHANGES = {
    "train": {"first_period": "2024-W01", "as_of": "2024-W12", "minimum_periods": 4},
    "xgboost": {
        "n_estimators": 60,
        "max_depth": 4,
        "learning_rate": 0.15,
        "min_child_weight": 2.0,
        "colsample_bytree": 0.9,
    },
    "hist_gradient_boosting": {"max_iter": 40, "learning_rate": 0.15, "min_samples_leaf": 20},
    "rolling": {"minimum_periods": 50},  # xgboost wins unasked; who wants another says so
    "gates": {"minimum_rows": 300, "parity_rows": 500, "bootstrap_samples": 400},
    "importance": {"repeats": 2},
}


def planted_params() -> Params:
    """params.yaml as the planted problem wants it."""
    content = load_params(ROOT / "params.yaml").model_dump()
    content["problem"] = "tests/planted.py"
    for section, values in CHANGES.items():
        content[section] |= values
    return Params.model_validate(content)


def fill(
    folder: Path,
    first: str,
    last: str,
    problem: Problem = planted.PROBLEM,
    labels: bool = True,
    despite: Iterable[str] = (),
) -> Partitions:
    """Partitions of the planted problem from `first` to `last`."""
    partitions = Partitions(folder)
    for period in span(Period.parse(first), Period.parse(last)):
        batch = problem.read(period)
        ingest(problem, partitions, period, batch, labels=labels, despite=tuple(despite))
    return partitions


LONG = ("test_e2e_cycle", "test_e2e_release", "test_e2e_own_data", "test_e2e_team",
        "test_reproduce", "test_progressive", "test_data_rules", "test_models_gates",
        "test_sign_in", "test_new_problem", "test_models_leakage", "test_models_promotion",
        "test_models_gates_tasks", "test_bento_rollout", "test_recalibrate", "test_challenge",
        "test_models_engines", "test_models_tasks", "test_team")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that all cores end together."""
    place = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def pytest_collection() -> None:
    """To look for garbage among what is imported, again and again, takes half of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def params() -> Params:
    return planted_params()


@pytest.fixture(scope="session")
def filled() -> Callable[..., Partitions]:
    return fill


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder with its bytes; lock files do not count."""

    def read(folder: Path) -> dict[str, bytes]:
        paths: Iterable[Path] = folder.rglob("*")
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in paths
            if p.is_file() and p.name != ".lock"
        }

    return read
