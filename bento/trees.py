"""Boosted trees for many rows: the bits of ONNX Runtime, several times as fast, in NumPy.

Rows are bits here, as in Biham's bit-sliced DES (1997). Each distinct condition of a model is asked
once for a block of rows and packed, so that one instruction sends 64 rows and more down a tree: of
those that reach a node, the ones that fail its condition go right, the others left. What is left to
do for each row and tree is to look up a leaf.

ONNX Runtime adds leaves in float32, tree after tree, and the base value last; so does this. Its
exponential is that of the C library, right to within some thousandths of the last place. Where that
much decides the rounding, the row is in doubt, and ONNX Runtime has to be asked: about one in 90.
Of a regression the sum is the answer, and none is in doubt.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

BLOCK = 2**13  # rows, and trees at a time: what they need stays in the second-level cache
TREES = 16
DEPTH = 8  # leaves are counted in a byte
DOUBT = 2.0**-31
KINDS = {"BRANCH_LT", "LEAF"}
# By operator: how its attributes of leaves are called, and what a sum of leaves becomes.
OUTPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TreeEnsembleClassifier": (
        "class",
        {"classlabels_int64s": [0, 1], "post_transform": b"LOGISTIC", "aggregate_function": None},
    ),
    "TreeEnsembleRegressor": (
        "target",
        {"n_targets": 1, "post_transform": b"NONE", "aggregate_function": None},
    ),
}


@dataclass(frozen=True)
class Conditions:
    """Conditions on one feature: a row passes if it is below the threshold.

    Attributes:
        missing: whether a missing value passes.
        thresholds: shape (n, 1).
    """

    feature: int
    missing: bool
    thresholds: np.ndarray


@dataclass(frozen=True)
class Trees:
    """All trees, filled up to the same depth with conditions that do not matter.

    Attributes:
        levels: for each level the conditions of its nodes, shape (2 ** level, trees); the right
            child of a node has its number plus 2 ** level, the left one its number.
        leaves: shape (trees, 2 ** depth), from left to right.
        base: is added to the sum of the leaves.
        logistic: whether that is log odds; else it is the answer.
    """

    conditions: tuple[Conditions, ...]
    levels: tuple[np.ndarray, ...]
    leaves: np.ndarray
    base: np.float32
    logistic: bool

    def run(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n,), float32, and which are in doubt (n,).

        Args:
            matrix: features (width, n), float32.
        """
        total = np.empty(matrix.shape[1], np.float32)
        for first in range(0, len(total), BLOCK):
            rows = matrix[:, first : first + BLOCK]
            count = rows.shape[1]
            whole = np.pad(rows, ((0, 0), (0, -count % 64)))
            total[first : first + count] = self._sum(whole)[:count]
        return _logistic(total) if self.logistic else (total, np.zeros(len(total), dtype=bool))

    def _sum(self, matrix: np.ndarray) -> np.ndarray:
        """Base and leaves (n,) of features (width, n); n is a multiple of 64."""
        failed = self._failed(matrix)
        total = np.zeros(matrix.shape[1], np.float32)
        value = np.empty_like(total)
        for first in range(0, len(self.leaves), TREES):
            some = slice(first, first + TREES)
            for leaves, places in zip(self.leaves[some], self._reached(failed, some), strict=True):
                # Places are in range: `clip` saves the check that they are.
                np.take(leaves, places, out=value, mode="clip")
                total += value
        return total + self.base

    def _failed(self, matrix: np.ndarray) -> np.ndarray:
        """Which rows fail each condition, as bits, shape (conditions, n / 64)."""
        failed = []
        for of in self.conditions:
            x = matrix[of.feature]  # NaN is neither below a threshold nor at it or above
            asked = x >= of.thresholds if of.missing else x < of.thresholds
            bits = np.packbits(asked, axis=1, bitorder="little")
            failed.append(bits if of.missing else ~bits)
        return np.concatenate(failed).view(np.uint64)

    def _reached(self, failed: np.ndarray, some: slice) -> np.ndarray:
        """The leaf that each row reaches in some of the trees, shape (trees, n), as a byte.

        A leaf's number has a bit for each level, which says whether the row went right.
        """
        words, trees = failed.shape[1], len(self.leaves[some])
        right = np.empty((len(self.levels), trees, words), np.uint64)
        reach = np.full((1, trees, words), np.uint64(2**64 - 1))
        for level, conditions in enumerate(self.levels):
            nodes = len(conditions)
            ways = np.empty((2 * nodes, trees, words), np.uint64)
            to_left, to_right = ways[:nodes], ways[nodes:]
            np.take(failed, conditions[:, some], axis=0, out=to_right, mode="clip")
            np.bitwise_and(reach, to_right, out=to_right)
            np.bitwise_or.reduce(to_right, axis=0, out=right[level])
            if nodes < self.leaves.shape[1] // 2:
                np.bitwise_xor(reach, to_right, out=to_left)
            reach = ways
        bits = np.unpackbits(right.view(np.uint8), axis=2, bitorder="little").view(np.uint64)
        place: np.ndarray = bits[0]  # eight bytes in one step: none grows beyond its own
        for bit in bits[1:]:
            place += place
            place |= bit
        return np.asarray(place.view(np.uint8))


