"""A limit for a statistic, from what the reference's own periods show: conformal prediction.

A new period that is exchangeable with the n of the reference exceeds the k-th largest of their
leave-one-out statistics with a chance of at most k / (n + 1) (Vovk, Gammerman, Shafer 2005).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor


@dataclass(frozen=True)
class Limit:
    """What a statistic may reach.

    Attributes:
        rate: how often a period like the reference's exceeds it, at most; with few periods more
            often than was asked for.
    """

    value: float
    rate: float

    def say(self) -> str:
        return f"usual up to {self.value:.3g} (more in at most {self.rate:.0%} of periods)"


def limit(statistics: Sequence[float], rate: float) -> Limit:
    """The limit that a share `rate` of periods like these exceeds; the largest if they are few.

    Args:
        statistics: of each period of the reference against the others; at least one.
    """
    ordered, n = sorted(statistics, reverse=True), len(statistics)
    place = max(1, floor(rate * (n + 1) + 1e-9))
    return Limit(float(ordered[place - 1]), place / (n + 1))
