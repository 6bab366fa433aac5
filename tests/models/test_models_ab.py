"""An A/B test names a winner where there is one, and none where there is none."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from data.task import BINARY, Task, multiclass
from models import ab

LIMITS = {"minimum_labels": 300, "confidence": 0.95, "samples": 400, "task": BINARY}


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


def numbers(seed: int, noise: float, task: Task) -> pd.DataFrame:
    """The same for a number, or three classes; their answers are off by `noise`."""
    rows, random = answered(seed, 0.0), np.random.default_rng(seed)
    if task.classes:
        odds = random.normal(0, 2, (len(rows), 3))
        label = (odds + random.gumbel(size=odds.shape)).argmax(axis=1)
        told = {"probability": softmax(odds + random.normal(0, noise, odds.shape), axis=1)}
    else:
        label = 100 + random.normal(0, task.scale, len(rows))
        told = {"prediction": label + random.normal(0, noise * task.scale, len(rows))}
    ((name, score),) = told.items()
    rows = rows.drop(columns=["probability", "decision"])
    return rows.assign(**task.put(name, score), label=label.astype(float))


@pytest.mark.parametrize("task", [Task("regression", scale=20.0), multiclass("abc")])
def test_numbers_and_classes_are_compared_by_their_own_loss(task):
    good, bad = numbers(1, 0.3, task), numbers(2, 1.5, task)
    found = ab.compare(("1", good), ("2", bad), **{**LIMITS, "task": task})
    assert found.winner == "1" and task.loss in found.reason
    assert set(found.a.figures) == {*ab.columns(task), "degraded", task.loss, "squared error"}
    assert found.a.roc_auc > found.b.roc_auc and found.ranking == task.ranking
    if not task.classes:
        wanted = ((good["label"] - good["prediction"]) ** 2).mean() / 20**2 / 2
        assert found.a.figures[task.loss].value == pytest.approx(wanted)
    same = ab.compare(("1", good), ("2", good), **{**LIMITS, "task": task})
    assert same.winner is None
