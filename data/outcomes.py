"""What a column of outcomes is: two outcomes, one of several classes, or a number; and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from data import cells
from data.described import Described
from data.errors import EvergreenError
from data.table_files import Form
from data.task import BINARY, MOST_CLASSES, REGRESSION, Kind, Task, multiclass

FEW = 10  # whole numbers of at most so many values are classes
POSITIVE = frozenset(
    {"1", "yes", "y", "true", "t", "positive", "pos", "bad", "late", "churned", "churn", "default",
     "defaulted", "fraud", "failed", "failure", "won", "converted", "cancelled", "canceled", "sick",
     "died", "dead", "spam"}
)  # fmt: skip
RARE = 50  # rows of a class


@dataclass(frozen=True)
class Outcome:
    """The task of a table's target.

    Attributes:
        reason: why it is this task.
        labels: cell -> label, where these differ.
        codes: of the sample's rows as `Task.encoded` has them, shape (n,).
        positive: of two outcomes the cell that is 1.
    """

    task: Task
    reason: str
    codes: np.ndarray = field(repr=False, compare=False)
    labels: Mapping[str, int | str] = field(default_factory=dict)
    positive: str = ""
    said: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        return np.asarray(np.isfinite(self.codes))


def outcome(
    column: pd.Series, d: Described, wanted: Kind | None, positive: str | None, form: Form
) -> Outcome:
    """The task of a column.

    Raises:
        EvergreenError: if it has one value, too many classes, or does not fit what is wanted.
    """
    words = cells.text(column)
    unknown = cells.MISSING if d.kind in ("number", "integer") else cells.MISSING - cells.WORDS
    words = words.where(~words.fillna("").str.casefold().isin(unknown), None)
    counts = words.value_counts()
    groups = _groups(counts)
    if len(groups) < 2:
        raise EvergreenError(
            f"the target {d.column!r} has {len(groups)} different values "
            f"({', '.join(groups) or 'all cells are empty'}): there is nothing to learn"
        )
    kind, reason = _kind(d, groups, wanted, counts)
    if kind == "regression":
        return _number(column, d, reason, form)
    if kind == "binary":
        return _binary(words, d, groups, positive, reason)
    return _classes(words, d, groups, counts, reason)


def _groups(counts: pd.Series) -> dict[str, list[str]]:
    """The words of a column, those that differ in case only together; each by its most frequent."""
    groups: dict[str, list[str]] = {}
    named: dict[str, str] = {}
    for word in counts.index[: 20 * MOST_CLASSES]:
        name = named.setdefault(str(word).casefold(), str(word))
        groups.setdefault(name, []).append(str(word))
    return groups


def _kind(
    d: Described, groups: Mapping[str, list[str]], wanted: Kind | None, counts: pd.Series
) -> tuple[Kind, str]:
    number = d.kind in ("number", "integer")
    if wanted == "regression" and not number:
        raise EvergreenError(f"the target {d.column!r} is no number, so it is no regression")
    if wanted == "binary" and len(groups) != 2:
        raise EvergreenError(
            f"the target {d.column!r} has {len(groups)} different values, so it is not binary"
        )
    if wanted == "multiclass" and not 2 < len(groups) <= MOST_CLASSES:
        raise EvergreenError(
            f"the target {d.column!r} has {len(groups)} different values; a multiclass problem has "
            f"3 to {MOST_CLASSES}"
        )
    if wanted:
        return wanted, "asked for"
    if len(groups) == 2:
        return "binary", f"it has two values, {' and '.join(groups)}"
    if number and (d.kind == "number" or len(groups) > FEW):
        return "regression", f"it is a number with {d.distinct:,} different values"
    if number and _thins_out(counts):
        said = "from 0 on, ever rarer: a count"
        return "regression", f"its whole numbers are {said}; --task multiclass if they are classes"
    if d.kind == "timestamp" or len(groups) > MOST_CLASSES:
        raise EvergreenError(
            f"the target {d.column!r} is {d.kind} with {len(groups)} or more different values: "
            "name a column with two outcomes, a few classes, or a number"
        )
    kind = "whole numbers" if number else "words"
    said = f"it has {len(groups)} different values, all {kind}"
    return "multiclass", said + ("; --task regression if it is a quantity" if number else "")


def _thins_out(counts: pd.Series) -> bool:
    """Whether whole numbers begin at 0, and only the largest have few rows: classes rarely do."""
    rows = counts.set_axis(counts.index.astype(float)).sort_index()
    rare = (rows < RARE).to_numpy()
    return bool(rows.index[0] == 0 and rare[-1] and not (rare[:-1] & ~rare[1:]).any())


def _number(column: pd.Series, d: Described, reason: str, form: Form) -> Outcome:
    values = pd.to_numeric(cells.numbers(column, form.decimal, d.unit), errors="coerce")
    return Outcome(REGRESSION, reason, values.to_numpy(dtype=np.float64))


def _binary(
    words: pd.Series,
    d: Described,
    groups: Mapping[str, list[str]],
    positive: str | None,
    reason: str,
) -> Outcome:
    chosen, why = _positive(words, d, groups, positive)
    labels = {w: int(name == chosen) for name, same in groups.items() for w in same}
    codes = words.map(labels).to_numpy(dtype=np.float64, na_value=np.nan)
    said = f"{chosen!r} of {d.column!r} is the positive outcome, because {why}"
    plain = labels == {"1": 1, "0": 0}
    return Outcome(BINARY, reason, codes, {} if plain else labels, chosen, (f"{said}.",))


def _positive(
    words: pd.Series, d: Described, groups: Mapping[str, list[str]], positive: str | None
) -> tuple[str, str]:
    if positive is not None:
        mine = [name for name in groups if name.casefold() == positive.strip().casefold()]
        if not mine:
            raise EvergreenError(
                f"--positive {positive!r} is no value of {d.column!r}: it has {', '.join(groups)}"
            )
        return mine[0], "you say so"
    known = [name for name in groups if name.casefold() in POSITIVE]
    if len(known) == 1:
        return known[0], "of its name; --positive turns it round"
    counts = {name: int(words.isin(same).sum()) for name, same in groups.items()}
    return min(counts, key=lambda n: counts[n]), "it is the rarer one; --positive turns it round"


def _classes(
    words: pd.Series,
    d: Described,
    groups: Mapping[str, list[str]],
    counts: pd.Series,
    reason: str,
) -> Outcome:
    task = multiclass(sorted(groups))
    labels = {word: name for name, same in groups.items() for word in same}
    codes = task.encoded(words.map(labels).where(words.notna(), None))
    rare = [name for name, same in groups.items() if int(counts[same].sum()) < RARE]
    said = f"{', '.join(map(repr, rare))}: fewer than {RARE} rows each are little to learn from."
    return Outcome(task, reason, codes, labels, said=(said,) if rare else ())
