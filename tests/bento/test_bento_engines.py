"""The two engines over one model, and the breaker in front of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from bento.breaker import Breaker
from bento.engines import TOLERANCE, Ensemble, OnnxEngine, TreeEngine, many_rows
from data.task import BINARY, REGRESSION, Task
from models import graphs

CHECKOUT = Path(__file__).resolve().parents[2]
pytest.importorskip("daal4py", reason="there is no build of oneDAL for this machine")


def boosted(folder: Path, task: Task) -> Path:
    """Histogram trees with missing values, as models/graphs.py writes them."""
    random = np.random.default_rng(5)
    values = random.normal(size=(2000, 5)).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    label = 300 + 40 * (np.nan_to_num(values[:, 0]) + 0.5 * np.isnan(values[:, 1]))
    number = task.kind == "regression"
    maker = HistGradientBoostingRegressor if number else HistGradientBoostingClassifier
    model = maker(max_iter=30, random_state=0).fit(values, label if number else label > 308)
    baseline = np.ravel(model._baseline_prediction)
    made = graphs.trees(model._predictors, baseline, 5, task=task)
    (folder / "model.onnx").write_bytes(graphs.to_bytes(made))
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=["xgboost", "histogram", "number"])
def model(request, artefact, tmp_path_factory) -> tuple[Path, Task]:
    if request.param == "xgboost":
        return artefact / "model.onnx", BINARY
    task = REGRESSION if request.param == "number" else BINARY
    return boosted(tmp_path_factory.mktemp("boosted"), task), task


def test_both_engines_agree_at_and_beside_every_threshold(model):
    path, task = model
    few = OnnxEngine.load(path, task)
    many = many_rows(path, few, task)
    assert isinstance(many, TreeEngine)
    probe = Ensemble.load(path, few.width).probe()
    assert task.gap(many.run(probe), few.run(probe)) <= TOLERANCE


def test_an_answer_does_not_depend_on_how_many_are_asked(model):
    path, task = model
    few = OnnxEngine.load(path, task)
    many = many_rows(path, few, task)
    rows = Ensemble.load(path, few.width).probe()
    for engine in (few, many):
        whole = engine.run(rows)
        for size in (1, 7, 33):
            parts = [engine.run(rows[i : i + size]) for i in range(0, len(rows), size)]
            assert np.concatenate(parts).tolist() == whole.tolist()


def test_trees_that_answer_otherwise_are_not_used(model, monkeypatch, caplog):
    path, task = model
    few = OnnxEngine.load(path, task)
    monkeypatch.setattr(TreeEngine, "run", lambda self, matrix: few.run(matrix) * (1 + 1e-5) + 1e-5)
    assert many_rows(path, few, task) is few
    assert "ONNX Runtime answers all rows" in caplog.text


def test_a_model_without_trees_has_one_engine(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graphs.to_bytes(graphs.constant(np.array(0.2), 3, BINARY)))
    few = OnnxEngine.load(path, BINARY)
    assert many_rows(path, few, BINARY) is few


def test_onedal_comes_without_scikit_learn_and_pandas(artefact):
    """The compiled module is imported without its package, which is no public way in."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from bento.engines import OnnxEngine, TreeEngine, many_rows\n"
        "from data.task import BINARY\n"
        f"path = Path({str(artefact / 'model.onnx')!r})\n"
        "assert isinstance(many_rows(path, OnnxEngine.load(path, BINARY), BINARY), TreeEngine)\n"
        "assert not {'sklearn', 'pandas', 'scipy', 'daal4py'} & set(sys.modules)\n"
        "import daal4py, pandas, sklearn\n"
        "assert daal4py.mb\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=True)


calls = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2), st.booleans()), max_size=40)


@settings(deadline=None)
@given(calls)
def test_the_breaker_opens_after_failures_in_a_row_and_closes_after_a_success(calls):
    breaker, at, row = Breaker(failures=3, rest=5, budget=1), 0.0, 0
    opened: float | None = None
    for pause, seconds, fails in calls:
        at += pause
        state = breaker.state(at)
        assert state == ("closed" if opened is None else "open" if at < opened + 5 else "half-open")
        if state == "open":
            continue
        breaker.record(at, at + seconds, fails)
        bad = fails or at + seconds - at > 1
        at += seconds
        row = row + 1 if bad else 0
        if not bad:
            opened = None
        elif row >= 3 or state == "half-open":
            opened = at
