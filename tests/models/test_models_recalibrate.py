"""A level is moved, part of the way, towards the labels'; a ranking never is."""

import numpy as np
import pytest
from scipy.special import expit

from data.task import BINARY
from models.recalibrate import learn


def outcomes(odds: np.ndarray, level: float) -> np.ndarray:
    return (np.random.default_rng(1).random(len(odds)) < expit(odds + level)).astype(np.int8)


ODDS = np.random.default_rng(0).normal(-1, 1, 20_000)


@pytest.mark.parametrize("level", [-0.8, 0.0, 1.2])
def test_the_gap_is_found_and_shrunk(level):
    label = outcomes(ODDS, level)
    whole, half = (learn(label, ODDS, by, BINARY) for by in (1.0, 0.5))
    assert whole == pytest.approx(level, abs=0.06)
    assert half == pytest.approx(whole / 2)
    assert expit(ODDS + whole).mean() == pytest.approx(label.mean(), abs=1e-6)


@pytest.mark.parametrize("label", [np.zeros(50), np.ones(50), np.zeros(0)])
def test_one_outcome_alone_teaches_nothing(label):
    assert learn(label, ODDS[: len(label)], 0.5, BINARY) == 0.0
