"""What evaluates the model: ONNX Runtime for few rows, oneDAL's trees for many.

ONNX Runtime walks all trees for one row after the other; oneDAL takes 32 rows through a tree at a
time and needs a quarter of the time for them. Both read the same `model.onnx`. Their scores differ
by less than `TOLERANCE`, which is checked when a model is loaded; where oneDAL is not installed,
does not agree, there are several classes, or the model has no trees, ONNX Runtime answers
everything.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from bento.answers import output, scores
from bento.one_row import OneRow
from data.errors import EvergreenError
from data.task import Task

TOLERANCE = 1e-6
# oneDAL adds up a block of so many rows in another order than single rows: a batch is padded to
# full blocks, so that a row's answer does not depend on how many others are in its batch.
BLOCK = 32
PACKAGE = "daal4py"
MODES = {b"BRANCH_LT", b"BRANCH_LEQ", b"LEAF"}
ENSEMBLES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Features (n, width), float32, to scores, float32.

    Probabilities of the positive class or numbers, shape (n,); probabilities (n, classes).
    """

    def run(self, matrix: np.ndarray) -> np.ndarray: ...


class OnnxEngine:
    """ONNX Runtime on one thread: handing a row to another would cost more than it saves."""

    def __init__(self, session: Any, task: Task) -> None:
        self._session = session
        self._task, self._output = task, output(task)
        self._input = session.get_inputs()[0].name
        self.width = session.get_inputs()[0].shape[-1]
        self._one = None
        if isinstance(self.width, int):
            self._one = OneRow(session, self.width, self._output, _columns(task))

    @classmethod
    def load(cls, path: Path, task: Task) -> "OnnxEngine":
        """The engine of a model.

        Raises:
            EvergreenError: if ONNX Runtime cannot load it, or its output is not the task's.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise EvergreenError(
                f"{path} is no model that ONNX Runtime can load: {error}"
            ) from error
        _check_output(path, session, task)
        return cls(session, task)

    def run(self, matrix: np.ndarray) -> np.ndarray:
        if self._one and len(matrix) == 1:
            return scores(self._task, self._one.run(matrix))
        (found,) = self._session.run([self._output], {self._input: matrix})
        return scores(self._task, found)


def _columns(task: Task) -> int:
    """Of a model's output."""
    return {"binary": 2, "regression": 1}.get(task.kind, task.width)


def _check_output(path: Path, session: Any, task: Task) -> None:
    name, shapes = output(task), {each.name: each.shape for each in session.get_outputs()}
    if name not in shapes:
        raise EvergreenError(f"{path} has no output {name!r}: export it without ZipMap")
    wanted = _columns(task)
    if len(shapes[name]) != 2 or (isinstance(shapes[name][1], int) and shapes[name][1] != wanted):
        raise EvergreenError(
            f"{path}: {name!r} has the shape {shapes[name]}, a {task.kind} task has {wanted} "
            "columns there: build the artefact again"
        )


class TreeEngine:
    """oneDAL's gradient boosted trees, on one thread."""

    def __init__(self, model: Any, compute: Callable[[np.ndarray, Any], np.ndarray]) -> None:
        """Args: compute: scores (n,) of features (n, width) by a model of oneDAL."""
        self._model = model
        self._compute = compute

    @classmethod
    def build(cls, ensemble: "Ensemble", task: Task) -> "TreeEngine | None":
        """The engine of an ensemble for two outcomes or a number; None without oneDAL."""
        if (onedal := _onedal()) is None:
            return None
        onedal.daalinit(1)
        sizes = {"n_features": ensemble.width, "n_iterations": len(ensemble.trees)}
        if task.kind == "regression":
            builder, compute = onedal.gbt_reg_model_builder(**sizes), _numbers(onedal)
        else:
            builder = onedal.gbt_clf_model_builder(**sizes, n_classes=2)
            compute = _probabilities(onedal)
        of_class = {} if task.kind == "regression" else {"class_label": 0}
        for tree in ensemble.trees:
            _add(builder, tree, builder.create_tree(n_nodes=len(tree.inner), **of_class))
        return cls(builder.model(base_score=None), compute)

    def run(self, matrix: np.ndarray) -> np.ndarray:
        n = len(matrix)
        padded = matrix
        if n % BLOCK:
            padded = np.zeros((n + BLOCK - n % BLOCK, matrix.shape[1]), dtype=np.float32)
            padded[:n] = matrix
        return np.ascontiguousarray(self._compute(padded, self._model)[:n])


