"""The columnar and the row form of a feature are the same function, bit for bit."""

import json
from datetime import datetime
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data import features
from data.digests import canonical_json
from data.features import CalendarPart, Category, HistoricalRate, Numeric, Ratio

PARTS = ("hour", "minute", "weekday", "month", "day")
SPECS = (
    *(CalendarPart(part, "moment", part) for part in PARTS),
    Category("text", "text"),
    HistoricalRate("rate", "text", strength=3.0),
    Numeric("number", "number"),
    Numeric("count", "count"),
    Ratio("ratio", "number", "count"),
    Ratio("inverse", "count", "number"),
)
TEXTS = st.none() | st.sampled_from(["", "a", "b", "a\x00"]) | st.text(max_size=4)
NUMBERS = st.none() | st.sampled_from([0.0, -0.0, 5e-324, 1e308]) | st.floats(allow_nan=False)
COUNTS = st.none() | st.integers(-(2**53), 2**53)
MOMENTS = st.none() | st.datetimes(datetime.min, datetime.max)
ROWS = st.lists(
    st.fixed_dictionaries({"moment": MOMENTS, "text": TEXTS, "number": NUMBERS, "count": COUNTS}),
    min_size=1,
    max_size=12,
)


def to_columns(rows: list[dict]) -> dict[str, np.ndarray]:
    def take(name: str) -> list:
        return [row[name] for row in rows]

    text = np.empty(len(rows), dtype=object)
    text[:] = take("text")
    return {
        "moment": np.array(take("moment"), dtype="datetime64[us]"),
        "text": text,
        "number": np.array(take("number"), dtype=np.float64),
        "count": np.array(take("count"), dtype=np.float64),
    }


def labels(n: int) -> np.ndarray:
    return (np.arange(n) % 3 == 0).astype(np.int8)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal float32 bit for bit; there is only one NaN."""
    nan = np.isnan(left)
    bits = left.view(np.uint32) == right.view(np.uint32)
    return left.shape == right.shape and bool(np.all(np.where(nan, np.isnan(right), bits)))


@settings(max_examples=300, deadline=None)
@given(past=ROWS, now=ROWS)
def test_columns_and_rows_agree_bit_for_bit_and_through_json(past, now):
    with np.errstate(all="ignore"):
        fitted = features.fit(SPECS, to_columns(past), labels(len(past)))
        again = features.from_json(json.loads(canonical_json(features.to_json(fitted))))
        assert again == fitted
        matrix = features.transform(fitted, to_columns(now))
        encode = features.row_function(again)
        by_row = np.array([encode(row) for row in now], dtype=np.float32)
        assert matrix.dtype == np.float32 and matrix.shape == (len(now), len(SPECS))
        assert same_bits(matrix, by_row)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_calendar_parts_are_those_of_the_calendar(rows):
    matrix = features.transform(SPECS[:5], to_columns(rows))
    for row, found in zip(rows, matrix, strict=True):
        if (moment := row["moment"]) is None:
            assert np.isnan(found).all()
        else:
            month_day = [moment.month, moment.day]
            expected = [moment.hour, moment.minute, moment.weekday(), *month_day]
            assert found.tolist() == expected


def test_what_a_fitted_feature_means():
    text = np.array(["b", "a", None, "b"], dtype=object)
    label = np.array([1, 0, 1, 1], dtype=np.int8)
    specs = (Category("code", "text"), HistoricalRate("rate", "text", strength=2.0))
    fitted = features.fit(specs, {"text": text}, label)
    now = {"text": np.array(["a", "b", "never seen", None], dtype=object)}
    code, rate = features.transform(fitted, now).T
    # (positives + 2 * 0.75) / (rows + 2); an unseen category has the overall rate
    np.testing.assert_array_equal(code, [0, 1, -1, np.nan])
    np.testing.assert_allclose(rate, [1.5 / 3, 3.5 / 4, 0.75, np.nan], rtol=1e-6)


def test_categories_that_differ_only_in_a_trailing_nul_stay_apart():
    text = np.array(["a", "a\x00"], dtype=object)
    rate = HistoricalRate("rate", "text", strength=0.0)
    fitted = features.fit((rate,), {"text": text}, np.array([0, 1], dtype=np.int8))
    assert features.transform(fitted, {"text": text}).ravel().tolist() == [0.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(past=ROWS, now=ROWS)
def test_transforming_other_rows_leaves_the_fitted_state_and_each_row_alone(past, now):
    """A row's features depend on the training rows and itself, never on its neighbours."""
    with np.errstate(all="ignore"):
        fitted = features.fit(SPECS, to_columns(past), labels(len(past)))
        state = canonical_json(features.to_json(fitted))
        together = features.transform(fitted, to_columns(past + now))
        assert same_bits(together[len(past) :], features.transform(fitted, to_columns(now)))
        assert canonical_json(features.to_json(fitted)) == state


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, cuts=st.sets(st.integers(0, 12)))
def test_counts_of_parts_merge_to_the_counts_of_the_whole(rows, cuts):
    """The fitted state of parts is that of the whole, bit for bit, wherever it is cut."""
    label = labels(len(rows))
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [features.count(SPECS, to_columns(rows[a:b]), label[a:b]) for a, b in pairwise(edges)]
    whole = features.count(SPECS, to_columns(rows), label)
    assert features.merge(parts) == whole
    again = features.fit_counts(SPECS, features.merge(reversed(parts)))
    assert again == features.fit(SPECS, to_columns(rows), label)
