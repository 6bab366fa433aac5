"""The endpoint's model over the rows of a table: the same features, scores and decisions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bento import answers, table, trees
from bento.contract import KEY
from bento.predictor import MODEL, Predictor
from bento.trees import Trees

CHECKED = 32  # rows of each batch for which ONNX Runtime is asked, too
VERSION, DIGEST, REFUSED = "model_version", "digest", "refused"


@dataclass(frozen=True)
class Counts:
    """What is said of scored rows.

    Attributes:
        refused: rows that break the contract.
        first: number and fault of the first of them; rows are counted from 0.
        unseen: for each open text field, rows whose category is new since training.
    """

    rows: int = 0
    refused: int = 0
    first: tuple[int, str] | None = None
    unseen: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, later: "Counts") -> "Counts":
        return Counts(
            self.rows + later.rows,
            self.refused + later.refused,
            self.first or later.first,
            dict(Counter(self.unseen) + Counter(later.unseen)),
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Counts":
        first = value["first"]
        return cls(**{**value, "first": None if first is None else (first[0], first[1])})


class Scorer:
    """A loaded model that answers tables."""

    def __init__(self, predictor: Predictor, version: str, fast: Trees | None) -> None:
        self.contract, self.digest, self.version = predictor.contract, predictor.digest, version
        self._predictor = predictor
        self._fast = fast
        self._vocabularies = predictor.vocabularies()

    @classmethod
    def load(cls, folder: Path, version: str) -> "Scorer":
        """Verify and load an artefact; raises like `Predictor.load`."""
        predictor = Predictor.load(folder, batches=False)
        return cls(predictor, version, trees.load(folder / MODEL))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the answers: those of the score, and the target where it is another one."""
        constant, task = pa.dictionary(pa.int32(), pa.string()), self.contract.task
        number = task.kind == "regression"
        score = {} if number else dict.fromkeys(answers.columns(task), pa.float64())
        decided = constant if task.classes else pa.float64() if number else pa.bool_()
        return pa.schema(
            {
                KEY: pa.string(),
                **score,
                self.contract.target: decided,
                VERSION: constant,
                DIGEST: constant,
                REFUSED: pa.string(),
            }
        )

    def answer(self, rows: pa.RecordBatch, first: int) -> tuple[pa.RecordBatch, Counts]:
        """One answer for each row, in order; a refused row has a fault and no score.

        Args:
            first: the number of the first row.

        Raises:
            ValueError: as for `Predictor.run`; no base rate stands in.
        """
        batch = table.read(rows, self.contract)
        taken = batch.refused == None  # noqa: E711, for each element
        matrix = table.transform(self.contract.features, batch.columns)
        width = self.contract.task.width
        score = np.full((len(batch), width) if width > 1 else len(batch), np.nan)
        score[taken] = self._run(matrix if taken.all() else matrix[:, taken])
        counts = self._count(batch, taken, first)
        columns = (
            batch.key,
            *self._said(score, taken),
            _constant(self.version, len(batch)),
            _constant(self.digest, len(batch)),
            pa.array(batch.refused, pa.string()),
        )
        return pa.RecordBatch.from_arrays(list(columns), schema=self.schema), counts

    def _said(self, score: np.ndarray, taken: np.ndarray) -> list[pa.Array]:
        """Score and decision as columns, missing where a row is not taken."""
        task, refused = self.contract.task, ~taken
        if task.kind == "regression":
            return [pa.array(score, mask=refused)]
        columns = [pa.array(each, mask=refused) for each in task.put("", score).values()]
        if task.classes:
            places = pa.array(score.argmax(axis=1).astype(np.int32), mask=refused)
            return [*columns, pa.DictionaryArray.from_arrays(places, pa.array(task.classes))]
        return [*columns, pa.array(score >= self.contract.threshold, mask=refused)]

    def _run(self, matrix: np.ndarray) -> np.ndarray:
        """Scores of features (width, n), as ONNX Runtime has them.

        What the fast form of the trees says counts only if it is right on a sample of the rows.
        """
        count = matrix.shape[1]
        if self._fast is None or not count:
            return self._exact(matrix)
        found, doubt = self._fast.run(matrix)
        asked = doubt.copy()
        asked[np.linspace(0, count - 1, min(CHECKED, count)).astype(int)] = True
        told = self._exact(matrix[:, asked])
        sure = ~doubt[asked]
        if not np.array_equal(found[asked][sure], told[sure]):
            return self._exact(matrix)
        found[asked] = told
        return found

    def _exact(self, matrix: np.ndarray) -> np.ndarray:
        return self._predictor.run(np.ascontiguousarray(matrix.T))

    def _count(self, batch: table.Batch, taken: np.ndarray, first: int) -> Counts:
        unseen = table.unseen(batch.columns, self._vocabularies, taken)
        broken = np.flatnonzero(~taken)
        found = (first + int(broken[0]), str(batch.refused[broken[0]])) if len(broken) else None
        return Counts(len(batch), len(broken), found, unseen)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
