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

APART = 3.0  # times as far from the median as the second largest
ENOUGH = 5  # with fewer periods none is odd


@dataclass(frozen=True)
class Limit:
    """What a statistic may reach.

    Attributes:
        rate: how often a period like the reference's exceeds it, at most; with few periods more
            often than was asked for.
        odd: the place of the period that sets no limit; None if there is none.
    """

    value: float
    rate: float
    odd: int | None = None

    def say(self) -> str:
        return f"usual up to {self.value:.3g} (more in at most {self.rate:.0%} of periods)"


def odd(statistics: Sequence[float]) -> int | None:
    """The place of the one statistic that is far above all others; None if there is none."""
    if len(statistics) < ENOUGH:
        return None
    order = np.argsort(statistics)
    first, second = (float(statistics[place]) for place in order[[-1, -2]])
    middle = float(np.median(statistics))
    return int(order[-1]) if first - middle > APART * max(second - middle, 1e-12) else None


def limit(statistics: Sequence[float], rate: float, apart: int | None = None) -> Limit:
    """The limit that a share `rate` of periods like these exceeds; the largest if they are few.

    Args:
        statistics: of each period of the reference against the others; at least one.
        apart: the place of an odd one that is left out of them already.
    """
    n, skipped = len(statistics), 0
    if apart is not None:
        n += 1
    elif (apart := odd(statistics)) is not None:
        skipped = 1
    known = 1 if apart is None else 2
    place = max(known, floor(rate * (n + 1) + 1e-9))
    ordered = sorted(statistics, reverse=True)[skipped:]
    return Limit(float(ordered[place - known]), place / (n + 1), apart)
