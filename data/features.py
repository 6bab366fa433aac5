"""Features: typed specs, fitted state as plain JSON, and one meaning for training and serving.

A problem lists specs. `fit` turns them into encoders whose state is plain JSON; `transform` is the
columnar form (training, batch scoring), `row_function` the row form (serving). Both compute in
float64 and round to float32 once, so that they agree bit for bit; missing is NaN.

What `fit` learns follows from `Counts` alone: counts of parts of the rows, merged, are those of the
whole, to the integer, so that training rows need not be in memory together.

Nothing here imports pandas: a column is a numpy array (text as object with None, timestamps as
`datetime64[us]` with NaT, numbers as float64 with NaN).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

import numpy as np

from data.errors import EvergreenError

Columns = Mapping[str, np.ndarray]
Row = Mapping[str, Any]
Part = Literal["hour", "minute", "weekday", "month", "day"]
UNSEEN = -1.0


@dataclass(frozen=True)
class Counts:
    """What training rows count to, for the columns that a feature learns from.

    Attributes:
        total, outcome: rows, and the sum of their labels.
        rows: column -> value -> rows with it; missing values are not counted.
        outcomes: column -> value -> the sum of the labels of these rows.
    """

    total: int = 0
    outcome: float = 0
    rows: Mapping[str, Counter[str]] = field(default_factory=dict)
    outcomes: Mapping[str, Counter[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Numeric:
    """A number as it is."""

    name: str
    column: str
    kind: ClassVar[str] = "numeric"

    def fit(self, counts: Counts) -> Self:
        return self

    def transform(self, columns: Columns) -> np.ndarray:
        return columns[self.column].astype(np.float64)

    def row(self) -> Callable[[Row], float]:
        column = self.column

        def number(row: Row) -> float:
            value = row[column]
            return np.nan if value is None else float(value)

        return number


@dataclass(frozen=True)
class Ratio:
    """One number over another; missing where the denominator is zero."""

    name: str
    numerator: str
    denominator: str
    kind: ClassVar[str] = "ratio"

    def fit(self, counts: Counts) -> Self:
        return self

    def transform(self, columns: Columns) -> np.ndarray:
        below = columns[self.denominator].astype(np.float64)
        return columns[self.numerator].astype(np.float64) / np.where(below == 0, np.nan, below)

    def row(self) -> Callable[[Row], float]:
        top, below = self.numerator, self.denominator

        def ratio(row: Row) -> float:
            numerator, denominator = row[top], row[below]
            if numerator is None or not denominator:
                return np.nan
            return float(numerator) / float(denominator)

        return ratio


@dataclass(frozen=True)
class CalendarPart:
    """A part of a timestamp; weekday counts from Monday = 0."""

    name: str
    column: str
    part: Part
    kind: ClassVar[str] = "calendar"

    def fit(self, counts: Counts) -> Self:
        return self

    def transform(self, columns: Columns) -> np.ndarray:
        moment = columns[self.column].astype("datetime64[m]")
        minutes = moment.astype(np.int64)
        if self.part == "minute":
            value = minutes % 60
        elif self.part == "hour":
            value = minutes // 60 % 24
        elif self.part == "weekday":
            value = (minutes // 1440 + 3) % 7  # 1970-01-01 was a Thursday
        elif self.part == "month":
            value = moment.astype("datetime64[M]").astype(np.int64) % 12 + 1
        else:
            month = moment.astype("datetime64[M]").astype("datetime64[D]")
            value = (moment.astype("datetime64[D]") - month).astype(np.int64) + 1
        return np.where(np.isnat(moment), np.nan, value.astype(np.float64))

    def row(self) -> Callable[[Row], float]:
        column = self.column
        take: Callable[[datetime], int] = {
            "hour": lambda moment: moment.hour,
            "minute": lambda moment: moment.minute,
            "weekday": lambda moment: moment.weekday(),
            "month": lambda moment: moment.month,
            "day": lambda moment: moment.day,
        }[self.part]

        def part(row: Row) -> float:
            moment = row[column]
            return np.nan if moment is None else float(take(moment))

        return part


@dataclass(frozen=True)
class Category:
    """A category as its place in the sorted vocabulary of the training rows; unseen is -1."""

    name: str
    column: str
    vocabulary: tuple[str, ...] = ()
    kind: ClassVar[str] = "category"

    def fit(self, counts: Counts) -> Self:
        return replace(self, vocabulary=tuple(sorted(counts.rows[self.column])))

    def transform(self, columns: Columns) -> np.ndarray:
        return _looked_up(columns[self.column], self.row(), self.column)

    def row(self) -> Callable[[Row], float]:
        column = self.column
        codes: dict[str | None, float] = {v: float(i) for i, v in enumerate(self.vocabulary)}
        codes[None] = np.nan
        return lambda row: codes.get(row[column], UNSEEN)


@dataclass(frozen=True)
class HistoricalRate:
    """The training rows' positive rate, or mean number, of a category, shrunk to the overall one.

    rate(c) = (outcomes(c) + strength * overall) / (rows(c) + strength), the additive smoothing of
    Micci-Barreca (2001); an unseen category has the overall rate. A multiclass problem has none.
    """

    name: str
    column: str
    strength: float = 200.0
    overall: float = 0.0
    rates: tuple[tuple[str, float], ...] = ()
    kind: ClassVar[str] = "historical_rate"

    def fit(self, counts: Counts) -> Self:
        overall = counts.outcome / counts.total
        rows, outcomes = counts.rows[self.column], counts.outcomes[self.column]
        rates = tuple(
            (value, (outcomes[value] + self.strength * overall) / (rows[value] + self.strength))
            for value in sorted(rows)
        )
        return replace(self, overall=overall, rates=rates)

    def transform(self, columns: Columns) -> np.ndarray:
        return _looked_up(columns[self.column], self.row(), self.column)

    def row(self) -> Callable[[Row], float]:
        column, overall = self.column, self.overall
        rates: dict[str | None, float] = dict(self.rates)
        rates[None] = np.nan
        return lambda row: rates.get(row[column], overall)


def _looked_up(values: np.ndarray, look_up: Callable[[Row], float], column: str) -> np.ndarray:
    """`look_up` of every value, called once for each distinct one."""
    table = {value: look_up({column: value}) for value in set(values)}
    return np.fromiter((table[value] for value in values), np.float64, len(values))


Feature = Numeric | Ratio | CalendarPart | Category | HistoricalRate
_KINDS: dict[str, type[Feature]] = {
    cls.kind: cls for cls in (Numeric, Ratio, CalendarPart, Category, HistoricalRate)
}


def count(specs: Sequence[Feature], columns: Columns, label: np.ndarray) -> Counts:
    """What these rows add to the state of the features.

    Args:
        specs: the problem's features.
        columns: raw columns of training rows, each of shape (n,).
        label: outcomes of the same rows, shape (n,), see `data.task`.
    """
    learned = {spec.column for spec in specs if isinstance(spec, Category | HistoricalRate)}
    known = {name: columns[name] != None for name in learned}  # noqa: E711, for each element
    return Counts(
        len(label),
        label.sum().item(),
        {name: Counter(columns[name][known[name]]) for name in learned},
        {name: _sums(columns[name][known[name]], label[known[name]]) for name in learned},
    )


def _sums(values: np.ndarray, label: np.ndarray) -> Counter[str]:
    """The sum of the labels by value, without those that are 0."""
    if label.dtype.kind == "i":  # of two outcomes; where there are more, nobody asks
        return Counter(values[label == 1])
    names, place = np.unique(values.astype(str), return_inverse=True)
    return Counter(dict(zip(names.tolist(), np.bincount(place, label), strict=True)))


def merge(parts: Iterable[Counts]) -> Counts:
    """The counts of all parts together."""
    total, outcome = 0, 0.0
    rows: dict[str, Counter[str]] = {}
    outcomes: dict[str, Counter[str]] = {}
    for part in parts:
        total, outcome = total + part.total, outcome + part.outcome
        for name in part.rows:
            rows.setdefault(name, Counter()).update(part.rows[name])
            outcomes.setdefault(name, Counter()).update(part.outcomes[name])
    return Counts(total, outcome, rows, outcomes)


def fit(specs: Sequence[Feature], columns: Columns, label: np.ndarray) -> tuple[Feature, ...]:
    """Specs with their state fitted on these training rows only; arguments as in `count`."""
    return fit_counts(specs, count(specs, columns, label))


def fit_counts(specs: Sequence[Feature], counts: Counts) -> tuple[Feature, ...]:
    """Specs with their state fitted on the training rows that were counted."""
    return tuple(spec.fit(counts) for spec in specs)


def transform(features: Sequence[Feature], columns: Columns) -> np.ndarray:
    """The feature matrix of shape (n, len(features)), float32, missing as NaN."""
    values = [feature.transform(columns).astype(np.float32) for feature in features]
    return np.ascontiguousarray(np.column_stack(values))


def row_function(features: Sequence[Feature]) -> Callable[[Row], list[float]]:
    """The same as `transform` for one raw row given as a mapping (missing is None)."""
    functions = [feature.row() for feature in features]
    return lambda row: [function(row) for function in functions]


def to_json(features: Sequence[Feature]) -> list[dict[str, Any]]:
    return [{"kind": feature.kind, **asdict(feature)} for feature in features]


def from_json(state: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
    """Fitted features from their JSON state.

    Raises:
        EvergreenError: if the state names a kind of feature that this code does not have.
    """
    features = []
    for entry in state:
        values = dict(entry)
        kind = values.pop("kind")
        if kind not in _KINDS:
            raise EvergreenError(
                f"feature {values.get('name')!r} is of kind {kind!r}; this code has "
                f"{', '.join(_KINDS)}: serve the model with the code it was built with"
            )
        if "vocabulary" in values:
            values["vocabulary"] = tuple(values["vocabulary"])
        if "rates" in values:
            values["rates"] = tuple((name, rate) for name, rate in values["rates"])
        features.append(_KINDS[kind](**values))
    return tuple(features)
