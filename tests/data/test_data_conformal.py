"""Limits from a reference's own periods: exceeded as often as promised, and no odd one decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.conformal import joint, limit, odd


def test_with_enough_periods_it_is_the_quantile():
    found = limit([float(i) for i in range(1, 40)], 0.05)
    assert (found.value, found.resolved) == (38.0, 0.05)
    assert limit([float(i) for i in range(1, 20)], 0.05).value == 19.0


def test_with_few_it_lies_beyond_the_largest_and_says_what_they_resolve():
    found = limit([1.0, 2.0, 3.0, 4.0], 0.05)
    assert found.value > 4.0 and found.resolved == pytest.approx(0.2)
    assert limit([1.0, 2.0, 3.0, 4.0], 0.2).value == 4.0


@pytest.mark.parametrize("periods", [8, 25, 60])
def test_a_new_period_exceeds_it_about_as_often_as_asked_for(periods):
    random = np.random.default_rng(periods)
    drawn = random.normal(0, 1, (2000, periods + 1))
    exceeded = np.mean([row[-1] > limit(row[:-1].tolist(), 0.05).value for row in drawn])
    assert 0.02 < exceeded < 0.1, "without the extension 8 periods give at least 0.11"


@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=30), st.integers(0, 29))
def test_one_odd_period_sets_no_limit(statistics, place):
    place %= len(statistics)
    statistics[place] = 100.0
    found = limit(statistics, 0.05)
    assert found.odd == odd(statistics) == place
    assert found.value < 10.0


def test_two_odd_periods_are_no_accident():
    assert odd([1.0, 1.1, 0.9, 1.0, 50.0, 49.0]) is None
    assert limit([1.0, 1.1, 0.9, 1.0, 50.0, 49.0], 0.2).value >= 49.0


def test_several_measures_share_one_limit_each_in_its_own_unit():
    random = np.random.default_rng(3)
    exceeded = []
    for _ in range(300):
        table = random.gamma(5, 1, (6, 21)) * np.array([[1, 10, 100, 1e3, 1e4, 1e5]]).T
        found = joint(table[:, :20], 0.05)
        exceeded.append((table[:, 20] / found.own).max() > found.limit.value)
    assert 0.01 < np.mean(exceeded) < 0.12
