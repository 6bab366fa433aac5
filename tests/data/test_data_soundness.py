"""The contract monitor: broken data is found by what the past showed, a season is not broken."""

import json

import numpy as np
import pytest

from data import field_history
from data.digests import canonical_json
from data.field_history import FieldHistory, Known
from data.fields import Field
from data.monitor_params import Monitor
from data.reference import Reference
from data.soundness import contract
from data.verdicts import Verdict

FIELDS = (
    Field("moment", "timestamp", ""),
    Field("word", "text", ""),
    Field("level", "number", "", nullable=True),
    Field("count", "integer", "", minimum=0),
)
ROWS, WEEKS = 400, 12
LIMITS = Monitor(bins=10, minimum_rows=100, minimum_label_coverage=0.9, excluded_share_limit=0.15)


def week(random, season=0.0):
    level = random.normal(season, 1, ROWS)
    level[random.random(ROWS) < 0.1] = np.nan
    return {
        "word": random.choice(["a", "b", "c"], ROWS).astype(object),
        "level": level,
        "count": random.integers(0, 30, ROWS).astype(float),
    }


@pytest.fixture(scope="module")
def history():
    random = np.random.default_rng(1)
    return field_history.build(FIELDS, [week(random, i / 4) for i in range(WEEKS)])


def judge(history, columns, excluded=0.02):
    known = Reference((), (), tuple(history))
    return contract(known, columns, len(columns["word"]), excluded, LIMITS)


def test_a_season_that_goes_on_is_sound_and_the_history_survives_json(history):
    columns = week(np.random.default_rng(2), season=WEEKS / 4)
    assert judge(history, columns).verdict is Verdict.OK
    again = [FieldHistory.from_json(json.loads(canonical_json(h.to_json()))) for h in history]
    assert judge(again, columns).verdict is Verdict.OK
    assert [h.known for h in again] == [h.known for h in history]
    assert [h.name for h in history] == ["word", "level", "count"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("level", lambda v: np.where(np.arange(ROWS) % 3, v, np.nan), "level is missing"),
        ("level", lambda v: np.full(ROWS, np.nan), "level is missing in 100%"),
        ("level", lambda v: np.full(ROWS, 1.5), "level has one value in 100%"),
        ("level", lambda v: v * 10, "level lies outside its range"),
        ("count", lambda v: v * 100, "count lies outside its range"),
        ("word", lambda v: np.where(np.arange(ROWS) % 10, v, "z"), "word has new words in 10%"),
    ],
)
def test_what_is_broken_is_named(history, name, change, said):
    columns = week(np.random.default_rng(3), season=WEEKS / 4)
    found = judge(history, {**columns, name: change(columns[name])})
    assert found.verdict is Verdict.ALARM and said in found.reason
    assert found.value > found.threshold


def test_events_without_an_outcome_and_what_is_not_known(history):
    columns = week(np.random.default_rng(4), season=2.0)
    assert judge(history, columns, excluded=0.2).verdict is Verdict.ALARM
    assert judge(history, columns, excluded=None).verdict is Verdict.UNKNOWN
    assert judge((), columns).verdict is Verdict.UNKNOWN
    few = {name: values[:99] for name, values in columns.items()}
    assert judge(history, few).verdict is Verdict.UNKNOWN
    broken = {**columns, "level": np.full(ROWS, np.nan)}
    assert judge(history, broken, excluded=None).verdict is Verdict.ALARM


def test_growth_is_measured_against_what_came_before():
    known = Known(None).and_also(np.array([0.0, 10.0]), 2)
    assert known.growth(np.array([5.0, 12.0, -2.0, 10.0])) == pytest.approx(0.1)
    words = Known(frozenset()).and_also(np.array(["a"], dtype=object), 1)
    assert words.growth(np.array(["a", "b"], dtype=object)) == 0.5
    many = words.and_also(np.array([str(i) for i in range(3000)], dtype=object), 3000)
    assert many.words is None and many.growth(np.array(["new"], dtype=object)) == 0.0
