"""What a batch rule looks at, and what it finds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from data.contracts import Sifted, Typed
from data.params import Contract
from data.periods import Period
from data.problem import Problem
from data.profiles import Profile, Usual, profile


@dataclass(frozen=True)
class Finding:
    """A broken batch rule, and what it says of which columns."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """A delivered batch beside its reference.

    Attributes:
        typed: the rows in the contract's types.
        sifted: what its rows break.
        reference: profiles of the nearest other periods, `contract.reference_periods` at most.
        sketches: period -> sketch of its contents, for every other period.
        label: of each row, 0, 1 or missing; None if the batch has no outcomes.
        edge: whether the source begins or ends in this period, so that it may be a part of one.
    """

    problem: Problem
    contract: Contract
    period: Period
    typed: Typed
    sifted: Sifted
    reference: Sequence[Profile]
    sketches: Mapping[str, Sequence[int]]
    label: pd.Series | None
    edge: Callable[[], bool]

    @property
    def rows(self) -> pd.DataFrame:
        return self.typed.rows

    @cached_property
    def profile(self) -> Profile:
        return profile(self.problem, self.period.name, self.rows)

    @cached_property
    def usual(self) -> dict[str, Usual]:
        found = {n: Usual.of([r.columns[n] for r in self.reference]) for n in self.profile.columns}
        return {name: usual for name, usual in found.items() if usual}

    def beyond(self, values: Sequence[float], floor: float) -> float:
        """The largest of the reference's values, plus what its own variation allows."""
        return max(values) + self.contract.tolerance * max(max(values) - min(values), floor)
