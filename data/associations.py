"""How much one field tells of another, in one period's rows.

The share of pairs of rows, alike in the first, that are alike in the second, too, beyond what any
two rows are: Goodman and Kruskal's tau (1954) by pairs of different rows, so that it does not
depend on how many rows there are. It takes words and numbers, any shape of relation, and what is
missing as one more value; another unit of either changes nothing. Of the event time, rows are alike
that stand close in time.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data.features import Columns

ROWS = 20_000  # evenly spaced ones are enough
BLOCKS = 128  # of rows that stand close in time
BINS = 32  # of a number whose values hardly come twice
OFTEN = 0.5  # of the rows: a number with fewer different values is taken by its values
VARIES = 0.25  # of pairs of rows differ; with fewer, next to nothing can be told of a field
CELLS = 8  # for each row: a table of more is counted by sorting

Told = Mapping[tuple[str, str], float]


def associations(
    columns: Columns, pairs: Iterable[tuple[str, str]], ranked: Sequence[str]
) -> dict[tuple[str, str], float]:
    """How much each field of a pair tells of the other: (given, name) -> at most 1.

    Left out where one of them hardly varies.

    Args:
        columns: each of shape (n,).
        ranked: numbers that are taken by rank.
    """
    chosen = list(pairs)
    kept = sorted({name for pair in chosen for name in pair})
    codes = {name: _codes(thinned(columns[name]), name in ranked) for name in kept}
    rows = len(codes[kept[0]]) if kept else 0
    every = rows * (rows - 1.0)
    if not every:
        return {}
    alike = {name: _alike(np.bincount(code)) for name, code in codes.items()}
    varies = {name for name in kept if 0 < alike[name] <= (1 - VARIES) * every}
    found = {}
    for a, b in chosen:
        if a in varies and b in varies:
            both = _alike(_counts(codes[a], codes[b]))
            for given, name in ((a, b), (b, a)):
                base = alike[name] / every
                found[given, name] = float((both / alike[given] - base) / (1 - base))
    return found


def thinned(values: np.ndarray) -> np.ndarray:
    """At most `ROWS` of them, evenly spaced."""
    return values[:: max(1, -(-len(values) // ROWS))]


def hardly_repeats(values: np.ndarray) -> bool:
    """Whether a column is a number most of whose values come once."""
    if values.dtype.kind != "f":
        return False
    known = thinned(values[~np.isnan(values)])
    return len(np.unique(known)) > OFTEN * len(known)


def _codes(values: np.ndarray, ranked: bool) -> np.ndarray:
    """Whole numbers below n + 1, equal where values are alike, shape (n,)."""
    if values.dtype.kind == "M":
        codes = np.empty(len(values), dtype=np.int32)
        blocks = np.arange(len(values)) * BLOCKS // max(len(values), 1)
        codes[np.argsort(values, kind="stable")] = blocks
        return codes
    if values.dtype == object:
        values = values.astype(str)
    elif ranked:
        return _bins(values.astype(np.float64))
    return np.unique(values, return_inverse=True)[1].astype(np.int32)


def _bins(values: np.ndarray) -> np.ndarray:
    """Bins of equal weight from 1; 0 is missing."""
    there = ~np.isnan(values)
    codes = np.zeros(len(values), dtype=np.int32)
    if there.any():
        edges = np.quantile(values[there], np.linspace(0, 1, BINS + 1)[1:-1])
        codes[there] = 1 + np.searchsorted(edges, values[there], side="right")
    return codes


def _counts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In how many rows each pair of codes is."""
    height = int(b.max()) + 1
    both = a * height + b
    if (int(a.max()) + 1) * height <= CELLS * len(a):
        return np.bincount(both)
    return np.asarray(np.unique(both, return_counts=True)[1])


def _alike(counts: np.ndarray) -> float:
    """Pairs of different rows that are alike, each counted both ways."""
    return float(counts @ counts - counts.sum())
