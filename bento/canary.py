"""What a canary's answers say against the champion's of the same moments: pure, without a clock.

`judge` decides, and says why; another function acts. What was not measured is UNKNOWN and never
good: without metrics the canary ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bento.sequential import Block, log_evidence
from data.release_params import Canary

THRESHOLDS = tuple(i / 10 for i in range(1, 10))
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
        above: the share of its probabilities above each of THRESHOLDS, shape (n, 9).
        losses: the mean squared error of each request with labels, shape (m,).
    """

    requests: int
    errors: int
    refused: int
    answered: int
    slower: dict[float, int]
    restarted: bool
    degraded: np.ndarray
    above: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True, eq=False)
class Look:
    """Both arms between two looks, in a step (from 0 on)."""

    champion: Arm
    canary: Arm
    step: int = 0


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


@dataclass(frozen=True)
class Question:
    """One quantity in [0, 1] to compare: blocks of values, the limit, and a first guess of it."""

    name: str
    blocks: Sequence[Block]
    limit: float
    prior: float


def judge(looks: Sequence[Look], step: int, waited: float, limits: Canary) -> Decision:
    """What all looks so far come to.

    Args:
        looks: of all steps, in order.
        step: the step that is under way.
        waited: seconds since it began.
    """
    questions = _questions(looks, limits)
    verdicts = tuple(_verdict(question, len(questions), limits) for question in questions)
    if any(look.canary.restarted for look in looks):
        return Decision(Action.ABORT, verdicts, "its process died and was started again")
    if worse := [verdict for verdict in verdicts if verdict.good is False]:
        return Decision(Action.ABORT, verdicts, "; ".join(verdict.reason for verdict in worse))
    seen, wanted = _seen(looks, step), limits.minimum_requests
    enough, over = min(seen) >= wanted, waited >= limits.maximum_wait
    said = f"{seen[1]} requests to the canary and {seen[0]} to the champion"
    if enough and all(verdict.good or verdict.value is None for verdict in verdicts):
        return Decision(Action.PROMOTE, verdicts, f"no difference over its limit: {said}")
    if enough and over:
        return Decision(Action.PROMOTE, verdicts, f"nothing against it: {said} in {waited:.0f} s")
    if over:
        reason = f"no metrics: {said} within {waited:.0f} s, at least {wanted} of each are needed"
        return Decision(Action.ABORT, verdicts, reason)
    return Decision(Action.CONTINUE, verdicts, said)


def no_metrics(fault: str) -> Decision:
    """What follows where the looks cannot be taken."""
    return Decision(Action.ABORT, (), f"no metrics: {fault}")


def _seen(looks: Sequence[Look], step: int) -> tuple[int, int]:
    """Requests of the step that both the counters and the log have: champion, canary."""
    arms = [(look.champion, look.canary) for look in looks if look.step == step]
    return tuple(  # type: ignore[return-value]
        min(sum(pair[i].requests for pair in arms), sum(len(pair[i].above) for pair in arms))
        for i in (0, 1)
    )


def _questions(looks: Sequence[Look], limits: Canary) -> list[Question]:
    def blocks(values: str) -> list[Block]:
        return [(_columns(getattr(look.champion, values)), _columns(getattr(look.canary, values)))
                for look in looks]  # fmt: skip

    def ones(arm: Arm, hits: str) -> np.ndarray:
        return _ones(arm.requests, getattr(arm, hits))

    def counted(hits: str) -> list[Block]:
        return [(ones(look.champion, hits), ones(look.canary, hits)) for look in looks]

    both_ways = [(np.hstack([a, 1 - a]), np.hstack([b, 1 - b])) for a, b in blocks("above")]
    return [
        Question("errors", counted("errors"), limits.error_limit, 0.01),
        Question("refusals", counted("refused"), limits.error_limit, 0.01),
        Question("degraded", blocks("degraded"), limits.error_limit, 0.01),
        Question("latency", _slower(looks, limits.latency_ratio), limits.latency_limit, 0.05),
        Question("scores", both_ways, limits.score_limit, 0.5),
        Question("quality", blocks("losses"), limits.quality_limit, 0.2),
    ]


def _slower(looks: Sequence[Look], ratio: float) -> list[Block]:
    """Who took longer than x of the champion, and than `ratio` times x of the canary, at each x."""
    if not looks:
        return []
    arms = [arm for look in looks for arm in (look.champion, look.canary)]
    bounds = sorted(set.intersection(*(set(arm.slower) for arm in arms)))
    pairs = [(x, min(y for y in bounds if y >= ratio * x * (1 - 1e-9)))
             for x in bounds if bounds[-1] >= ratio * x]  # fmt: skip
    return [
        (
            _ones(look.champion.answered, *(look.champion.slower[x] for x, _ in pairs)),
            _ones(look.canary.answered, *(look.canary.slower[y] for _, y in pairs)),
        )
        for look in looks
    ]


def _verdict(question: Question, families: int, limits: Canary) -> Verdict:
    """What is shown of one quantity; alpha is shared by all of them."""
    n = sum(len(canary) for _, canary in question.blocks)
    name, limit = question.name, question.limit
    if not n or not sum(len(champion) for champion, _ in question.blocks):
        return Verdict(name, None, limit, n, None, f"{name}: unknown, nothing to compare")
    champion, canary = (np.concatenate(arm) for arm in zip(*question.blocks, strict=True))
    gap = canary.mean(axis=0) - champion.mean(axis=0)
    worst = int(gap.argmax())
    said = f"{name}: {canary.mean(axis=0)[worst]:.3f} against the champion's "
    said += f"{champion.mean(axis=0)[worst]:.3f}"
    against = log_evidence(question.blocks, limit, question.prior, WORSE_BY)
    bar = np.log(families / limits.alpha)
    if np.logaddexp.reduce(against) - np.log(len(against)) >= bar:
        return Verdict(
            name, float(gap[worst]), limit, n, False, f"{said}, more than {limit:g} apart"
        )
    margin = limit + limits.early_margin
    swapped = [(canary, champion) for champion, canary in question.blocks]
    found = log_evidence(swapped, -margin, question.prior, (margin / 2, margin))
    good = True if found.min() >= -np.log(limits.alpha) else None
    return Verdict(name, float(gap[worst]), limit, n, good, said)


def _columns(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1) if values.size else values.reshape(0, _width(values))


def _width(values: np.ndarray) -> int:
    return values.shape[1] if values.ndim == 2 else 1


def _ones(n: int, *hits: int) -> np.ndarray:
    """As many ones as there were hits among n, for each quantity: shape (n, k)."""
    return (np.arange(n)[:, None] < np.array(hits)[None, :]).astype(float)
