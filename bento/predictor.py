"""The model behind the endpoint: verified artefact in, scores out.

The server imports no pandas, scikit-learn or XGBoost: features from JSON state and an engine over
`model.onnx` are all that a score needs: a probability, probabilities of classes, or a number.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from bento.answers import Score, valid
from bento.breaker import Breaker
from bento.contract import Contract, Decoder
from bento.engines import Engine, OnnxEngine, many_rows
from data.digests import verify
from data.errors import EvergreenError
from data.features import Category, HistoricalRate, row_function, transform

MODEL = "model.onnx"
# Up to here ONNX Runtime is faster than a padded block of oneDAL. The number of rows in a request
# alone decides, so that the same request gets the same answer whatever else is on the way.
FEW = 6
logger = logging.getLogger(__name__)

Rows = Sequence[msgspec.Struct]


class Scores(msgspec.Struct, frozen=True):
    """One score a row; `degraded` if the model failed and the base rate stands in."""

    values: list[Any]
    degraded: bool


class Predictor:
    """A loaded model with its contract."""

    def __init__(
        self,
        contract: Contract,
        digest: str,
        few: Engine,
        many: Engine | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.contract = contract
        self.digest = digest
        self.decoder = Decoder(contract.fields)
        self.breaker = breaker or Breaker()
        self._few = few
        self._many = many or few
        self._features = row_function(contract.features)
        self.watchdog: AbstractContextManager[Any] = nullcontext()  # around each call of the model

    @classmethod
    def load(cls, folder: Path, batches: bool = True) -> "Predictor":
        """Verify and load an artefact.

        Args:
            batches: with the engine for many rows, too; without it `run_many` is `run`.

        Raises:
            EvergreenError: if a file differs from the manifest, or the model does not fit the
                contract.
        """
        digest = verify(folder)
        contract = Contract.load(folder)
        few = OnnxEngine.load(folder / MODEL, contract.task)
        if isinstance(few.width, int) and few.width != len(contract.features):
            raise EvergreenError(
                f"{folder / MODEL} takes {few.width} features, its contract declares "
                f"{len(contract.features)}: build the artefact again"
            )
        many = many_rows(folder / MODEL, few, contract.task) if batches else None
        return cls(contract, digest, few, many)

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
        """The score of each decoded row as if alone, without any fallback.

        Raises:
            ValueError: as for `run`.
        """
        matrix = np.array([self._features(row) for row in rows], dtype=np.float32)
        values: list[Score] = self.run(matrix).tolist()
        return values

    def run(self, matrix: np.ndarray) -> np.ndarray:
        """Scores of features (n, features), float32: shape (n,), or (n, classes).

        Raises:
            ValueError: if the model gives what is no probability, or of a regression no number.
        """
        return valid(self.contract.task, self._few.run(matrix))

    def run_many(self, matrix: np.ndarray) -> np.ndarray:
        """As `run`, by the engine for many rows; the two differ by less than 1e-6."""
        return valid(self.contract.task, self._many.run(matrix))

    def score(self, requests: Sequence[Rows]) -> list[Scores]:
        """The scores of several requests; the base rate where the model cannot be called."""
        began = monotonic()
        if self.breaker.state(began) == "open":
            return [self.fallback(rows) for rows in requests]
        try:
            found = self._together(requests)
        except Exception as error:
            if len(requests) > 1:  # one request's failure is not another's
                return [scores for rows in requests for scores in self.score([rows])]
            self.breaker.record(began, monotonic(), failed=True)
            # The message may quote a row, so only the kind of the fault is logged.
            logger.error("the model failed on %d rows: %s", len(requests[0]), type(error).__name__)
            return [self.fallback(requests[0])]
        self.breaker.record(began, monotonic(), failed=False)
        return [Scores(values, degraded=False) for values in found]

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

    def _together(self, requests: Sequence[Rows]) -> list[list[Score]]:
        """Scores by request: the small ones in one call, each of the others in its own."""
        small = [row for rows in requests if len(rows) <= FEW for row in rows]
        of_small = iter(self._of_few(small) if small else ())
        return [
            list(islice(of_small, len(rows))) if len(rows) <= FEW else self._of_many(rows)
            for rows in requests
        ]

    def _of_few(self, rows: Rows) -> list[Score]:
        as_mapping, features = msgspec.structs.asdict, self._features
        matrix = np.array([features(as_mapping(row)) for row in rows], dtype=np.float32)
        with self.watchdog:
            found: list[Score] = self.run(matrix).tolist()
        return found

    def _of_many(self, rows: Rows) -> list[Score]:
        matrix = transform(self.contract.features, self.decoder.columns(rows))
        with self.watchdog:
            found: list[Score] = self.run_many(matrix).tolist()
        return found

    def fallback(self, rows: Rows) -> Scores:
        """What is answered in place of a score."""
        return Scores([self.contract.base_rate] * len(rows), degraded=True)
