"""Do the fields of a row still belong together? Part of the reference profile.

Sound values in the wrong rows look right, one column at a time: a join that slipped, two columns of
the same unit exchanged. Three things that rows show together: how much fields tell of each other
(`data.associations`), which of two is always the larger, and how many rows are another one again.

A field's association is what its partners tell of it and it tells of them, in parts of what was
usual: 1 is as ever, 0 that of values dealt out at random. What it may lose is what the reference's
own periods lose, each against the others.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from data.associations import associations, hardly_repeats, thinned
from data.conformal import Joint, joint
from data.features import Columns
from data.fields import Field

ENOUGH, NEWEST = 4, 104  # periods; with more, the newest tell
KNOWN = 0.75  # of the periods in which an association has to be known
TELLS = 0.05  # what a partner tells at least
STRONG = 0.1  # what the best partner tells at least: else a field has no relation to lose
SWING = 0.1  # from period to period: an association that swings more counts for less
PARTNERS = 12  # of a field, each way
HALF = 0.5  # of the weight that has to be known in a new period
ROOM = 0.18  # of a field's association: losing less is usual
AGAIN = 2.0  # times as much as the past itself lost is never broken
FEW = 2.0  # over the root of the rows: what so few may lose by chance, beyond that
NEVER = 0.001  # of the rows: an order that more of them break is none
MIXED = 0.03  # of rows put together at random break an order that is one of rows, not of ranges
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: hashes of columns put together lose nothing


@dataclass(frozen=True)
class Pair:
    """How much `given` tells of `name` in each period, of the newest; None where unknown."""

    given: str
    name: str
    told: tuple[float | None, ...]


@dataclass(frozen=True)
class Relations:
    """What the rows of the reference show together.

    Attributes:
        ranked: numbers whose associations are of their ranks.
        pairs: those that tell anything.
        orders: (high, low), of numbers of one unit: `high` is never below `low` in the same row.
        repeated: the largest share of a period's rows that are another one again.
    """

    ranked: tuple[str, ...]
    pairs: tuple[Pair, ...]
    orders: tuple[tuple[str, str], ...]
    repeated: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Relations":
        pairs = tuple(Pair(p["given"], p["name"], tuple(p["told"])) for p in value["pairs"])
        orders = tuple((high, low) for high, low in value["orders"])
        return cls(tuple(value["ranked"]), pairs, orders, value["repeated"])


@dataclass(frozen=True)
class Loss:
    """What a field's association lost, as a part of what is usual, and the most it may lose."""

    field: str
    value: float
    limit: float


class Gathered:
    """Gathers the relations of a reference while its periods pass by.

    Args:
        fields: of the problem.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._ranked: tuple[str, ...] = ()
        self._told: deque[dict[tuple[str, str], float]] = deque(maxlen=NEWEST)
        self._crossed: deque[dict[tuple[str, str], tuple[float, float]]] = deque(maxlen=NEWEST)
        self._repeated = 0.0

    def through(self, periods: Iterable[Columns]) -> Iterator[Columns]:
        """The same raw columns, oldest period first, each looked at."""
        names = [field.name for field in self._fields]
        for columns in periods:
            if not self._told:
                self._ranked = tuple(name for name in names if hardly_repeats(columns[name]))
            self._told.append(associations(columns, combinations(names, 2), self._ranked))
            self._crossed.append(_crossed(self._fields, columns))
            self._repeated = max(self._repeated, repeated(columns))
            yield columns

    def relations(self) -> Relations | None:
        """Those of the periods that went by; None if they are too few."""
        if len(self._told) < ENOUGH:
            return None
        orders = tuple(sorted(pair for pair in self._crossed[0] if self._ordered(pair)))
        return Relations(self._ranked, self._pairs(), orders, round(self._repeated, 6))

    def _pairs(self) -> tuple[Pair, ...]:
        """Those that tell enough; of a field with many partners the strongest, either way."""
        found: dict[Pair, float] = {}
        for given, name in sorted({pair for table in self._told for pair in table}):
            told = [table.get((given, name)) for table in self._told]
            known = [value for value in told if value is not None]
            if len(known) >= KNOWN * len(told) and (middle := float(np.median(known))) >= TELLS:
                rounded = (None if value is None else round(value, 4) for value in told)
                found[Pair(given, name, tuple(rounded))] = middle
        ways: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
        for pair in sorted(found, key=lambda pair: -found[pair]):
            ways["given", pair.given].append(pair)
            ways["name", pair.name].append(pair)
        kept = {pair for pairs in ways.values() for pair in pairs[:PARTNERS]}
        return tuple(pair for pair in found if pair in kept)

    def _ordered(self, pair: tuple[str, str]) -> bool:
        """Whether no period's rows break an order that rows put together at random do break."""
        found = [table[pair] for table in self._crossed if pair in table]
        own, mixed = np.array(found).T
        enough = len(found) >= KNOWN * len(self._crossed)
        return bool(enough and own.max() <= NEVER and mixed.mean() >= MIXED)


