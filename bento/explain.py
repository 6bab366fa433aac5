"""Why this probability: what each raw field of a request adds to the log-odds.

Shapley values of the game that plays the request's fields against those of typical events
(Štrumbelj and Kononenko 2014; Lundberg and Lee 2017): the golden rows of the artefact. They are
estimated by walking from each golden row to the request field by field, in a random order and in
its reverse (Castro et al. 2009; antithetic, as Mitchell et al. 2022 recommend). Each walk ends at
the request, so that the parts add up to its log-odds exactly.

Only the artefact and ONNX Runtime are asked, with a fixed seed: wherever the same artefact is
loaded, the same row gets the same numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bento.contract import KEY, Decoder, RequestError, column
from bento.predictor import Predictor
from data.errors import EvergreenError
from data.features import Columns, transform
from data.fields import Field

GOLDEN = "golden.json"
# 64 rows, so 128 walks: contributions to within 5 % of their mean size, at half the cost of 100.
BACKGROUND = 64
SEED = 1953  # Shapley's paper
EPSILON = 1e-7

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Contribution:
    """What a field adds to the log-odds, against its values in typical events."""

    field: str
    log_odds: float


@dataclass(frozen=True)
class Explanation:
    """A probability in parts: `base_log_odds` and all contributions add up to `log_odds`.

    Attributes:
        base_log_odds: mean of the typical events.
        contributions: one for each raw field, the largest effect first.
    """

    probability: float
    log_odds: float
    base_log_odds: float
    contributions: tuple[Contribution, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "contributions": [asdict(part) for part in self.contributions]}


class Explainer:
    """Explains the answers of one loaded model; what it compares with is fixed when it is made."""

    def __init__(self, predictor: Predictor, typical: Sequence[Row]) -> None:
        """Args: typical: rows of raw fields; at most BACKGROUND of them are used."""
        self._predictor = predictor
        self._fields = predictor.contract.fields
        places = np.linspace(0, len(typical) - 1, min(BACKGROUND, len(typical))).astype(int)
        self._typical = to_columns([typical[i] for i in places], self._fields)
        random = np.random.default_rng(SEED)
        orders = [random.permutation(len(self._fields)) for _ in places]
        # Walk 2i goes from typical row i to the request, walk 2i + 1 from there in reverse order.
        self._orders = np.array([way for one in orders for way in (one, one[::-1])])
        self._starts = np.repeat(np.arange(len(places)), 2)

    @classmethod
    def load(cls, folder: Path, predictor: Predictor) -> "Explainer":
        """The explainer of a verified artefact and its predictor.

        Raises:
            EvergreenError: if the artefact has no golden rows.
        """
        decoder = Decoder(predictor.contract.fields)
        try:
            rows = json.loads((folder / GOLDEN).read_bytes())["rows"]
            typical = [decode(decoder, row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, RequestError) as error:
            raise EvergreenError(
                f"{folder / GOLDEN} has no rows to compare with ({error})"
            ) from error
        if not typical:
            raise EvergreenError(f"{folder / GOLDEN} has no rows to compare with: train it again")
        return cls(predictor, typical)

    def explain(self, row: Row) -> Explanation:
        """The parts of one row's probability.

        Raises:
            ValueError: if the model gives a number that is no probability.
        """
        walks, steps = len(self._orders), len(self._fields) + 1
        values = self._log_odds(self._on_the_way(row)).reshape(walks, steps)
        added = np.empty((walks, steps - 1))
        np.put_along_axis(added, self._orders, np.diff(values, axis=1), axis=1)
        parts = added.mean(axis=0)
        (probability,) = self._predictor.probabilities([row])
        ranked = sorted(zip(self._fields, parts, strict=True), key=lambda part: -abs(part[1]))
        return Explanation(
            probability=probability,
            log_odds=float(log_odds(np.array([probability]))[0]),
            base_log_odds=float(values[:, 0].mean()),
            contributions=tuple(Contribution(f.name, float(value)) for f, value in ranked),
        )

    def _on_the_way(self, row: Row) -> Columns:
        """Raw columns of every step of every walk, shape (walks * (fields + 1),)."""
        request = to_columns([row], self._fields)
        taken_at = np.argsort(self._orders, axis=1)
        steps = np.arange(len(self._fields) + 1)
        starts = np.repeat(self._starts, len(steps))
        return {
            field.name: np.where(
                (taken_at[:, place, None] < steps).ravel(),
                request[field.name],
                self._typical[field.name][starts],
            )
            for place, field in enumerate(self._fields)
        }

    def _log_odds(self, columns: Columns) -> np.ndarray:
        matrix = transform(self._predictor.contract.features, columns)
        return log_odds(self._predictor.run(matrix))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)), shape (n,), kept finite."""
    p = np.clip(probability.astype(np.float64), EPSILON, 1 - EPSILON)
    return np.asarray(np.log(p) - np.log1p(-p))


def decode(decoder: Decoder, row: Row) -> dict[str, Any]:
    """A row that went through JSON, such as a logged one, as the model gets it."""
    (struct,), _ = decoder.decode(msgspec.json.encode(row))
    found = msgspec.structs.asdict(struct)
    del found[KEY]
    return found


def to_columns(rows: Sequence[Row], fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """Decoded rows as raw columns, each of shape (n,)."""
    return {field.name: column([row[field.name] for row in rows], field) for field in fields}
