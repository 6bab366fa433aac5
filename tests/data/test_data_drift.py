"""Drift is judged by how much the reference differs from itself."""

import json

import numpy as np
import pytest

from data import drift, reference
from data.digests import canonical_json
from data.drift import compare, psi
from data.reference import Histogram, Reference
from data.task import BINARY
from data.verdicts import Verdict

NAMES = ("level", "kind")
ROWS, PERIODS = 300, 12


def window(random, shift=0.0):
    level = random.normal(shift, 1, ROWS)
    level[random.random(ROWS) < 0.1] = np.nan
    return np.column_stack([level, random.integers(0, 4, ROWS)]).astype(np.float32)


def profile(random) -> Reference:
    matrix = np.concatenate([window(random) for _ in range(PERIODS)])
    period = np.repeat([f"2024-W{i:02d}" for i in range(1, PERIODS + 1)], ROWS)
    scores = random.uniform(0, 1, len(matrix))
    return reference.build(NAMES, matrix, scores, period.astype(object), 10, BINARY)


@pytest.fixture(scope="module")
def known() -> Reference:
    return profile(np.random.default_rng(1))


def judge(known, matrix, random, minimum=200):
    return compare(known, matrix, random.uniform(0, 1, len(matrix)), minimum)


def test_psi_is_the_textbooks():
    expected, actual = np.array([50, 30, 20, 0]), np.array([20, 30, 40, 10])
    # (.2-.5)ln(.2/.5) + 0 + (.4-.2)ln(.4/.2) + (.1-.0001)ln(.1/.0001)
    by_hand = 0.3 * 0.9162907 + 0.2 * 0.6931472 + 0.0999 * 6.9077553
    assert psi(expected, actual) == pytest.approx(by_hand, rel=1e-6)
    assert psi(expected, expected * 7) == 0
    assert psi(expected, actual) == pytest.approx(psi(actual, expected))


def test_bins_hold_every_value_once_and_the_missing_apart():
    histogram = Histogram("level", (0.0, 1.0, 2.0), ())
    values = np.array([-5, 0, 0.5, 1, 2, 99, np.nan, np.inf, -np.inf])
    assert histogram.count(values).tolist() == [2, 2, 1, 3, 1]


def test_a_profile_counts_every_training_row(known):
    for histogram in known.histograms:
        assert np.asarray(histogram.counts).sum(axis=1).tolist() == [ROWS] * PERIODS
    by_name = {histogram.name: histogram for histogram in known.histograms}
    assert list(by_name) == [*NAMES, reference.SCORE]
    assert by_name["kind"].edges == (0.5, 1.5, 2.5)
    shares = np.asarray(by_name["level"].counts).sum(axis=0)[:-1]
    assert len(shares) == 10 and shares.max() / shares.min() < 1.1


def test_a_window_is_as_far_as_the_nearest_period_and_held_against_the_references_own(known):
    random = np.random.default_rng(9)
    matrix = window(random, shift=0.3)
    by_name = {column.name: column for column in judge(known, matrix, random).columns}
    for histogram, values in zip(known.histograms, matrix.T, strict=False):
        counts = [np.asarray(row) for row in histogram.counts]
        near = min(psi(row, histogram.count(values)) for row in counts)
        own = max(min(psi(a, b) for b in counts if b is not a) for a in counts)
        found = by_name[histogram.name]
        assert (found.psi, found.usual) == pytest.approx((near, own))
        assert found.ratio == pytest.approx((near + drift.NOISE) / (own + drift.NOISE))


def test_a_planted_shift_alarms_and_is_named(known):
    random = np.random.default_rng(2)
    report = judge(known, window(random, shift=0.8), random)
    assert report.verdict is Verdict.ALARM
    top = report.columns[0]
    assert top.name == "level" and report.statistic == top.ratio and top.psi > top.limit
    assert "level" in report.reason and report.statistic > report.limit