def _logistic(odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 / (1 + exp(-odds)) as ONNX Runtime computes it, and where that is in doubt."""
    exact = np.exp(-np.abs(odds.astype(np.float64)))
    found = exact.astype(np.float32)
    doubt = (exact * (1 - DOUBT)).astype(np.float32) != (exact * (1 + DOUBT)).astype(np.float32)
    half = np.float32(1) / (np.float32(1) + found)
    return np.where(odds < 0, np.float32(1) - half, half), doubt


def load(path: Path) -> Trees | None:
    """The trees of an ONNX model; None if it is not one ensemble of shallow ones, as of XGBoost."""
    graph = onnx.load(path).graph
    if len(graph.node) != 1 or graph.node[0].op_type not in OUTPUTS:
        return None
    found = {a.name: onnx.helper.get_attribute_value(a) for a in graph.node[0].attribute}
    of, output = OUTPUTS[graph.node[0].op_type]
    kinds = {kind.decode() for kind in found["nodes_modes"]}
    base = found.get("base_values", ())
    simple = {name: found.get(name) for name in output} == output and not any(found[f"{of}_ids"])
    if not (simple and kinds <= KINDS and len(base) == 1):
        return None
    trees = [_Tree(*parts) for parts in _by_tree(found, of)]
    depth = max(tree.depth for tree in trees)
    return _joined(trees, depth, base[0], of == "class") if 0 < depth <= DEPTH else None


Condition = tuple[int, bool, float]  # feature, whether a missing value passes, threshold


class _Tree:
    """One tree; a place is a level and a number within it, as in `Trees.levels`."""

    def __init__(self, rows: list[Any], leaves: Mapping[int, float]) -> None:
        """Args: rows: of each node id, kind, feature, threshold, ways and missing; root first."""
        self._rows = {node: rest for node, *rest in rows}
        self.leaves: dict[tuple[int, int], float] = {}
        self.conditions: dict[tuple[int, int], Condition] = {}
        under_way = [(rows[0][0], 0, 0)]
        while under_way:
            node, level, place = under_way.pop()
            kind, feature, threshold, left, right, missing = self._rows[node]
            if kind == b"LEAF":
                self.leaves[level, place] = leaves[node]
                continue
            self.conditions[level, place] = (feature, bool(missing), threshold)
            right_place = place + 2**level
            under_way += [(left, level + 1, place), (right, level + 1, right_place)]

    @property
    def depth(self) -> int:
        return max(level for level, _ in self.leaves)


def _by_tree(found: Mapping[str, Any], of: str) -> Iterator[tuple[list[Any], dict[int, float]]]:
    rows: dict[int, list[Any]] = defaultdict(list)
    leaves: dict[int, dict[int, float]] = defaultdict(dict)
    names = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    count = len(found["nodes_treeids"])
    missing = found.get("nodes_missing_value_tracks_true") or [0] * count
    for tree, *row in zip(*(found[f"nodes_{name}"] for name in names), missing, strict=True):
        rows[tree].append(row)
    places = zip(found[f"{of}_treeids"], found[f"{of}_nodeids"], strict=True)
    for (tree, node), weight in zip(places, found[f"{of}_weights"], strict=True):
        leaves[tree][node] = weight
    return ((rows[tree], leaves[tree]) for tree in sorted(rows))


def _joined(trees: list[_Tree], depth: int, base: float, logistic: bool) -> Trees:
    asked = sorted({condition for tree in trees for condition in tree.conditions.values()})
    number = {condition: i for i, condition in enumerate(asked)}
    levels = [np.zeros((2**level, len(trees)), np.intp) for level in range(depth)]
    leaves = np.zeros((len(trees), 2**depth), np.float32)
    for i, tree in enumerate(trees):
        for (level, place), condition in tree.conditions.items():
            levels[level][place, i] = number[condition]
        for (level, place), value in tree.leaves.items():
            leaves[i, _numbers(level, place, depth)] = value
    return Trees(tuple(_conditions(asked)), tuple(levels), leaves, np.float32(base), logistic)


def _numbers(level: int, place: int, depth: int) -> slice:
    """The leaves below a place, from left to right: its bits say the way, the last turn on top."""
    number = int(f"{place:0{level}b}"[::-1], 2) if level else 0
    return slice(number << (depth - level), (number + 1) << (depth - level))


def _conditions(asked: list[Condition]) -> Iterator[Conditions]:
    """Sorted conditions by feature and by what they do with missing values."""
    groups: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for feature, missing, threshold in asked:
        groups[feature, missing].append(threshold)
    for (feature, missing), thresholds in groups.items():
        yield Conditions(feature, missing, np.array(thresholds, np.float32)[:, None])
