"""A circuit breaker around the model (Nygard, Release It!, 2007).

A model that keeps failing is left alone for a while: requests get the fallback at once.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass
class Breaker:
    """Closed: the model is asked. Open: it is not. Half-open: one call decides which it will be.

    Attributes:
        failures: in a row that open it.
        rest: seconds that it stays open.
        budget: seconds; a call that takes longer is a failure, though its answer is used.
    """

    failures: int = 5
    rest: float = 5.0
    budget: float = 1.0
    _failed: int = 0
    _opened_at: float | None = None

    def state(self, at: float) -> State:
        """The state at a moment, in seconds of a monotonic clock."""
        if self._opened_at is None:
            return "closed"
        return "open" if at < self._opened_at + self.rest else "half-open"

    def open(self, at: float) -> None:
        """Leave the model alone from now on."""
        self._opened_at = at

    def record(self, began: float, ended: float, failed: bool) -> None:
        """What became of a call that was made when the breaker was not open."""
        if failed or ended - began > self.budget:
            self._failed += 1
            if self._failed >= self.failures or self._opened_at is not None:
                self._opened_at = ended
        else:
            self._failed, self._opened_at = 0, None