def test_one_odd_period_hides_nothing_and_what_it_showed_is_no_drift():
    random = np.random.default_rng(10)
    matrix = np.concatenate([window(random, 4.0 if i == 7 else 0.0) for i in range(PERIODS)])
    names = [f"2024-W{i:02d}" for i in range(1, PERIODS + 1)]
    period = np.repeat(names, ROWS).astype(object)
    scores = random.uniform(0, 1, len(matrix))
    known = reference.build(NAMES, matrix, scores, period, 10, BINARY)
    smaller = judge(known, window(random, 1.0), random)
    assert smaller.verdict is Verdict.ALARM and smaller.odd == "2024-W08"
    assert "2024-W08 is unlike all others" in smaller.reason
    assert judge(known, window(random, 4.0), random).verdict is not Verdict.ALARM
    assert judge(known, window(random, 0.0), random).verdict is not Verdict.ALARM


def test_missing_values_alone_alarm(known):
    random = np.random.default_rng(3)
    matrix = window(random)
    matrix[random.random(ROWS) < 0.5, 0] = np.nan
    assert judge(known, matrix, random).verdict is Verdict.ALARM


def test_without_drift_alarms_are_as_rare_as_promised():
    """At most 1 / (periods + 1) per new period, over many references and new periods."""
    random, alarms, trials = np.random.default_rng(4), 0, 0
    for _ in range(25):
        known = profile(random)
        for _ in range(12):
            report = judge(known, window(random), random)
            assert report.verdict is not Verdict.UNKNOWN
            alarms, trials = alarms + (report.verdict is Verdict.ALARM), trials + 1
    promised = 1 / (PERIODS + 1)
    assert 0 < alarms / trials < 1.5 * promised


def test_a_shift_of_the_score_alone_warns_and_alarms_when_it_stays(known):
    random = np.random.default_rng(8)
    report = compare(known, window(random), random.uniform(0.6, 1, ROWS), 200)
    assert report.verdict is not Verdict.ALARM
    first = report.score_finding()
    assert first.verdict is Verdict.WARN and first.value > first.threshold
    assert report.score_finding(first).verdict is Verdict.ALARM
    quiet = compare(known, window(random), random.uniform(0, 1, ROWS), 200).score_finding(first)
    assert quiet.verdict is Verdict.OK
    assert report.score_finding(quiet).verdict is Verdict.WARN


def test_too_few_rows_are_unknown_never_ok(known):
    random = np.random.default_rng(5)
    report = judge(known, window(random)[:199], random)
    assert report.verdict is Verdict.UNKNOWN and report.statistic is None
    assert "199 rows are too few" in report.reason and "200" in report.reason
    assert judge(known, window(random)[:200], random).verdict is not Verdict.UNKNOWN
    assert judge(known, window(random)[:0], random).verdict is Verdict.UNKNOWN


def test_a_profile_survives_json(known):
    again = Reference.from_json(json.loads(canonical_json(known.to_json())))
    assert again == known
    matrix = window(np.random.default_rng(6))
    scores = np.linspace(0, 1, ROWS)
    assert compare(again, matrix, scores, 10) == compare(known, matrix, scores, 10)


def test_a_constant_and_an_empty_column_are_profiled():
    matrix = np.column_stack([np.full(40, 3.0), np.full(40, np.nan)]).astype(np.float32)
    period = np.repeat(["2024-W01", "2024-W02"], 20).astype(object)
    known = reference.build(
        ("constant", "empty"), matrix, np.linspace(0, 1, 40), period, 10, BINARY
    )
    canonical_json(known.to_json())
    assert compare(known, matrix, np.linspace(0, 1, 40), 10).columns[0].psi == 0
    moved = matrix.copy()
    moved[:, 1] = 1.0
    found = compare(known, moved, np.linspace(0, 1, 40), 10)
    assert found.verdict is Verdict.ALARM and found.columns[0].name == "empty"


def test_the_distance_from_all_together_has_the_references_own_for_a_limit(known):
    random = np.random.default_rng(5)
    usual = []
    for histogram in known.histograms[:-1]:
        counts = np.asarray(histogram.counts)
        usual += [psi(counts.sum(axis=0) - own, own) for own in counts]
    moved, same = (judge(known, window(random, shift), random).whole for shift in (1.0, 0.0))
    assert moved.limit == same.limit == pytest.approx(max(usual))
    assert moved.column == "level" and moved.psi > 3 * moved.limit
    assert same.psi < 2 * same.limit
    level = known.histograms[0]
    total = np.asarray(level.counts).sum(axis=0)
    matrix = window(np.random.default_rng(6), 1.0)
    expected = psi(total, level.count(matrix[:, 0]))
    assert judge(known, matrix, random).whole.psi == pytest.approx(expected)
