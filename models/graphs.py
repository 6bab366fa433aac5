"""Models as ONNX: one float32 input `features` (n, width), one output `probabilities` (n, 2).

scikit-learn's converters know neither the imputer's indicator columns nor the histogram trees' node
types, and round thresholds to the nearest float32, which sends a row that lies between the two the
other way. XGBoost's own converter is used as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.checker import check_model
from scipy.special import expit, logit

FEATURES, PROBABILITIES = "features", "probabilities"
OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8


@dataclass(frozen=True)
class LinearForm:
    """log odds = intercept + (x or fill) @ weights + isnan(x) @ missing + [x is code] @ effects.

    Attributes:
        fill, weights, missing: one value for each feature, shape (width,).
        places, codes, effects: feature, value and effect of each category, shape (categories,).
    """

    fill: np.ndarray
    weights: np.ndarray
    missing: np.ndarray
    places: np.ndarray
    codes: np.ndarray
    effects: np.ndarray
    intercept: float


def constant(probability: float, width: int) -> onnx.ModelProto:
    """The same probability for every row."""
    row = np.array([[1 - probability, probability]], dtype=np.float32)
    nodes = [
        helper.make_node("Shape", [FEATURES], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "two"], ["shape"], axis=0),
        helper.make_node("Expand", ["row", "shape"], [PROBABILITIES]),
    ]
    return _model(nodes, {"two": np.array([2], dtype=np.int64), "row": row}, width)


def linear(form: LinearForm, width: int, slope: float = 1.0, shift: float = 0.0) -> onnx.ModelProto:
    """A linear model, in double precision until the last step."""
    constants = {
        "fill": form.fill[None, :],
        "weights": slope * form.weights[:, None],
        "gaps": slope * form.missing[:, None],
        "places": form.places.astype(np.int64),
        "codes": form.codes[None, :].astype(np.float64),
        "effects": slope * form.effects[:, None],
        "intercept": np.array([slope * form.intercept + shift]),
    }
    nodes = [
        helper.make_node("Cast", [FEATURES], ["x"], to=TensorProto.DOUBLE),
        helper.make_node("IsNaN", ["x"], ["isnan"]),
        helper.make_node("Where", ["isnan", "fill", "x"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["of_numbers"]),
        helper.make_node("Cast", ["isnan"], ["gap"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["gap", "gaps"], ["of_gaps"]),
        helper.make_node("Gather", ["x", "places"], ["values"], axis=1),
        helper.make_node("Equal", ["values", "codes"], ["is_code"]),
        helper.make_node("Cast", ["is_code"], ["coded"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["coded", "effects"], ["of_categories"]),
        helper.make_node("Add", ["of_numbers", "of_gaps"], ["both"]),
        helper.make_node("Add", ["both", "of_categories"], ["all"]),
        helper.make_node("Add", ["all", "intercept"], ["odds"]),
        *_from_odds("odds", "one_double"),
    ]
    return _model(nodes, {**constants, "one_double": np.array([1.0])}, width)


def trees(
    predictors: Sequence[np.ndarray],
    baseline: float,
    width: int,
    slope: float = 1.0,
    shift: float = 0.0,
) -> onnx.ModelProto:
    """Histogram trees whose leaves add up to log odds; `predictors` are their node tables.

    A float32 lies at or below a threshold exactly if it lies at or below the largest float32 that
    does, so that thresholds are rounded down.
    """
    attributes = _tree_attributes(predictors, slope)
    leaves = attributes.pop("leaves")
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            [FEATURES],
            ["odds"],
            domain="ai.onnx.ml",
            n_targets=1,
            base_values=[slope * baseline + shift],
            **attributes,
            **leaves,
        ),
        *_from_odds("odds", "one"),
    ]
    return _model(nodes, {"one": np.array([1.0], dtype=np.float32)}, width)


def _tree_attributes(predictors: Sequence[np.ndarray], slope: float) -> dict[str, Any]:
    nodes = np.concatenate(predictors)
    sizes = [len(table) for table in predictors]
    tree = np.repeat(np.arange(len(sizes)), sizes)
    node = np.concatenate([np.arange(size) for size in sizes])
    leaf = nodes["is_leaf"].astype(bool)
    threshold = nodes["num_threshold"]
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    rounded = np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return {
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_featureids": nodes["feature_idx"].astype(int).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": np.where(leaf, 0, rounded).tolist(),
        "nodes_truenodeids": nodes["left"].astype(int).tolist(),
        "nodes_falsenodeids": nodes["right"].astype(int).tolist(),
        "nodes_missing_value_tracks_true": nodes["missing_go_to_left"].astype(int).tolist(),
        "leaves": {
            "target_treeids": tree[leaf].tolist(),
            "target_nodeids": node[leaf].tolist(),
            "target_ids": [0] * int(leaf.sum()),
            "target_weights": (slope * nodes["value"][leaf]).astype(float).tolist(),
        },
    }


def rescaled(model: onnx.ModelProto, slope: float, shift: float) -> None:
    """Turn the log odds of XGBoost's converted trees into slope * log odds + shift, in place."""
    (node,) = [n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier"]
    attributes = {attribute.name: attribute.floats for attribute in node.attribute}
    for name, change in (("class_weights", 0.0), ("base_values", shift)):
        values = attributes[name]
        values[:] = [slope * value + change for value in values]


def moved(model: onnx.ModelProto, shift: Any) -> None:
    """Add `shift` to the log odds of any graph that this module or XGBoost's converter makes."""
    nodes = {node.op_type: node for node in model.graph.node}
    if "TreeEnsembleClassifier" in nodes:
        rescaled(model, 1.0, shift)
    elif trees := nodes.get("TreeEnsembleRegressor"):
        (base,) = (a.floats for a in trees.attribute if a.name == "base_values")
        base[:] = [value + shift for value in base]
    else:
        linear = "MatMul" in nodes
        name = "intercept" if linear else "row"
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor)
        changed = values + shift if linear else _moved_row(values, shift)
        tensor.CopyFrom(numpy_helper.from_array(changed.astype(values.dtype), name))


def _moved_row(row: np.ndarray, shift: float) -> np.ndarray:
    """The probabilities (1, 2) of a constant, moved in log odds."""
    positive = expit(logit(row[0, 1].astype(np.float64)) + shift)
    return np.array([[1 - positive, positive]])


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The same bytes for the same graph."""
    check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _from_odds(odds: str, one: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sigmoid", [odds], ["positive"]),
        helper.make_node("Sub", [one, "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["pair"], axis=1),
        helper.make_node("Cast", ["pair"], [PROBABILITIES], to=TensorProto.FLOAT),
    ]


def _model(
    nodes: list[onnx.NodeProto], constants: Mapping[str, np.ndarray], width: int
) -> onnx.ModelProto:
    def value(name: str, columns: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, columns])

    graph = helper.make_graph(
        nodes,
        "model",
        [value(FEATURES, width)],
        [value(PROBABILITIES, 2)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
