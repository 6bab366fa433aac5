"""Periods tile the calendar; what is no period is said so."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import EvergreenError
from data.periods import Period, parse_as_of, span

FREQUENCIES = st.sampled_from(["week", "month", "day"])
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))
DELAY = timedelta(hours=12)


@given(moment=MOMENTS, frequency=FREQUENCIES)
def test_a_period_holds_its_moment_and_its_name_says_all(moment, frequency):
    period = Period.of(moment, frequency)
    assert period.start <= moment < period.end
    assert Period.parse(str(period)) == period
    assert period.frequency == frequency


@given(moment=MOMENTS, frequency=FREQUENCIES)
def test_periods_tile_time(moment, frequency):
    period = Period.of(moment, frequency)
    following = period.next()
    assert following.start == period.end
    assert following.previous() == period
    assert period < following


@given(moment=MOMENTS, frequency=FREQUENCIES, count=st.integers(0, 60))
def test_a_span_is_contiguous(moment, frequency, count):
    first = last = Period.of(moment, frequency)
    for _ in range(count):
        last = last.next()
    found = span(first, last)
    assert len(found) == count + 1 and (found[0], found[-1]) == (first, last)
    assert all(a.end == b.start for a, b in pairwise(found))
    if count:
        assert span(last, first) == []


@pytest.mark.parametrize(
    ("moment", "frequency", "name", "following"),
    [
        (datetime(2012, 12, 31), "week", "2013-W01", "2013-W02"),
        (datetime(2013, 12, 31, 23, 59), "week", "2014-W01", "2014-W02"),
        (datetime(2021, 1, 3), "week", "2020-W53", "2021-W01"),
        (datetime(2013, 12, 5), "month", "2013-12", "2014-01"),
        (datetime(2012, 2, 29), "day", "2012-02-29", "2012-03-01"),
    ],
)
def test_year_ends_and_leap_days(moment, frequency, name, following):
    period = Period.of(moment, frequency)
    assert (str(period), str(period.next())) == (name, following)


@pytest.mark.parametrize(
    "name",
    ["2013-W53", "2013-W00", "2013-13", "2013-02-29", "0000-01", "9999-W52", "9999-12-31", "",
     "W05", "2013", "2013-W5", "2013-W05 ", "2013-W05\n", "last week"],
)  # fmt: skip
def test_a_name_that_is_no_period_is_repeated_in_the_error(name):
    with pytest.raises(EvergreenError, match="is not a period: write an ISO week") as error:
        Period.parse(name)
    assert repr(name) in str(error.value)


def test_as_of_is_a_moment_or_the_time_when_a_periods_labels_are_known():
    assert parse_as_of("2013-W08", DELAY) == datetime(2013, 2, 25, 12)
    assert parse_as_of("2013-02", DELAY) == datetime(2013, 3, 1, 12)
    assert parse_as_of("2013-02-25T09:30", DELAY) == datetime(2013, 2, 25, 9, 30)


@pytest.mark.parametrize("text", ["yesterday", "2013-02-25T12:00Z", "2013-02-25T12:00+01:00", ""])
def test_an_as_of_with_a_zone_or_without_sense_is_refused(text):
    with pytest.raises(EvergreenError, match="as_of") as error:
        parse_as_of(text, DELAY)
    assert repr(text) in str(error.value)
