"""Nothing here writes a pickle or would open one: loading one runs whatever is in it."""

import ast
import pickle
import tarfile
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest

from tests.pickles import pickles

ROOT = Path(__file__).parents[1]

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"read_pickle", "to_pickle", "pyfunc", "load_model", "allow_pickle"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_found_under_any_name_and_in_an_archive(tmp_path, protocol):
    data = pickle.dumps({"a": [1, 2.0, "x"]}, protocol)
    (tmp_path / "model.onnx").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("inner", data)
    with tarfile.open(tmp_path / "x.bento", "w:gz") as archive:
        archive.add(tmp_path / "model.onnx", "models/model")
    joblib.dump({"a": 1}, tmp_path / "model.joblib")
    (tmp_path / "fine.json").write_text("{}")
    np.save(tmp_path / "fine.npy", np.ones(3))
    assert [Path(name).name for name in pickles(tmp_path)] == [
        "model.joblib", "model.onnx", "model.skops", "x.bento",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(p for r in ("bento", "data", "flows", "models")
                                        for p in (ROOT / r).glob("*.py")), ids=str)  # fmt: skip
def test_no_code_of_ours_can_open_one(path):
    """XGBoost's own `load_model` reads its JSON; MLflow's loaders are never asked."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not MODULES & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in MODULES
        elif isinstance(node, ast.Attribute) and node.attr in CALLS:
            owner = ast.unparse(node.value)
            assert node.attr == "load_model" and owner in ("model", "booster"), ast.unparse(node)
        elif isinstance(node, ast.keyword):
            assert node.arg not in CALLS
