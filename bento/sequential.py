"""Is one arm's mean above the other's by more than a limit? Evidence that may always be looked at.

The answer is an e-process: while the null hypothesis "at most the limit" holds, the chance that it
ever reaches 1/alpha is at most alpha (Ville 1939), however often one looks and whenever one stops.
It is built block by block, each with what both arms answered between two looks, as in
R. Turner, A. Ly, P. Grünwald, "Generic E-variables for exact sequential k-sample tests that allow
for optional stopping" (J. Stat. Plan. Inference 2024), in the betting form for bounded values of
I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024).
Rates may drift from block to block: both arms are only compared within one.

For values a of the champion and b of the canary, all in [0, 1], a block multiplies the evidence by
prod(1 + s (b - m - limit)) * prod(1 - r (a - m)), where r times the number of a is s times that of
b, and all of it is known before the block. The logarithm of its expectation is at most s times the
number of b times (difference of the means - limit), for the logarithm is concave: under the null
hypothesis the bet is fair or losing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

EDGE = 1e-4  # no mean is taken to be nearer to 0 or 1
CAUTION = 0.98  # share of the stake that a single answer can lose
PRIOR_WEIGHT = 2.0

Block = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of one question, after some blocks; `add` gives the evidence after one more.

    Attributes:
        limit: the difference that is allowed, in (-1, 1).
        gaps: how far beyond the limit the truth may be; the bets on each are averaged.
        known, total: sum and number of the champion's values, with the first guess among them.
        wealth: log evidence of each bet, shape (gaps, k): k quantities are tested side by side.
        waiting: blocks in which one of the two did not answer; they go with the next.
    """

    limit: float
    gaps: tuple[float, ...]
    known: np.ndarray
    total: float
    wealth: np.ndarray
    waiting: tuple[Block, ...] = ()

    @classmethod
    def start(cls, limit: float, prior: float, gaps: Sequence[float]) -> "Evidence":
        """Before anything was seen; `prior` is what the champion's mean is taken to be."""
        known = np.array([prior * PRIOR_WEIGHT])
        return cls(limit, tuple(gaps), known, PRIOR_WEIGHT, np.zeros((len(gaps), 1)))

    def add(self, champion: np.ndarray, canary: np.ndarray) -> "Evidence":
        """With the values, shapes (n, k) and (m, k), in [0, 1], of one more block."""
        waiting = (*self.waiting, (champion, canary))
        if not any(len(a) for a, _ in waiting) or not any(len(b) for _, b in waiting):
            return replace(self, waiting=waiting)
        a, b = (np.concatenate(arm) for arm in zip(*waiting, strict=True))
        gaps = np.array(self.gaps)[:, None]
        grown = self.wealth + _growth(a, b, self.known / self.total, self.limit, gaps)
        return replace(
            self,
            known=self.known + a.sum(axis=0),
            total=self.total + len(a),
            wealth=grown,
            waiting=(),
        )

    @property
    def log(self) -> np.ndarray:
        """Log evidence that the canary's mean is above the champion's by more than the limit, (k,).

        As long as it is not, exp of this reaches 1/alpha with a chance of at most alpha.
        """
        mixed = np.logaddexp.reduce(self.wealth, axis=0) - np.log(len(self.gaps))
        return np.asarray(mixed)


def _growth(
    champion: np.ndarray, canary: np.ndarray, mean: np.ndarray, limit: float, gaps: np.ndarray
) -> np.ndarray:
    """What a block adds to the log evidence of bets on `mean` and `mean + limit + gap`.

    Args:
        mean: (k,); gaps: (g, 1).

    Returns:
        Shape (g, k).
    """
    n, m = len(champion), len(canary)
    edge, high = max(0.0, -limit), min(1.0, 1.0 - limit) - EDGE
    guess = np.clip(mean + limit + gaps, EDGE, 1 - EDGE)
    wanted = (n * mean + m * (guess - limit)) / (n + m)
    middle = np.clip(wanted, edge + EDGE, high)
    border = middle + limit
    # Each side's best stake against the guess; the smaller one, for both are tied to each other.
    stake = np.minimum((guess - border) / (border * (1 - border)), CAUTION / border)
    other = np.minimum((middle - mean) / (middle * (1 - middle)), CAUTION / (1 - middle))
    stake = np.maximum(np.minimum(stake, other * n / m), 0)
    other = stake * m / n
    # No mean is below 0: at that edge it is the champion's alone that the hypothesis speaks of.
    alone = wanted < edge
    middle, stake = np.where(alone, edge, middle), np.where(alone, 0.0, stake)
    sure = np.maximum(edge - mean, 0) / max(edge * (1 - edge), EDGE)
    other = np.where(alone, np.minimum(sure, CAUTION / (1 - edge)), other)
    won = np.log1p(stake[:, None, :] * (canary - border[:, None, :])).sum(axis=1)
    lost = np.log1p(-other[:, None, :] * (champion - middle[:, None, :])).sum(axis=1)
    return np.asarray(won + lost)
