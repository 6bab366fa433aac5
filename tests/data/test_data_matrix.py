"""The streamed matrix is the whole one, bit for bit, whatever periods it is made of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import features, matrix, windows
from data.errors import EvergreenError
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from tests.planted import PROBLEM

AS_OF = parse_as_of("2024-W06", PROBLEM.label_delay)


@pytest.fixture(scope="module")
def partitions(tmp_path_factory, filled) -> Partitions:
    return filled(tmp_path_factory.mktemp("matrix") / "raw", "2024-W01", "2024-W07")


@pytest.fixture(scope="module")
def past(partitions) -> matrix.Past:
    return matrix.count(PROBLEM, partitions, partitions.periods(), AS_OF)


def test_only_periods_with_labelled_rows_count(past, partitions):
    """W07 has no label yet at the end of W06 plus the delay, but its events are counted."""
    assert [period.name for period in past.periods] == [f"2024-W0{i}" for i in range(1, 7)]
    whole = windows.load(partitions, PROBLEM, partitions.periods(), AS_OF)
    assert (len(past), past.missing) == (len(whole), whole.missing)
    outcomes = sum(counts.outcome for counts in past.counts.values())
    assert outcomes == whole.label.sum() and past.missing > 400


WEEKS = st.sets(st.integers(0, 5), min_size=1)


@settings(max_examples=25, deadline=None)
@given(learned=WEEKS, shown=WEEKS)
def test_streamed_and_whole_agree_bit_for_bit(learned, shown, past, partitions):
    """Any periods to learn from, any to transform: as a fold does it."""
    fit_on, show = ([past.periods[i] for i in chosen] for chosen in (learned, shown))
    before = windows.load(partitions, PROBLEM, fit_on, AS_OF)
    fitted = features.fit(PROBLEM.features, before.columns, before.label)
    assert past.fit(fit_on) == fitted
    whole = windows.load(partitions, PROBLEM, show, AS_OF)
    streamed = past.matrix(fitted, show)
    expected = features.transform(fitted, whole.columns)
    assert streamed.values.dtype == np.float32 and streamed.values.flags.c_contiguous
    assert streamed.values.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(streamed.label, whole.label)
    for name, own in streamed.periods.items():
        assert (whole.period[own] == name).all()
    assert sum(streamed.rows.values()) == len(whole)


def test_a_partition_that_changes_between_the_passes_is_named(tmp_path, filled):
    here = filled(tmp_path / "raw", "2024-W01", "2024-W02")
    counted = matrix.count(PROBLEM, here, here.periods(), AS_OF)
    second = Period.parse("2024-W02")
    here.restate(second, here.rows(second).iloc[:-20], ".parquet")
    here.restate(second, here.labels(second).iloc[:-20], ".labels.parquet")
    with pytest.raises(
        EvergreenError, match=r"partition 2024-W02 had .* changed while it was read"
    ):
        counted.matrix(counted.fit())
