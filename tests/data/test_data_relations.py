"""Sound values in the wrong rows: what goes together in the past has to go together now."""

import json

import numpy as np
import pytest

from data import field_history
from data.associations import ROWS, associations, hardly_repeats
from data.digests import canonical_json
from data.fields import Field
from data.monitor_params import Monitor
from data.reference import Reference
from data.relations import Gathered, Relations, losses
from data.soundness import contract
from data.verdicts import Verdict

FIELDS = (
    Field("moment", "timestamp", ""),
    Field("place", "text", ""),
    Field("line", "text", ""),
    Field("miles", "number", "", unit="miles"),
    Field("warm", "number", "", unit="°F"),
    Field("dew", "number", "", unit="°F"),
    Field("free", "number", "", nullable=True),
    Field("rain", "number", ""),
)
WEEKS, SIZE = 10, 1200
LINES = np.array(["A", "B", "C", "D", "E"], dtype=object)
PLACES = np.array([f"p{i:02d}" for i in range(20)], dtype=object)
LIMITS = Monitor(bins=10, minimum_rows=100, minimum_label_coverage=0.9, excluded_share_limit=0.15)


def week(random, season=0.0, size=SIZE):
    """Places lie in a distance of their own, two lines go to each, and it is warm by the hour.

    Of numbers that hardly repeat nothing is told; it rains in one hour of thirty.
    """
    hour = np.sort(random.integers(0, 168, size))
    start = np.datetime64("2024-01-01", "us")
    place = random.integers(0, len(PLACES), size)
    warm = np.round(60 + season + np.cumsum(random.normal(0, 1, 168)), 1)
    dew = np.round(warm - random.gamma(2, 4, 168), 1)
    rain = np.where(random.random(168) < 1 / 30, 0.1, 0.0)
    return {
        "moment": start + hour * np.timedelta64(3_600_000_000, "us"),
        "place": PLACES[place],
        "line": LINES[(place // 4 + random.integers(0, 2, size)) % len(LINES)],
        "miles": 100.0 + 37 * place + random.integers(0, 2, size),
        "warm": warm[hour],
        "dew": dew[hour],
        "free": np.where(random.random(size) < 0.1, np.nan, random.normal(0, 1, size)),
        "rain": rain[hour],
    }


def profile(periods) -> Reference:
    together = Gathered(FIELDS)
    fields = field_history.build(FIELDS, together.through(periods))
    return Reference((), (), fields, relations=together.relations())


@pytest.fixture(scope="module")
def known() -> Reference:
    random = np.random.default_rng(1)
    made = profile(week(random, season=i) for i in range(WEEKS))
    again = Reference.from_json(json.loads(canonical_json(made.to_json())))
    assert again.relations == made.relations
    assert [field.known for field in again.fields] == [field.known for field in made.fields]
    return made


def judge(known, columns, params=LIMITS):
    return contract(known, columns, len(columns["place"]), 0.02, params)


def test_how_much_one_field_tells_of_another_is_that_of_pairs_of_rows():
    random = np.random.default_rng(2)
    a = random.choice(["x", "y", "z"], 60).astype(object)
    b = np.where(random.random(60) < 0.5, 1.0, random.integers(0, 4, 60))
    found = associations({"a": a, "b": b}, [("a", "b")], ())
    pairs = [(i, j) for i in range(60) for j in range(60) if i != j]
    alike = [(i, j) for i, j in pairs if a[i] == a[j]]
    base = np.mean([b[i] == b[j] for i, j in pairs])
    told = (np.mean([b[i] == b[j] for i, j in alike]) - base) / (1 - base)
    assert found["a", "b"] == pytest.approx(told)
    other = associations({"a": np.char.upper(a.astype(str)).astype(object), "b": 7 - b / 3},
                         [("a", "b")], ())  # fmt: skip
    assert other == pytest.approx(found), "names and units do not matter"


def test_it_does_not_depend_on_the_rows_but_on_what_they_say():
    random = np.random.default_rng(3)
    many, few = (
        associations(week(random, size=size), [("moment", "warm"), ("place", "miles")], ())
        for size in (2 * ROWS, 500)
    )
    assert few["place", "miles"] == pytest.approx(many["place", "miles"], abs=0.1)
    for table in (many, few):
        assert table["moment", "warm"] > 0.4 and table["miles", "place"] > 0.95
    dealt = week(random)
    dealt["warm"] = random.permutation(dealt["warm"])
    assert abs(associations(dealt, [("moment", "warm")], ())["moment", "warm"]) < 0.03


def test_numbers_that_hardly_repeat_are_taken_by_rank():
    random = np.random.default_rng(4)
    x = random.normal(0, 1, 2000)
    columns = {"x": x, "y": x + random.normal(0, 0.1, 2000), "z": random.normal(0, 1, 2000)}
    assert hardly_repeats(x) and not hardly_repeats(np.round(x, 1))
    exact = associations(columns, [("x", "y")], ())
    ranked = associations(columns, [("x", "y"), ("x", "z")], ("x", "y", "z"))
    assert exact == {}, "no two rows are alike"
    assert ranked["x", "y"] > 0.15 > 0.01 > abs(ranked["x", "z"])


def test_weeks_like_the_past_and_a_season_that_goes_on_are_sound(known):
    random = np.random.default_rng(5)
    found = [judge(known, week(random, season=WEEKS + i / 2)) for i in range(40)]
    assert sum(each.verdict is not Verdict.OK for each in found) <= 1
    small = [judge(known, week(random, season=WEEKS, size=300)) for _ in range(20)]
    assert sum(each.verdict is not Verdict.OK for each in small) <= 1


def shuffled(name):
    return lambda columns, random: {name: random.permutation(columns[name])}


def exchanged(words, a, b):
    return np.where(words == a, b, np.where(words == b, a, words))


def slipped(*names, rows=1):
    return lambda columns, random: {name: np.roll(columns[name], rows) for name in names}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shuffled("warm"), "warm goes with the other fields 1"),
        (shuffled("miles"), "miles goes with the other fields"),
        (shuffled("place"), "place goes with the other fields"),
        (slipped("miles"), "miles goes with the other fields"),
        (lambda c, _: {"line": exchanged(c["line"], "A", "C")},
         "place with line comes as it never did in"),
        (slipped("place", rows=3), "place goes with the other fields"),
        (lambda c, _: {"warm": c["dew"], "dew": c["warm"]}, "warm is below dew in"),
        (lambda c, _: {"warm": (c["warm"] - 32) / 1.8}, "warm is below dew in"),
        (lambda c, _: {"miles": c["miles"] * 0.8047}, "miles has values within its range"),
        (lambda c, r: {"miles": np.where(r.random(SIZE) < 0.2, 137.0, c["miles"])},
         "miles has one value in"),
    ],
)  # fmt: skip
def test_rows_that_do_not_hold_together_are_broken_data(known, change, said):
    random = np.random.default_rng(6)
    columns = week(random, season=WEEKS)
    found = judge(known, {**columns, **change(columns, random)})
    assert found.verdict is Verdict.ALARM and said in found.reason
    assert found.value > found.threshold


