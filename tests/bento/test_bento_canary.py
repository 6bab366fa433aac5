"""The canary's judgement on simulated arms: false alarms are rare, planted faults are found."""

import numpy as np
import pytest

from bento import canary
from bento.canary import THRESHOLDS, Action, Arm, Look
from bento.sequential import log_evidence
from data.release_params import Canary

LIMITS = Canary(minimum_requests=200, maximum_wait=60.0)
BOUNDS = (0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02)


def arm(random, n, *, errors=0.002, slow=1.0, degraded=0.0, shift=0.0) -> Arm:
    """What `n` requests come to: log-normal times around 1 ms, scores of a beta distribution."""
    failed = random.binomial(n, errors)
    times = slow * random.lognormal(np.log(0.001), 0.5, n - failed)
    scores = np.clip(random.beta(2, 4, n - failed) + shift, 0, 1)
    return Arm(
        requests=n,
        errors=failed,
        refused=random.binomial(n, 0.01),
        answered=n - failed,
        slower={x: int((times > x).sum()) for x in BOUNDS},
        restarted=False,
        degraded=(random.random(n - failed) < degraded).astype(float),
        above=(scores[:, None] > np.array(THRESHOLDS)).astype(float),
        losses=np.empty(0),
    )


def live(random, share=0.25, per_look=60, limits=LIMITS, **fault):
    """One step from its first look to its decision."""
    looks: list[Look] = []
    for number in range(1, 200):
        n = random.binomial(per_look, share)
        looks.append(Look(arm(random, per_look - n), arm(random, n, **fault)))
        decision = canary.judge(looks, 0, 2.0 * number, limits)
        if decision.action is not Action.CONTINUE:
            return decision
    raise AssertionError("no decision")


def test_two_equal_arms_are_rarely_told_apart():
    """Stopped as soon as the evidence allows, over thousands of runs; 0.05 is the stated alpha."""
    random = np.random.default_rng(1)
    for rate, share in ((0.005, 0.05), (0.02, 0.25), (0.3, 0.5)):
        blocks, ended = [], np.zeros(2000, dtype=bool)
        for _ in range(40):
            n = max(1, random.binomial(60, share))
            sizes = (60 - n, n)
            blocks.append(tuple((random.random((k, 2000)) < rate).astype(float) for k in sizes))
        for last in range(1, 41, 3):
            found = log_evidence(blocks[:last], 0.0, 0.01, canary.WORSE_BY)
            ended |= found >= np.log(1 / 0.05)
        assert ended.mean() <= 0.05, (rate, share)


def test_an_equal_canary_is_promoted():
    random = np.random.default_rng(2)
    found = [live(random) for _ in range(15)]
    assert sum(decision.action is Action.ABORT for decision in found) <= 1
    assert all(decision.reason for decision in found)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"errors": 0.05}, "errors"),
        ({"slow": 3.0}, "latency"),
        ({"degraded": 0.05}, "degraded"),
        ({"shift": 0.3}, "scores"),
        ({"shift": -0.3}, "scores"),
    ],
)
def test_a_planted_fault_ends_the_canary_and_is_named(fault, name):
    random = np.random.default_rng(3)
    limits = LIMITS.model_copy(update={"minimum_requests": 600, "maximum_wait": 120.0})
    for _ in range(5):
        decision = live(random, share=0.5, limits=limits, **fault)
        assert decision.action is Action.ABORT, decision
        (verdict,) = [v for v in decision.verdicts if v.good is False]
        assert verdict.name == name and verdict.reason in decision.reason and verdict.n > 0