def _crossed(
    fields: Sequence[Field], columns: Columns
) -> dict[tuple[str, str], tuple[float, float]]:
    """For (high, low): share of rows where high is below low, and of rows put together at random.

    Of numbers that have the same unit, or none, both.
    """
    unit = {field.name: field.unit for field in fields if columns[field.name].dtype.kind == "f"}
    thin = {name: thinned(columns[name]) for name in unit}
    found = {}
    for a, b in combinations(unit, 2):
        if unit[a] == unit[b]:
            one, other = _known(thin[a], thin[b])
            if len(one):
                mixed = np.roll(other, len(other) // 2)
                found[a, b] = float((one < other).mean()), float((one < mixed).mean())
                found[b, a] = float((one > other).mean()), float((one > mixed).mean())
    return found


def _known(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two columns where both are known."""
    there = np.isfinite(a) & np.isfinite(b)
    return a[there], b[there]


def disordered(known: Relations, columns: Columns) -> dict[tuple[str, str], float]:
    """Share of rows that break each order."""
    found = {}
    for high, low in known.orders:
        above, below = _known(thinned(columns[high]), thinned(columns[low]))
        found[high, low] = float((above < below).mean()) if len(above) else 0.0
    return found


def repeated(columns: Columns) -> float:
    """Share of rows, all of whose raw fields are those of an earlier one."""
    rows = len(next(iter(columns.values())))
    keys = np.zeros(rows, dtype=np.uint64)
    for values in columns.values():
        keys = keys * MIX + pd.util.hash_array(values)
    keys.sort()
    return float((keys[1:] == keys[:-1]).sum() / max(rows, 1))


def losses(known: Relations, columns: Columns, rate: float) -> list[Loss]:
    """What each field that has partners lost; of one that hardly varies nothing can be told.

    Args:
        rate: how often a period like the reference's may be beyond a limit.
    """
    usual = _usual_of(known, rate)
    if usual is None:
        return []
    chosen = {tuple(sorted((pair.given, pair.name))) for pair in known.pairs}
    told = associations(columns, [(a, b) for a, b in sorted(chosen)], known.ranked)
    now = np.array([told.get((pair.given, pair.name), np.nan) for pair in known.pairs])
    values = 1 - _associated(usual.touches, usual.told, now)
    times = max(usual.joint.limit.value, AGAIN)
    chance = FEW / np.sqrt(max(len(next(iter(columns.values()))), 1))
    return [
        Loss(name, float(value), float(times * own + chance))
        for name, value, own in zip(usual.fields, values, usual.joint.own, strict=True)
        if np.isfinite(value)
    ]


@dataclass(frozen=True, eq=False)
class _Usual:
    """The reference's own losses.

    Attributes:
        fields: those with a relation to lose.
        touches: which pairs are a field's own, shape (fields, pairs).
        told: of each pair, NaN where unknown, shape (pairs, periods).
        joint: of the fields' losses, each period against the others.
    """

    fields: tuple[str, ...]
    touches: np.ndarray
    told: np.ndarray
    joint: Joint


@lru_cache(maxsize=8)
def _usual_of(known: Relations, rate: float) -> _Usual | None:
    """None where no field has a relation to lose."""
    names = sorted({pair.given for pair in known.pairs} | {pair.name for pair in known.pairs})
    touches = np.array([[name in (p.given, p.name) for p in known.pairs] for name in names])
    told = np.array([pair.told for pair in known.pairs], dtype=np.float64)
    if not names:
        return None
    periods = range(told.shape[1])
    own = [_associated(touches, np.delete(told, i, axis=1), told[:, i]) for i in periods]
    table = 1 - np.array(own).T
    kept = np.isfinite(table).mean(axis=1) >= KNOWN
    if not kept.any():
        return None
    floored = np.maximum(np.nan_to_num(table[kept]), ROOM)
    fields = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
    return _Usual(fields, touches[kept], told, joint(floored, rate))


def _associated(touches: np.ndarray, told: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What is left of each field's association, NaN where it has none or too little is known.

    Args:
        touches: as in `_Usual`; told: of a reference, shape (pairs, periods); now: shape (pairs,).
    """
    masked = np.ma.masked_invalid(told)
    middle = np.asarray(np.ma.median(masked, axis=1).filled(0.0)).clip(0)  # type: ignore[no-untyped-call]
    swing = masked.std(axis=1).filled(0.0)
    weight, there = middle / (swing**2 + SWING**2), np.isfinite(now)
    whole = touches @ (weight * middle)
    known = touches @ (weight * middle * there)
    left = touches @ (weight * np.where(there, now, 0.0))
    strongest = np.where(touches, middle, 0.0).max(axis=1)
    enough = (known > HALF * whole) & (strongest >= STRONG)
    return np.asarray(np.where(enough, left / np.where(known > 0, known, 1.0), np.nan))
