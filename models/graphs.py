"""Models as ONNX: one float32 input `features` (n, width), one output.

That is `probabilities` (n, 2) or (n, classes), or `prediction` (n, 1) of a regression. A margin is
what a model adds up: log odds, one log probability for each class but for a constant, the number.

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
from scipy.special import expit, logit, softmax

from data.task import Task

FEATURES, PROBABILITIES, PREDICTION = "features", "probabilities", "prediction"
OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
Shift = float | np.ndarray  # of the margins, shape () or (classes,)
ENSEMBLES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


@dataclass(frozen=True)
class LinearForm:
    """margin = intercept + (x or fill) @ weights + isnan(x) @ missing + [x is code] @ effects.

    Attributes:
        fill: a value for each feature, shape (width,).
        weights, missing: for each feature and margin, shape (width, margins).
        places, codes: feature and value of each category, shape (categories,).
        effects: shape (categories, margins).
        intercept: shape (margins,).
    """

    fill: np.ndarray
    weights: np.ndarray
    missing: np.ndarray
    places: np.ndarray
    codes: np.ndarray
    effects: np.ndarray
    intercept: np.ndarray


def constant(answer: np.ndarray, width: int, task: Task) -> onnx.ModelProto:
    """The same answer, of shape () or (classes,), for every row."""
    row = [1 - answer, answer] if task.kind == "binary" else np.atleast_1d(answer)
    nodes = [
        helper.make_node("Shape", [FEATURES], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "two"], ["shape"], axis=0),
        helper.make_node("Expand", ["row", "shape"], [output(task)]),
    ]
    size, rows = np.array([len(row)], dtype=np.int64), np.array([row], dtype=np.float32)
    return _model(nodes, {"two": size, "row": rows}, width, task)


def linear(
    form: LinearForm,
    width: int,
    slope: float = 1.0,
    shift: Shift = 0.0,
    *,
    task: Task,
) -> onnx.ModelProto:
    """A linear model, in double precision until the last step."""
    constants = {
        "fill": form.fill[None, :],
        "weights": slope * form.weights,
        "gaps": slope * form.missing,
        "places": form.places.astype(np.int64),
        "codes": form.codes[None, :].astype(np.float64),
        "effects": slope * form.effects,
        "intercept": slope * form.intercept + shift,
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
        *_answers(task, "one_double"),
    ]
    one = {"one_double": np.array([1.0])} if task.kind == "binary" else {}
    return _model(nodes, {**constants, **one}, width, task)


def trees(
    predictors: Sequence[Sequence[Any]],
    baseline: np.ndarray,
    width: int,
    slope: float = 1.0,
    shift: Shift = 0.0,
    *,
    task: Task,
) -> onnx.ModelProto:
    """Histogram trees whose leaves add up to margins.

    A float32 lies at or below a threshold exactly if it lies at or below the largest float32 that
    does, so that thresholds are rounded down.

    Args:
        predictors: for each step of the boosting a tree (with `nodes`) for each margin.
        baseline: of the margins, shape (margins,).
    """
    tables = [tree.nodes for step in predictors for tree in step]
    attributes = _tree_attributes(tables, slope, len(baseline))
    leaves = attributes.pop("leaves")
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            [FEATURES],
            ["odds"],
            domain="ai.onnx.ml",
            n_targets=len(baseline),
            base_values=(slope * baseline + shift).tolist(),
            **attributes,
            **leaves,
        ),
        *_answers(task, "one"),
    ]
    one = {"one": np.array([1.0], dtype=np.float32)} if task.kind == "binary" else {}
    return _model(nodes, one, width, task)


def _tree_attributes(tables: Sequence[np.ndarray], slope: float, margins: int) -> dict[str, Any]:
    nodes = np.concatenate(tables)
    sizes = [len(table) for table in tables]
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
            "target_ids": (tree[leaf] % margins).tolist(),
            "target_weights": (slope * nodes["value"][leaf]).astype(float).tolist(),
        },
    }


def named(model: onnx.ModelProto, task: Task) -> None:
    """Give the output of XGBoost's converter for a regression this module's name, in place."""
    if task.kind != "regression":
        return
    (made,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [PREDICTION if name == made.name else name for name in node.output]
    made.name = PREDICTION


def rescaled(model: onnx.ModelProto, slope: float, shift: Shift) -> None:
    """Turn the margins of XGBoost's converted trees into slope * margin + shift, in place."""
    (node,) = [n for n in model.graph.node if n.op_type in ENSEMBLES]
    for attribute in node.attribute:
        values = attribute.floats
        if attribute.name in ("class_weights", "target_weights"):
            values[:] = [slope * value for value in values]
        elif attribute.name == "base_values":
            values[:] = (slope * np.array(values) + shift).tolist()


def moved(model: onnx.ModelProto, shift: Shift, task: Task) -> None:
    """Add `shift` to the margins of any graph that this module or XGBoost's converter makes."""
    nodes = {node.op_type: node for node in model.graph.node}
    if any(name in nodes for name in ENSEMBLES):
        rescaled(model, 1.0, shift)
        return
    linear = "MatMul" in nodes
    name = "intercept" if linear else "row"
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor)
    changed = values + shift if linear else _moved_row(values, shift, task)
    tensor.CopyFrom(numpy_helper.from_array(changed.astype(values.dtype), name))


def _moved_row(row: np.ndarray, shift: Shift, task: Task) -> np.ndarray:
    """The answer of a constant as it stands in its graph, shape (1, columns), moved."""
    if task.kind == "regression":
        return np.asarray(row + shift)
    if task.kind == "multiclass":
        return np.asarray(softmax(np.log(row.astype(np.float64)) + shift, axis=1))
    positive = expit(logit(row[0, 1].astype(np.float64)) + shift)
    return np.array([[1 - positive, positive]])


def output(task: Task) -> str:
    """The name of the graph's output."""
    return PREDICTION if task.kind == "regression" else PROBABILITIES


def score(found: np.ndarray, task: Task) -> np.ndarray:
    """The output of a graph as answers in the task's shape."""
    if task.kind == "multiclass":
        return found
    return found[:, -1]


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The same bytes for the same graph."""
    check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _answers(task: Task, one: str) -> list[onnx.NodeProto]:
    """From the margins, `odds`, to the output; `one` is a constant of their type."""
    if task.kind == "regression":
        return [helper.make_node("Cast", ["odds"], [PREDICTION], to=TensorProto.FLOAT)]
    if task.kind == "multiclass":
        return [
            helper.make_node("Softmax", ["odds"], ["all_classes"], axis=1),
            helper.make_node("Cast", ["all_classes"], [PROBABILITIES], to=TensorProto.FLOAT),
        ]
    return [
        helper.make_node("Sigmoid", ["odds"], ["positive"]),
        helper.make_node("Sub", [one, "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["pair"], axis=1),
        helper.make_node("Cast", ["pair"], [PROBABILITIES], to=TensorProto.FLOAT),
    ]


def _model(
    nodes: list[onnx.NodeProto], constants: Mapping[str, np.ndarray], width: int, task: Task
) -> onnx.ModelProto:
    def value(name: str, columns: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, columns])

    graph = helper.make_graph(
        nodes,
        "model",
        [value(FEATURES, width)],
        [value(output(task), 2 if task.kind == "binary" else task.width)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
