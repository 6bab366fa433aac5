"""A limit for a statistic, from what the reference's own periods show: conformal prediction.

A new period that is exchangeable with the n of the reference exceeds the k-th largest of their
leave-one-out statistics with a chance of at most k / (n + 1) (Vovk, Gammerman, Shafer 2005). The
largest alone would let one odd period (a week with a holiday, a week of another world) hide all
that is smaller: if it stands far apart, it sets no limit, and the chance is that of the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from scipy.special import ndtri

APART = 3.0  # times as far from the median as the second largest
ENOUGH = 5  # with fewer periods none is odd
NARROW = 0.5  # of two or three periods the largest says next to nothing


@dataclass(frozen=True)
class Limit:
    """What a statistic may reach.

    Attributes:
        resolved: how often a period like the reference's exceeds what these themselves showed, at
            most; where that is more than was asked for, the limit is set beyond.
        odd: the place of the period that sets no limit; None if there is none.
    """

    value: float
    resolved: float
    odd: int | None = None

    def say(self) -> str:
        return f"usual up to {self.value:.3g}"


def odd(statistics: Sequence[float]) -> int | None:
    """The place of the one statistic that is far above all others; None if there is none."""
    if len(statistics) < ENOUGH:
        return None
    order = np.argsort(statistics)
    first, second = (float(statistics[place]) for place in order[[-1, -2]])
    middle = float(np.median(statistics))
    return int(order[-1]) if first - middle > APART * max(second - middle, 1e-12) else None


def limit(statistics: Sequence[float], rate: float, apart: int | None = None) -> Limit:
    """The limit that a share `rate` of periods like these exceeds.

    Where they are too few to tell, it is as much further from their median than the largest as it
    would be in a normal distribution.

    Args:
        statistics: of each period of the reference against the others; at least one.
        apart: the place of an odd one that is left out of them already.
    """
    skipped = 0
    if apart is None and (apart := odd(statistics)) is not None:
        skipped = 1
    ordered = sorted(statistics, reverse=True)[skipped:]
    n, middle = len(ordered), float(np.median(ordered))
    place = max(1, floor(rate * (n + 1) + 1e-9))
    resolved, value = place / (n + 1), float(ordered[place - 1])
    if resolved > rate:
        further = -ndtri(rate) / max(-ndtri(resolved), NARROW)
        value = middle + (value - middle) * float(further)
    return Limit(value, (place + (apart is not None)) / (n + 1 + (apart is not None)), apart)


@dataclass(frozen=True, eq=False)
class Joint:
    """What several measures of a period may reach together.

    Attributes:
        own: the largest of each measure, the odd period apart, shape (measures,).
        past: the largest ratio of each period but the odd one.
        limit: for the largest ratio of a measure to its own.
    """

    own: np.ndarray
    past: tuple[float, ...]
    limit: Limit


def joint(table: np.ndarray, rate: float) -> Joint:
    """One limit for several measures, each in its own unit: for the largest ratio to what is usual.

    Args:
        table: positive, of each period of the reference against the others, (measures, periods).
    """
    apart = odd(_ratios(table))
    kept = table if apart is None else np.delete(table, apart, axis=1)
    ratios = _ratios(kept)
    return Joint(kept.max(axis=1), tuple(ratios), limit(ratios, rate, apart))


def _ratios(table: np.ndarray) -> list[float]:
    """Each period's largest ratio to the most of the others; of a single period 1."""
    if table.shape[1] < 2:
        return [1.0] * table.shape[1]
    order = np.sort(table, axis=1)
    most = np.where(table == order[:, -1:], order[:, -2:-1], order[:, -1:])
    return [float(ratio) for ratio in (table / most).max(axis=0)]
