"""An A/B test names a winner where there is one, and none where there is none."""

import numpy as np
import pandas as pd
import pytest

from data.task import BINARY
from models import ab

LIMITS = {"minimum_labels": 300, "confidence": 0.95, "samples": 400}


def answered(seed: int, noise: float, n: int = 2000, days: int = 10) -> pd.DataFrame:
    """Answers of a version whose log odds are off by `noise`; days have levels of their own."""
    random = np.random.default_rng(seed)
    day = random.integers(0, days, n)
    level = np.random.default_rng(7).normal(0, 0.5, days)[day]
    odds = random.normal(-1, 1.5, n) + level
    label = (random.random(n) < 1 / (1 + np.exp(-odds))).astype(float)
    probability = 1 / (1 + np.exp(-(odds + random.normal(0, noise, n))))
    return pd.DataFrame(
        {
            "request": [f"r{i}" for i in range(n)],
            "event_time": np.datetime64("2024-03-01T00:00:00", "us")
            + day.astype("timedelta64[D]")
            + random.integers(0, 86400, n).astype("timedelta64[s]"),
            "probability": probability,
            "decision": probability >= 0.5,
            "degraded": False,
            "label": label,
        }
    )


def test_the_better_one_wins_on_either_side():
    good, bad = answered(1, 0.1), answered(2, 2.0)
    assert ab.compare(("1", good), ("2", bad), **LIMITS).winner == "1"
    found = ab.compare(("1", bad), ("2", good), **LIMITS)
    assert found.winner == "2" and found.unit == "day" and "is better" in found.reason
    gap = found.differences[BINARY.loss]
    assert gap.low < gap.value < gap.high < 0
    assert found.b.roc_auc > found.a.roc_auc


def test_equals_are_rarely_told_apart():
    wins = [
        ab.compare(("1", answered(s, 0.3)), ("2", answered(100 + s, 0.3)), **LIMITS).winner
        for s in range(30)
    ]
    assert sum(winner is not None for winner in wins) <= 5


@pytest.mark.parametrize(("days", "unit"), [(10, "day"), (1, "hour")])
def test_without_labels_nobody_wins(days, unit):
    unlabelled = answered(1, 0.1, days=days).assign(label=np.nan)
    found = ab.compare(("1", answered(2, 0.1, days=days)), ("2", unlabelled), **LIMITS)
    assert found.winner is None and found.reason.startswith("unknown: 2000 and 0 answers")
    assert BINARY.loss not in found.differences and found.unit == unit
    empty = ab.compare(("1", answered(2, 0.1)), ("2", unlabelled.head(0)), **LIMITS)
    assert empty.b.requests == 0 and empty.differences == {}