def _probabilities(onedal: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    def compute(matrix: np.ndarray, model: Any) -> np.ndarray:
        algorithm = onedal.gbt_classification_prediction(
            nClasses=2, fptype="float", resultsToEvaluate="computeClassProbabilities"
        )
        return np.asarray(algorithm.compute(matrix, model).probabilities[:, 1])

    return compute


def _numbers(onedal: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    def compute(matrix: np.ndarray, model: Any) -> np.ndarray:
        algorithm = onedal.gbt_regression_prediction(fptype="float")
        return np.asarray(algorithm.compute(matrix, model).prediction[:, 0])

    return compute


@dataclass(frozen=True)
class Tree:
    """Nodes by their place; one that is not inner is a leaf.

    Attributes:
        feature, limit: an inner node sends float32 values up to its limit to the left.
        left, right: places of the children.
        gap_left: whether a missing value goes to the left.
        value: of a leaf.
    """

    inner: list[bool]
    feature: list[int]
    limit: list[float]
    left: list[int]
    right: list[int]
    gap_left: list[bool]
    value: list[float]


@dataclass(frozen=True)
class Ensemble:
    """Trees whose leaves add up to the log odds of the positive class, or to the number."""

    width: int
    trees: list[Tree]

    @classmethod
    def load(cls, path: Path, width: int) -> "Ensemble | None":
        """The tree ensemble of an ONNX graph; None if it has none that is known here."""
        import onnx

        for node in onnx.load(path).graph.node:
            if node.op_type in ENSEMBLES:
                read = onnx.helper.get_attribute_value
                attributes = {a.name: read(a) for a in node.attribute}
                if MODES.issuperset(attributes["nodes_modes"]):
                    return cls(width, _trees(attributes))
        return None

    def probe(self) -> np.ndarray:
        """Rows at the very limits of the trees and next to them, and with gaps."""
        random = np.random.default_rng(0)
        limits: list[list[float]] = [[0.0] for _ in range(self.width)]
        for tree in self.trees:
            for inner, place, limit in zip(tree.inner, tree.feature, tree.limit, strict=True):
                if inner:
                    limits[place].append(limit)
        at = np.array([random.choice(values, 4 * BLOCK) for values in limits], dtype=np.float32).T
        beside = np.nextafter(at, random.choice([-np.inf, np.inf], at.shape).astype(np.float32))
        probe = np.where(random.random(at.shape) < 0.5, at, beside)
        probe[random.random(at.shape) < 0.1] = np.nan
        return np.ascontiguousarray(probe)


def _trees(node: dict[str, Any]) -> list[Tree]:
    leaf = "class" if "class_weights" in node else "target"
    places = zip(node[f"{leaf}_treeids"], node[f"{leaf}_nodeids"], strict=True)
    weights = dict(zip(places, node[f"{leaf}_weights"], strict=True))
    of_tree, modes = np.array(node["nodes_treeids"]), np.array(node["nodes_modes"])
    limits = np.array(node["nodes_values"], dtype=np.float32)
    below = modes == b"BRANCH_LT"
    limits[below] = np.nextafter(limits[below], np.float32(-np.inf))
    base = sum(node.get("base_values", ()))
    trees = []
    for number in np.unique(of_tree):
        mine = slice(*np.searchsorted(of_tree, [number, number + 1]))
        trees.append(
            Tree(
                inner=(modes[mine] != b"LEAF").tolist(),
                feature=list(node["nodes_featureids"][mine]),
                limit=limits[mine].tolist(),
                left=list(node["nodes_truenodeids"][mine]),
                right=list(node["nodes_falsenodeids"][mine]),
                gap_left=[bool(v) for v in node["nodes_missing_value_tracks_true"][mine]],
                value=[base + weights.get((number, i), 0.0) for i in node["nodes_nodeids"][mine]],
            )
        )
        base = 0.0  # it is in the leaves of the first tree
    return trees


def _add(builder: Any, tree: Tree, here: Any) -> None:
    """Add the nodes of a tree to the one that a builder of oneDAL made, parents before children."""
    waiting: list[tuple[int, dict[str, int]]] = [(0, {})]
    for place, parent in waiting:
        if not tree.inner[place]:
            builder.add_leaf(tree_id=here, response=tree.value[place], cover=1.0, **parent)
            continue
        added = builder.add_split(
            tree_id=here,
            feature_index=tree.feature[place],
            feature_value=tree.limit[place],
            default_left=tree.gap_left[place],
            cover=1.0,
            **parent,
        )
        waiting.append((tree.left[place], {"parent_id": added, "position": 0}))
        waiting.append((tree.right[place], {"parent_id": added, "position": 1}))


def many_rows(path: Path, few: OnnxEngine, task: Task) -> Engine:
    """The fastest engine for many rows that agrees with the one for few."""
    if task.classes or not isinstance(few.width, int):
        return few
    ensemble = Ensemble.load(path, few.width)
    trees = TreeEngine.build(ensemble, task) if ensemble else None
    if ensemble is None or trees is None:
        return few
    probe = ensemble.probe()
    gap = task.gap(trees.run(probe), few.run(probe))
    if not gap <= TOLERANCE:
        logger.warning("oneDAL differs by up to %.1e: ONNX Runtime answers all rows", gap)
        return few
    return trees


def _onedal() -> Any:
    """daal4py's compiled module; None where it is not installed.

    Without its package, which would import all of scikit-learn, and without pandas, which it would
    import to know frames by.
    """
    if (spec := importlib.util.find_spec(PACKAGE)) is None:
        return None
    stand_ins = {PACKAGE: importlib.util.module_from_spec(spec), "pandas": None}
    hidden = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        return importlib.import_module(f"{PACKAGE}._daal4py")
    except ImportError as error:
        logger.warning("oneDAL cannot be loaded: %s", error)
        return None
    finally:
        for name in hidden:
            del sys.modules[name]
