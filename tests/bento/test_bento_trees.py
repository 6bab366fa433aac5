"""The fast form of trees has the bits of ONNX Runtime, or says where it is in doubt."""

import numpy as np
import onnxruntime
import pytest
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from bento import trees
from bento.predictor import Predictor


def test_the_fast_form_has_the_bits_of_onnx_runtime_at_every_threshold(artefact):
    fast, predictor = trees.load(artefact / "model.onnx"), Predictor.load(artefact)
    assert fast is not None
    limits = np.concatenate([conditions.thresholds[:, 0] for conditions in fast.conditions])
    around = [np.nextafter(limits, np.float32(to)) for to in (-np.inf, np.inf)]
    values = np.concatenate([limits, *around, [np.nan, np.inf, -np.inf, 0, -0.0]])
    shape = len(predictor.contract.features), trees.BLOCK + 1000
    matrix = np.random.default_rng(3).choice(values.astype(np.float32), shape)
    found, doubt = fast.run(matrix)
    exact = predictor.run(np.ascontiguousarray(matrix.T))
    assert np.array_equal(found[~doubt], exact[~doubt])
    assert np.abs(found - exact).max() < 1e-7
    assert doubt.mean() < 0.03


@pytest.mark.parametrize("number", [False, True])
@pytest.mark.parametrize("depth", [1, 3, 8, 9])
def test_trees_of_every_depth_are_walked_right(depth, number, tmp_path):
    """Missing values go both ways, some trees are a single leaf; too deep ones are left alone."""
    random = np.random.default_rng(depth)
    matrix = random.normal(size=(4000, 6)).astype(np.float32)
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    label = np.nan_to_num(matrix[:, 0] * matrix[:, 1]) + random.normal(size=4000)
    maker = xgboost.XGBRegressor if number else xgboost.XGBClassifier
    model = maker(
        n_estimators=21, max_depth=depth, gamma=0.5, min_child_weight=0.1, learning_rate=0.5
    ).fit(matrix, 30 + label if number else label > 0)
    graph = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, 6]))])
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    fast = trees.load(tmp_path / "model.onnx")
    if depth > trees.DEPTH:
        assert fast is None
        return
    assert len(fast.levels) == depth
    assert {conditions.missing for conditions in fast.conditions} == {False, True}
    found, doubt = fast.run(np.ascontiguousarray(matrix.T))
    one_thread = onnxruntime.SessionOptions()  # more add the trees up in another order
    one_thread.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", one_thread)
    exact = session.run(None, {"features": matrix})[-1][:, -1]
    assert not (number and doubt.any())
    assert np.array_equal(found[~doubt], exact[~doubt])
    assert len(np.unique(found)) > 2 * depth
