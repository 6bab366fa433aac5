"""The canary's judgement on simulated arms: false alarms are rare, planted faults are found."""

import numpy as np
import pytest

from bento import canary
from bento.canary import Action, Arm, Look
from bento.contract import CUTS
from bento.sequential import Evidence
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
        scores=(scores[:, None] > np.array(CUTS)).astype(float),
        losses=np.empty(0),
    )


def live(random, share=0.25, per_look=60, limits=LIMITS, **fault):
    """One step from its first look to its decision."""
    watch = canary.start(limits)
    for number in range(1, 500):
        n = random.binomial(per_look, share)
        look = Look(arm(random, per_look - n), arm(random, n, **fault))
        watch = canary.see(watch, look, limits)
        decision = canary.judge(watch, 2.0 * number, limits)
        if decision.action is not Action.CONTINUE:
            return decision
    raise AssertionError("no decision")


@pytest.mark.parametrize(
    ("limit", "rates"),
    [(0.0, (0.005, 0.005)), (0.0, (0.3, 0.3)), (0.2, (0.3, 0.5)), (-0.25, (0.25, 0.0))],
)
def test_what_is_at_its_limit_is_rarely_taken_to_be_over_it(limit, rates):
    """Always looked at, 2000 runs; rates and shares drift, which pooled counts would blame."""
    random = np.random.default_rng(1)
    found = Evidence.start(limit, 0.1, (0.03, 0.1, 0.3))
    ended = np.zeros(2000, dtype=bool)
    for number in range(40):
        n = max(1, random.binomial(60, 0.05 + 0.01 * number))
        level = 1 + number / 80 if limit == 0 else 1
        sizes = zip(rates, (60 - n, n), strict=True)
        found = found.add(*((random.random((k, 2000)) < level * r).astype(float) for r, k in sizes))
        ended |= found.log >= np.log(1 / 0.05)
    assert ended.mean() <= 0.05


def test_an_equal_canary_is_promoted():
    random = np.random.default_rng(2)
    found = [live(random) for _ in range(40)]
    assert sum(decision.action is Action.ABORT for decision in found) <= 2
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