@pytest.mark.parametrize("name", ["free", "rain"])
def test_of_a_field_that_tells_nothing_nothing_is_said(known, name):
    random = np.random.default_rng(7)
    columns = week(random, season=WEEKS)
    assert judge(known, {**columns, **shuffled(name)(columns, random)}).verdict is Verdict.OK


def test_rows_that_come_again_are_found_where_the_past_had_none(known):
    columns = week(np.random.default_rng(8), season=WEEKS)
    twice = {name: np.concatenate([v, v[: SIZE // 5]]) for name, v in columns.items()}
    found = judge(known, twice)
    assert found.verdict is Verdict.ALARM and "rows are another one again in 17%" in found.reason
    coarse = [week(np.random.default_rng(i)) for i in range(5)]
    for each in coarse:
        each["free"] = np.zeros(SIZE)
    usual = profile(coarse)
    assert usual.relations.repeated > 0.01
    again = {name: np.concatenate([v, v[: SIZE // 5]]) for name, v in coarse[0].items()}
    assert "again" not in judge(usual, again).reason


def test_an_order_is_one_of_rows_of_one_unit(known):
    assert known.relations.orders == (("warm", "dew"),)  # and not miles over warm, always so


def test_losing_more_than_ever_is_told_in_parts_of_what_was_usual(known):
    random = np.random.default_rng(9)
    columns = week(random, season=WEEKS)
    gone = {**columns, **shuffled("miles")(columns, random)}
    found = {loss.field: loss for loss in losses(known.relations, gone, 0.05)}
    assert found["miles"].value == pytest.approx(1, abs=0.05) and found["miles"].limit < 0.6
    assert found["warm"].value < found["warm"].limit
    strict = {loss.field: loss.limit for loss in losses(known.relations, gone, 0.01)}
    assert all(strict[name] >= found[name].limit for name in found)


def test_a_model_without_relations_is_watched_by_what_it_has(known):
    random = np.random.default_rng(10)
    columns = week(random, season=WEEKS)
    old = {name: value for name, value in known.to_json().items() if name != "relations"}
    for field in old["fields"]:
        for name in ("values", "common", "fresh", "between", "spike"):
            del field[name]
    before = Reference.from_json(json.loads(canonical_json(old)))
    fine = judge(before, {**columns, **shuffled("warm")(columns, random)})
    assert fine.verdict is Verdict.OK and "train it again" in fine.reason
    assert judge(before, {**columns, "warm": np.full(SIZE, 1.0)}).verdict is Verdict.ALARM
    assert profile([week(random) for _ in range(3)]).relations is None


def test_of_a_long_past_the_newest_periods_tell(monkeypatch):
    monkeypatch.setattr("data.relations.NEWEST", 6)
    random = np.random.default_rng(11)
    long = profile(week(random, season=i) for i in range(9)).relations
    assert {len(pair.told) for pair in long.pairs} == {6}


def test_of_many_partners_the_strongest_are_kept():
    random = np.random.default_rng(12)
    fields = tuple(Field(f"n{i:02d}", "number", "") for i in range(30))
    together = Gathered(fields)

    def period():
        one = random.integers(0, 8, 900)
        return {f.name: np.where(random.random(900) < 0.01 * i, 0.0, one) + 0.0
                for i, f in enumerate(fields)}  # fmt: skip

    list(together.through(period() for _ in range(4)))
    pairs = together.relations().pairs
    assert {field.name for field in fields} == {pair.given for pair in pairs}
    assert len(pairs) < 30 * 29 / 1.3
    assert max(sum(p.given == f.name for p in pairs) for f in fields[-5:]) == 12


def test_constants_empty_columns_and_no_rows_have_no_relations():
    columns = {"a": np.full(50, 1.0), "b": np.full(50, np.nan), "c": np.arange(50.0) % 5}
    assert associations(columns, [("a", "b"), ("a", "c"), ("b", "c")], ()) == {}
    assert associations({n: v[:0] for n, v in columns.items()}, [("a", "c")], ()) == {}
    assert losses(Relations((), (), (), 0.0), columns, 0.05) == []
