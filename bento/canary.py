"""What a canary's answers say against the champion's of the same moments: pure, without a clock.

`judge` decides, and says why; another function acts. What was not measured is UNKNOWN and never
good: without metrics the canary ends.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from bento.sequential import Block, Evidence
from data.release_params import Canary

WORSE_BY = (0.01, 0.03, 0.1, 0.3)


class Action(StrEnum):
    """What comes next."""

    PROMOTE = "promote"  # this step is passed; after the last one, the version
    CONTINUE = "continue"
    ABORT = "abort"


@dataclass(frozen=True, eq=False)
class Arm:
    """What one of the two did between two looks.

    Attributes:
        requests: to /predict; errors: answered with 5xx or lost at the gateway; refused: with 4xx.
        answered: requests with a time; slower: those that took longer, by seconds.
        restarted: its process is another one than at the last look.
        degraded: the share of degraded rows of each logged request, shape (n,).
        scores: how its scores are distributed, shares in [0, 1], shape (n, k).
        losses: the mean squared error of each request with labels, in [0, 1], shape (m,).
    """

    requests: int
    errors: int
    refused: int
    answered: int
    slower: dict[float, int]
    restarted: bool
    degraded: np.ndarray
    scores: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True, eq=False)
class Look:
    """Both arms between two looks."""

    champion: Arm
    canary: Arm


@dataclass(frozen=True)
class Verdict:
    """One comparison.

    Attributes:
        value: the largest difference seen, canary minus champion; None if nothing was.
        threshold: the difference that is allowed.
        n: observations of the canary.
        good: False where it is shown to be over the threshold, True where it is shown to be at
            most the threshold and the early margin, None while neither is.
    """

    name: str
    value: float | None
    threshold: float
    n: int
    good: bool | None
    reason: str


@dataclass(frozen=True)
class Decision:
    """What to do with the canary, and why."""

    action: Action
    verdicts: tuple[Verdict, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Compared:
    """One quantity in [0, 1] so far: evidence that it is over its limit, and that it is not.

    Attributes:
        champion, canary: number and sum of the values seen.
    """

    name: str
    limit: float
    over: Evidence
    within: Evidence
    champion: tuple[int, np.ndarray] = (0, np.zeros(1))
    canary: tuple[int, np.ndarray] = (0, np.zeros(1))

    @classmethod
    def start(cls, name: str, limit: float, prior: float, limits: Canary) -> "Compared":
        margin = limit + limits.early_margin
        over = Evidence.start(limit, prior, WORSE_BY)
        return cls(name, limit, over, Evidence.start(-margin, prior, (margin / 2, margin)))

    def add(self, block: Block) -> "Compared":
        champion, canary = block
        return replace(
            self,
            over=self.over.add(champion, canary),
            within=self.within.add(canary, champion),
            champion=(self.champion[0] + len(champion), self.champion[1] + champion.sum(axis=0)),
            canary=(self.canary[0] + len(canary), self.canary[1] + canary.sum(axis=0)),
        )


@dataclass(frozen=True, eq=False)
class Watch:
    """All looks so far.

    Attributes:
        seen: requests in this step: by the counters and by the log, of champion and canary.
    """

    compared: tuple[Compared, ...]
    seen: tuple[int, int, int, int] = (0, 0, 0, 0)
    restarted: bool = False

    def next_step(self) -> "Watch":
        """Evidence stays, the requests of the step are counted anew."""
        return replace(self, seen=(0, 0, 0, 0))


def start(limits: Canary) -> Watch:
    """Nothing seen yet."""
    questions = (
        ("errors", limits.error_limit, 0.01),
        ("refusals", limits.error_limit, 0.01),
        ("degraded", limits.error_limit, 0.01),
        ("latency", limits.latency_limit, 0.05),
        ("scores", limits.score_limit, 0.5),
        ("quality", limits.quality_limit, 0.2),
    )
    return Watch(tuple(Compared.start(*question, limits) for question in questions))


def see(watch: Watch, look: Look, limits: Canary) -> Watch:
    """With one more look."""
    a, b = look.champion, look.canary
    blocks = (
        (_ones(a.requests, a.errors), _ones(b.requests, b.errors)),
        (_ones(a.requests, a.refused), _ones(b.requests, b.refused)),
        (a.degraded[:, None], b.degraded[:, None]),
        _slower(a, b, limits.latency_ratio),
        (np.hstack([a.scores, 1 - a.scores]), np.hstack([b.scores, 1 - b.scores])),
        (a.losses[:, None], b.losses[:, None]),
    )
    more = (a.requests, len(a.scores), b.requests, len(b.scores))
    return Watch(
        tuple(one.add(block) for one, block in zip(watch.compared, blocks, strict=True)),
        tuple(old + new for old, new in zip(watch.seen, more, strict=True)),  # type: ignore[arg-type]
        watch.restarted or b.restarted,
    )


def judge(watch: Watch, waited: float, limits: Canary) -> Decision:
    """What all looks so far come to.

    Args:
        waited: seconds since the step that is under way began.
    """
    verdicts = tuple(_verdict(one, len(watch.compared), limits.alpha) for one in watch.compared)
    if watch.restarted:
        return Decision(Action.ABORT, verdicts, "its process died and was started again")
    if worse := [verdict for verdict in verdicts if verdict.good is False]:
        return Decision(Action.ABORT, verdicts, "; ".join(verdict.reason for verdict in worse))
    champion, canary, wanted = min(watch.seen[:2]), min(watch.seen[2:]), limits.minimum_requests
    enough, late = min(champion, canary) >= wanted, waited >= limits.maximum_wait
    said = f"{canary} requests to the canary and {champion} to the champion"
    if enough and all(verdict.good or verdict.value is None for verdict in verdicts):
        return Decision(Action.PROMOTE, verdicts, f"no difference over its limit: {said}")
    if enough and late:
        return Decision(Action.PROMOTE, verdicts, f"nothing against it: {said} in {waited:.0f} s")
    if late:
        reason = f"no metrics: {said} within {waited:.0f} s, at least {wanted} of each are needed"
        return Decision(Action.ABORT, verdicts, reason)
    return Decision(Action.CONTINUE, verdicts, said)


def no_metrics(fault: str) -> Decision:
    """What follows where the looks cannot be taken."""
    return Decision(Action.ABORT, (), f"no metrics: {fault}")


def _slower(a: Arm, b: Arm, ratio: float) -> Block:
    """Who took longer than x of the champion, and than `ratio` times x of the canary, at each x."""
    bounds = sorted(set(a.slower) & set(b.slower))
    pairs = [(x, min(y for y in bounds if y >= ratio * x * (1 - 1e-9)))
             for x in bounds if bounds[-1] >= ratio * x * (1 - 1e-9)]  # fmt: skip
    champion = _ones(a.answered, *(a.slower[x] for x, _ in pairs))
    return champion, _ones(b.answered, *(b.slower[y] for _, y in pairs))


def _verdict(one: Compared, families: int, alpha: float) -> Verdict:
    """What is shown of one quantity; alpha is shared by all of them."""
    (n, a), (m, b) = one.champion, one.canary
    if not n or not m:
        reason = f"{one.name}: unknown, nothing to compare"
        return Verdict(one.name, None, one.limit, m, None, reason)
    gap = b / m - a / n
    worst = int(gap.argmax())
    said = f"{one.name}: {b[worst] / m:.3f} against the champion's {a[worst] / n:.3f}"
    against = one.over.log
    if np.logaddexp.reduce(against) - np.log(len(against)) >= np.log(families / alpha):
        said += f", more than {one.limit:g} apart"
        return Verdict(one.name, float(gap[worst]), one.limit, m, False, said)
    good = True if one.within.log.min() >= -np.log(alpha) else None
    return Verdict(one.name, float(gap[worst]), one.limit, m, good, said)


def _ones(n: int, *hits: int) -> np.ndarray:
    """As many ones as there were hits among n, for each quantity: shape (n, k)."""
    return (np.arange(n)[:, None] < np.array(hits)[None, :]).astype(float)
