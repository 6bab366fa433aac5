"""The model behind the endpoint: verified artefact in, probabilities out.

The server imports no pandas, scikit-learn or XGBoost: the features' row form and ONNX Runtime are
all that a probability needs.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bento.contract import Contract
from data.digests import verify
from data.errors import EvergreenError
from data.features import Category, HistoricalRate, row_function

MODEL = "model.onnx"
PROBABILITIES = "probabilities"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """One probability a row; `degraded` if the model failed and the base rate stands in."""

    probabilities: list[float]
    degraded: bool


class Predictor:
    """A loaded model with its contract."""

    def __init__(self, contract: Contract, digest: str, session: Any) -> None:
        self.contract = contract
        self.digest = digest
        self._session = session
        self._input = session.get_inputs()[0].name
        self._features = row_function(contract.features)

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Verify and load an artefact.

        Raises:
            EvergreenError: if a file differs from the manifest, or the model does not fit the
                contract.
        """
        digest = verify(folder)
        contract = Contract.load(folder)
        session = _session(folder / MODEL)
        width = session.get_inputs()[0].shape[-1]
        if isinstance(width, int) and width != len(contract.features):
            raise EvergreenError(
                f"{folder / MODEL} takes {width} features, its contract declares "
                f"{len(contract.features)}: build the artefact again"
            )
        return cls(contract, digest, session)

    def probabilities(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The positive class's probability of each row, without any fallback.

        Raises:
            ValueError: if the model gives a number that is no probability.
        """
        matrix = np.array([self._features(row) for row in rows], dtype=np.float32)
        values: list[float] = self.run(matrix).tolist()
        return values

    def run(self, matrix: np.ndarray) -> np.ndarray:
        """The positive class's probability for features (n, features), float32, shape (n,).

        Raises:
            ValueError: if the model gives a number that is no probability.
        """
        (found,) = self._session.run([PROBABILITIES], {self._input: matrix})
        if not np.isfinite(found).all():
            raise ValueError("not finite")
        return np.asarray(found[:, 1])

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Scores:
        """Probabilities; the base rate for every row if the model cannot be called."""
        try:
            return Scores(self.probabilities(rows), degraded=False)
        except Exception as error:
            # The message may quote a row, so only the kind of the fault is logged.
            logger.error("the model failed on %d rows: %s", len(rows), type(error).__name__)
            return Scores([self.contract.base_rate] * len(rows), degraded=True)

    def vocabularies(self) -> dict[str, frozenset[str]]:
        """For each open text field that is a feature: the categories that training saw."""
        open_fields = {
            f.name for f in self.contract.fields if f.kind == "text" and f.values is None
        }
        seen: dict[str, frozenset[str]] = {}
        for feature in self.contract.features:
            if isinstance(feature, Category) and feature.column in open_fields:
                seen[feature.column] = frozenset(feature.vocabulary)
            elif isinstance(feature, HistoricalRate) and feature.column in open_fields:
                seen[feature.column] = frozenset(dict(feature.rates))
        return seen


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    # A row takes microseconds: handing it to another thread would cost more than it saves.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise EvergreenError(f"{path} is no model that ONNX Runtime can load: {error}") from error
    if PROBABILITIES not in {output.name for output in session.get_outputs()}:
        raise EvergreenError(f"{path} has no output {PROBABILITIES!r}: export it without ZipMap")
    return session
