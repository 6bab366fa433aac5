"""Why this answer: what each raw field of a request adds to it.

Of two outcomes to the log-odds of the positive one, of several classes to the log-odds of the one
that is answered against all others, of a regression to the number, in its own unit.

Shapley values of the game that plays the request's fields against those of typical events
(Štrumbelj and Kononenko 2014; Lundberg and Lee 2017): the golden rows of the artefact. They are
estimated by walking from each golden row to the request field by field, in a random order and in
its reverse (Castro et al. 2009; antithetic, as Mitchell et al. 2022 recommend). Each walk ends at
the request, so that the parts add up exactly.

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

from bento.answers import Score, likeliest
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
    """What a field adds, in log-odds or the number's unit, against its values in typical events."""

    field: str
    effect: float


@dataclass(frozen=True)
class Explanation:
    """A score in parts: `base` and all contributions add up to `value`.

    Attributes:
        score: what the model gives for the row.
        probability: of what is explained: the positive outcome or the likeliest class; None of a
            regression.
        value: its log-odds, or the number.
        base: mean of the typical events.
        contributions: one for each raw field, the largest effect first.
    """

    score: Score
    probability: float | None
    value: float
    base: float
    contributions: tuple[Contribution, ...]

    def to_json(self) -> dict[str, Any]:
        """As `/explain` says it, beside the target."""
        if self.probability is None:
            return {
                "base": self.base,
                "contributions": [asdict(part) for part in self.contributions],
            }
        return {
            "probability": self.probability,
            "log_odds": self.value,
            "base_log_odds": self.base,
            "contributions": [
                {"field": part.field, "log_odds": part.effect} for part in self.contributions
            ],
        }


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
        """The parts of one row's score.

        Raises:
            ValueError: as for `Predictor.run`.
        """
        walks, steps = len(self._orders), len(self._fields) + 1
        (score,) = self._predictor.scores([row])
        value, probability = self._of(np.array([score]), score)
        values, _ = self._of(self._scores(self._on_the_way(row)), score)
        values = values.reshape(walks, steps)
        added = np.empty((walks, steps - 1))
        np.put_along_axis(added, self._orders, np.diff(values, axis=1), axis=1)
        parts = added.mean(axis=0)
        ranked = sorted(zip(self._fields, parts, strict=True), key=lambda part: -abs(part[1]))
        return Explanation(
            score=score,
            probability=probability,
            value=float(value[0]),
            base=float(values[:, 0].mean()),
            contributions=tuple(Contribution(f.name, float(effect)) for f, effect in ranked),
        )

    def _of(self, scores: np.ndarray, answered: Any) -> tuple[np.ndarray, float | None]:
        """What is explained of scores, shape (n,), and the probability of `answered` there."""
        task = self._predictor.contract.task
        if task.kind == "regression":
            return scores.astype(np.float64), None
        if not task.classes:
            return log_odds(scores), answered
        place = likeliest(answered)
        return log_odds(scores[:, place]), answered[place]

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

    def _scores(self, columns: Columns) -> np.ndarray:
        return self._predictor.run(transform(self._predictor.contract.features, columns))


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
