"""What is predicted: one of two outcomes, one of several classes, or a number.

| kind | a label | an answer, for n rows |
|---|---|---|
| binary | 0 or 1 | probability of 1, shape (n,) |
| multiclass | place of a class in `classes` | probabilities of the classes, shape (n, classes) |
| regression | a number | the number expected, shape (n,) |

Whatever has to hold for all of them is said through a `Task`: losses, residuals, and the contrasts
that reduce a ranking to those of two outcomes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from data.errors import EvergreenError

Kind = Literal["binary", "multiclass", "regression"]
EPSILON = 1e-7
CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_CLASSES = 100


@dataclass(frozen=True)
class Task:
    """The kind of a problem's outcome.

    Attributes:
        classes: of a multiclass problem, in the order of its codes; empty otherwise.
        scale: of a regression, in the outcome's unit: losses are in units of its square. The
            standard deviation of the training labels, see `scaled`.
    """

    kind: Kind = "binary"
    classes: tuple[str, ...] = ()
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind == "multiclass" and not 2 < len(set(self.classes)) <= MOST_CLASSES:
            raise EvergreenError(
                f"a multiclass task has 3 to {MOST_CLASSES} different classes, not "
                f"{list(self.classes)}: name them in PROBLEM, or make it binary"
            )
        if self.kind != "multiclass" and self.classes:
            raise EvergreenError(f"a {self.kind} task has no classes, not {list(self.classes)}")

    @property
    def width(self) -> int:
        """How many numbers an answer has."""
        return len(self.classes) or 1

    @property
    def dtype(self) -> type[np.generic]:
        """Of labels in memory."""
        return np.float64 if self.kind == "regression" else np.int8

    @property
    def expected(self) -> str:
        """What a label has to be, for an error's text."""
        if self.kind == "binary":
            return "0 or 1"
        if self.kind == "multiclass":
            return f"one of {', '.join(self.classes)}"
        return "a finite number"

    @property
    def ranking(self) -> str:
        """What people call the mean ROC-AUC of `contrasts`."""
        names = {"binary": "ROC-AUC", "multiclass": "mean ROC-AUC", "regression": "concordance"}
        return names[self.kind]

    @property
    def loss(self) -> str:
        """What people call the mean of `losses`."""
        return "squared error / 2" if self.kind == "regression" else "log loss"

    @property
    def answer(self) -> str:
        """What an answer consists of, and the name of its columns."""
        return "prediction" if self.kind == "regression" else "probability"

    @property
    def answers(self) -> str:
        """Several of them."""
        return "predictions" if self.kind == "regression" else "probabilities"

    @property
    def unit(self) -> str:
        """Of a level that is off, as people read it."""
        return "standard deviations" if self.kind == "regression" else "log odds"

    def gap(self, found: np.ndarray, wanted: np.ndarray) -> float:
        """The largest difference of two copies' answers, on the scale of probabilities.

        Numbers are in units of ten times their size: a float32 sum of hundreds of leaves has lost
        a digit more than a probability, which saturates.
        """
        return float(self.gaps(found, wanted).max())

    def gaps(self, found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The same of each row, shape (n,)."""
        differ = np.abs(found - wanted)
        if self.kind == "regression":
            return np.asarray(differ / (10 * (self.scale + np.abs(wanted))))
        return np.asarray(differ.max(axis=1) if self.classes else differ)

    def columns(self, name: str) -> tuple[str, ...]:
        """The columns of a table that hold an answer: `name`, or `name.<class>` for each class."""
        return tuple(f"{name}.{each}" for each in self.classes) or (name,)

    def put(self, name: str, score: np.ndarray) -> dict[str, np.ndarray]:
        """An answer as the columns of a table; each of shape (n,)."""
        parts = score.T if self.classes else [score]
        return dict(zip(self.columns(name), parts, strict=True))

    def take(self, table: Any, name: str) -> np.ndarray:
        """The answer that `put` put into the columns of a frame or mapping."""
        parts = [np.asarray(table[column]) for column in self.columns(name)]
        return np.column_stack(parts) if self.classes else parts[0]

    def encoded(self, values: Iterable[Any]) -> np.ndarray:
        """Labels as delivered as float64, shape (n,): names of classes become their places.

        Missing stays missing; what is no label of this task becomes infinite.
        """
        codes = {name: float(place) for place, name in enumerate(self.classes)}
        found = [_code(value, codes) for value in values]
        return np.array(found, dtype=np.float64)

    def wrong(self, label: np.ndarray) -> np.ndarray:
        """Which of these float64 labels (n,) cannot be; missing ones can."""
        if self.kind == "regression":
            return np.asarray(np.isinf(label))
        known = np.isin(label, np.arange(len(self.classes) or 2))
        return np.asarray(~(np.isnan(label) | known))

    def learnable(self, label: np.ndarray) -> bool:
        """Whether labels (n,) differ, so that there is something to learn."""
        return len(label) > 0 and bool((label != label[0]).any())

    def constant(self, label: np.ndarray) -> np.ndarray:
        """The best answer without any feature: rate, rates (classes,) or mean of labels (n,)."""
        if self.classes:
            return np.bincount(label, minlength=self.width) / len(label)
        return np.asarray(label.mean())

    def scaled(self, label: np.ndarray) -> "Task":
        """With the standard deviation of labels (n,) as the scale of a regression."""
        if self.kind != "regression":
            return self
        spread = float(np.std(label))
        return replace(self, scale=spread if spread > 0 else 1.0)

    def hot(self, label: np.ndarray) -> np.ndarray:
        """Labels in the shape of an answer: one column a class, else as they are."""
        return np.eye(self.width)[label] if self.classes else label

    def residuals(self, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Outcome minus answer, in the answer's shape; a regression's in units of `scale`."""
        return np.asarray((self.hot(label) - score) / self.scale)

    def variances(self, score: np.ndarray) -> np.ndarray:
        """The variance of `residuals` if the answers are right; a regression's at its scale, 1."""
        return np.ones(len(score)) if self.kind == "regression" else score * (1 - score)

    def losses(self, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Each row's loss, shape (n,): log loss in nats, or half the squared residual.

        The latter is the log loss of a normal distribution of standard deviation `scale` but for a
        constant, so that the same margins are meant; a constant answer has 1/2.
        """
        if self.kind == "regression":
            return np.asarray(self.residuals(label, score) ** 2 / 2)
        p = np.clip(score.astype(np.float64), EPSILON, 1 - EPSILON)
        if self.classes:
            return np.asarray(-np.log(p[np.arange(len(label)), label]))
        return -np.where(label == 1, np.log(p), np.log1p(-p))

    def squared_errors(self, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Each row's squared residual, shape (n,), summed over classes (Brier 1950)."""
        squares = np.square(self.residuals(label, score))
        return squares.sum(axis=1) if self.classes else np.asarray(squares)

    def contrasts(
        self, label: np.ndarray, score: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """A ranking as rankings of two outcomes: (0/1 labels, scores), each of shape (n,).

        One class against the rest; of a regression, above one of its quantiles against at or below
        it. The mean of their ROC-AUC is the problem's own, 1/2 for a constant answer: Provost,
        Domingos, "Well-trained PETs" (2000) with equal weights; for numbers, the concordance of
        Harrell (1982) at these cuts.
        """
        events = self.events(label)
        return [(event, score[:, k] if self.classes else score) for k, event in events.items()]

    def events(self, label: np.ndarray) -> dict[int, np.ndarray]:
        """The two-way outcomes (n,) of 0 and 1 that labels (n,) come down to, by class or cut.

        One that is the same in all rows is left out, but for a binary label itself.
        """
        if self.kind == "binary":
            return {0: label}
        if self.classes:
            each = [label == k for k in range(self.width)]
        else:
            cuts = np.unique(np.quantile(label, CUTS, method="inverted_cdf"))
            each = [label > cut for cut in cuts]
        return {k: e.astype(np.int8) for k, e in enumerate(each) if 0 < e.sum() < len(e)}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_contract(cls, contract: Mapping[str, Any]) -> "Task":
        """The task of an artefact's contract.json, which names it unless it is binary."""
        return cls.from_json(contract["task"]) if "task" in contract else BINARY

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Task":
        return cls(**{**value, "classes": tuple(value["classes"])})


BINARY, REGRESSION = Task(), Task("regression")


def multiclass(classes: Sequence[str]) -> Task:
    """The task of choosing one of these."""
    return Task("multiclass", tuple(classes))


def _code(value: Any, codes: Mapping[str, float]) -> float:
    if value is None:
        return np.nan
    if isinstance(value, str) and codes:
        return codes.get(value, np.inf)
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.inf
