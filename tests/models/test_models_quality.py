"""Metrics against scikit-learn and by hand; intervals against the naive resampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from data.task import BINARY
from models.bootstrap import auc_difference, block_bootstrap
from models.quality import expected_calibration_error, measure

LABEL = np.array([0, 1, 1, 0, 1, 0, 0, 1])
PROBABILITY = np.array([0.1, 0.9, 0.6, 0.4, 0.4, 0.2, 0.7, 0.8])


@st.composite
def scored(draw):
    """Labels, two scores with many ties, and blocks; both outcomes are there."""
    n = draw(st.integers(4, 40))
    grid = st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.8]), min_size=n, max_size=n)
    label = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))])
    block = np.array(draw(st.lists(st.integers(3, 8), min_size=n, max_size=n)))
    return label, np.array(draw(grid)), np.array(draw(grid)), block


def auc(label, score) -> float:
    """By its definition, a tie counting half; 0 where a resample lacks an outcome."""
    above = score[label == 1][:, None] - score[label == 0][None, :]
    return float(np.heaviside(above, 0.5).mean()) if above.size else 0.0


@settings(max_examples=40, deadline=None)
@given(case=scored(), seed=st.integers(0, 2**32 - 1))
def test_the_auc_difference_equals_scikit_learn_and_naive_resampling(case, seed):
    label, score, other, block = case
    found = auc_difference(
        label, score, other, block, samples=15, confidence=0.8, task=BINARY, seed=seed
    )
    expected = metrics.roc_auc_score(label, score) - metrics.roc_auc_score(label, other)
    assert found.value == pytest.approx(expected, abs=1e-12)
    names = np.unique(block)
    differences = []
    for draw in np.random.default_rng(seed).integers(len(names), size=(15, len(names))):
        rows = np.concatenate([np.flatnonzero(block == names[i]) for i in draw])
        differences.append(auc(label[rows], score[rows]) - auc(label[rows], other[rows]))
    low, high = np.quantile(differences, [0.1, 0.9])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(case=scored())
def test_metrics_equal_scikit_learns(case):
    label, probability, _, _ = case
    found = measure(label, probability, BINARY)
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(label, probability))
    assert found.pr_auc == pytest.approx(metrics.average_precision_score(label, probability))
    assert found.log_loss == pytest.approx(metrics.log_loss(label, probability))
    assert found.brier == pytest.approx(metrics.brier_score_loss(label, probability))


def test_metrics_by_hand():
    found = measure(LABEL, PROBABILITY, BINARY)
    assert (found.rows, found.positive_rate) == (8, 0.5)
    assert found.mean_probability == pytest.approx(4.1 / 8)
    # 16 pairs: positives .9 .8 .6 .4 win 4, 4, 3, 2.5 (a tie) against .1 .2 .4 .7
    assert found.roc_auc == pytest.approx(13.5 / 16)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.16 + 0.36 + 2 * 0.04 + 0.49) / 8)
    # eight rows in ten bins: every row is its own
    assert found.calibration_error == pytest.approx(np.abs(PROBABILITY - LABEL).mean())


def test_calibration_error_by_hand():
    label = np.tile([0, 0, 0, 1, 0, 1, 1, 1, 1, 1], 2)
    probability = np.repeat([0.25, 0.75], 10)
    # sorted by probability, ten bins of two: in both halves |observed - predicted| by bin
    bins = [(0, .25), (.5, .25), (.5, .25), (1, .25), (1, .25)]  # fmt: skip
    gaps = [abs(observed - predicted) for observed, predicted in bins]
    gaps += [abs(observed - 0.75) for observed, _ in bins]
    assert expected_calibration_error(label, probability, BINARY) == pytest.approx(np.mean(gaps))
    certain = np.array([0.0] * 10 + [1.0] * 10)
    assert expected_calibration_error(certain, certain, BINARY) == 0


def test_certain_and_wrong_is_costly_but_finite_and_one_outcome_has_no_auc():
    losses = BINARY.losses(np.array([1, 0, 1]), np.array([0.0, 1.0, 1.0]))
    assert losses[:2] == pytest.approx([-math.log(1e-7)] * 2) and losses[2] < 1e-6
    found = measure(np.ones(3), np.array([0.2, 0.4, 0.9]), BINARY)
    assert found.roc_auc is None and found.pr_auc is None and found.log_loss > 0


def test_the_bootstrap_is_repeatable_and_draws_whole_blocks():
    random = np.random.default_rng(1)
    block = np.repeat(np.arange(20), 50)
    values = random.normal(0, 1, 20)[block] + random.normal(0, 0.1, 1000)
    one = block_bootstrap(values, block, 500, 0.8, seed=1)
    assert one == block_bootstrap(values, block, 500, 0.8, seed=1)
    assert one != block_bootstrap(values, block, 500, 0.8, seed=2)
    assert one.low < one.value < one.high and one.value == pytest.approx(values.mean())
    # 20 independent blocks, not 1000 rows: about 2 * 1.28 * sd / sqrt(20)
    between = np.array([values[block == b].mean() for b in range(20)]).std()
    assert one.high - one.low == pytest.approx(2 * 1.28 * between / math.sqrt(20), rel=0.2)
    by_row = block_bootstrap(values, np.arange(1000), 500, 0.8, seed=1)
    assert by_row.high - by_row.low < (one.high - one.low) / 4
    assert block_bootstrap(np.full(9, 2.5), np.arange(9), 100, 0.9, 1).low == 2.5
