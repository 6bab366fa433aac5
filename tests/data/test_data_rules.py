"""Batches of a real week, corrupted in many ways: each is refused by the name of what it is."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data import contracts, ingest, rules
from data.admission import Terms, admit, examine
from data.errors import RefusedError
from data.features import Numeric
from data.fields import Field
from data.params import Contract, load_params
from data.partitions import Partitions
from data.periods import Period, span
from data.profiles import profile, references
from data.quarantine import Quarantine
from tests import planted
from tests.corruptions import FIELDS

from data.flights import PROBLEM  # isort: skip

WEEK = Period.parse("2013-W20")
BEFORE = [f"2013-W{number}" for number in range(12, 20)]


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """All real weeks through the door, in order, with what ingest said of each."""
    folder = tmp_path_factory.mktemp("year")
    partitions, done = Partitions(folder / "raw"), {}
    for name in PROBLEM.periods():
        period = Period.parse(name)
        batch = ingest.deliver(PROBLEM, period)
        done[name] = ingest.ingest(PROBLEM, partitions, period, batch)
    return folder, done


def test_all_real_weeks_pass_in_order_and_no_row_is_quarantined(year):
    folder, done = year
    assert len(done) == 53 and sum(week.rows for week in done.values()) == 336_776
    assert {name for name, week in done.items() if week.quarantined} == set()
    assert not list((folder / "quarantine").glob("2*"))


def test_rules_that_compare_are_skipped_by_name_while_there_is_no_reference(year):
    _, done = year
    comparing = tuple(rule.name for rule in rules.BATCH if rule.compares)
    assert [done[f"2013-W0{n}"].skipped for n in range(1, 6)] == [comparing] * 4 + [()]
    assert re.search("too few periods to check .*volume", done["2013-W01"].message)
    assert not any(done[name].skipped for name in list(done)[4:])


def test_the_same_week_again_is_accepted_whatever_came_after(year):
    folder, _ = year
    for name in ("2013-W01", "2013-W06", "2014-W01"):
        period = Period.parse(name)
        batch = ingest.deliver(PROBLEM, period)
        again = ingest.ingest(PROBLEM, Partitions(folder / "raw"), period, batch)
        assert again.changed == ()


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Partitions:
    """The eight weeks before."""
    partitions = Partitions(tmp_path_factory.mktemp("before") / "raw")
    for name in BEFORE:
        period = Period.parse(name)
        ingest.ingest(PROBLEM, partitions, period, ingest.deliver(PROBLEM, period), labels=False)
    return partitions


@pytest.fixture(scope="module")
def batch():
    return ingest.deliver(PROBLEM, WEEK)


@pytest.fixture(scope="module")
def rows(batch):
    return contracts.check(contracts.rows_schema(PROBLEM.fields), PROBLEM.prepare(batch), "rows")


def swap(a: str, b: str) -> Callable:
    return lambda r: r.assign(**{a: r[b].to_numpy(), b: r[a].to_numpy()})


def celsius(*names: str) -> Callable:
    return lambda r: r.assign(**{name: (r[name] - 32) / 1.8 for name in names})


def earlier(frame: pd.DataFrame) -> pd.DataFrame:
    """The week before under this week's name: moments and keys moved by seven days."""
    other = PROBLEM.prepare(ingest.deliver(PROBLEM, WEEK.previous()))
    moment = other["scheduled_departure"] + pd.Timedelta(days=7)
    return other.assign(scheduled_departure=moment, key="again|" + other["key"])


def old_keys(frame: pd.DataFrame) -> pd.DataFrame:
    other = PROBLEM.prepare(ingest.deliver(PROBLEM, WEEK.previous()))["key"]
    return frame.assign(key=[*other[: len(frame)], *frame["key"][len(other) :]])


def some(name: str, share: float) -> Callable:
    return lambda r: r.assign(**{name: r[name].where(np.arange(len(r)) % 100 >= share * 100)})


CORRUPTIONS = {
    "missing column": (lambda r: r.drop(columns="temp"), "missing column: column 'temp'"),
    "renamed": (lambda r: r.rename(columns={"temp": "temperature"}), "is it 'temperature'"),
    "renamed to another word": (
        lambda r: r.rename(columns={"dest": "arrives_at"}),
        "renamed column: column 'dest' is missing: is it 'arrives_at'",
    ),
    "retyped to text": (
        lambda r: r.assign(distance=r["distance"].astype(str) + " mi"),
        "retyped column: 'distance' .100% of its cells",
    ),
    "retyped to number": (
        lambda r: r.assign(carrier=np.arange(len(r)) % 9),
        "retyped column: 'carrier'",
    ),
    "moment as a number": (
        lambda r: r.assign(scheduled_departure=r["scheduled_departure"].astype("int64")),
        "retyped column: 'scheduled_departure'",
    ),
    "extra": (lambda r: r.assign(wind=1.0), "extra column: column 'wind'"),
    "half of the rows": (lambda r: r.iloc[::2], "volume: 32.. rows, where .* about 65"),
    "a day and a half": (lambda r: r.iloc[:1400], "volume: 1400 rows"),
    "twice the rows": (
        lambda r: pd.concat([r, r.assign(key="x" + r["key"], seats=r["seats"] + 1)]),
        "volume: 13046 rows",
    ),
    "duplicated": (lambda r: pd.concat([r, r.iloc[:9]]), "duplicated keys: key: 9 of"),
    "delivered before": (earlier, r"delivered before: 100% of its contents are in .*2013-W19"),
    "old keys": (old_keys, r"delivered before: 6\d{3} keys are in partition 2013-W19"),
    "another week": (
        lambda r: r.assign(scheduled_departure=r["scheduled_departure"] + pd.Timedelta(days=2)),
        "rows of another period: 1... rows",
    ),
    "hour and day swapped": (swap("departures_hour", "departures_day"), "swapped columns: 'dep"),
    "seats and age swapped": (swap("aircraft_age", "seats"), "'aircraft_age' and 'seats' look sw"),
    "origin and dest swapped": (swap("origin", "dest"), "'origin' and 'dest' look swapped"),
    "carrier and dest swapped": (swap("carrier", "dest"), "'carrier' and 'dest' look swapped"),
    "temp and dewp swapped": (swap("temp", "dewp"), "'dewp' and 'temp' look swapped"),
    "wind swapped": (swap("wind_dir", "wind_speed"), "'wind_dir' and 'wind_speed' look swapped"),
    "miles to km": (
        lambda r: r.assign(distance=r["distance"] * 1.609344),
        r"changed unit: 'distance' looks like kilometres .delivered = 1\.60934 \* usual",
    ),
    "°F to °C": (
        celsius("temp", "dewp"),
        r"changed unit: 'temp' looks like °C .delivered = 0\.555556 \* usual -17\.7778.; 'dewp'",
    ),
    "one of them to °C": (celsius("temp"), "changed unit: 'temp' looks like °C"),
    "mb to inHg": (
        lambda r: r.assign(pressure=r["pressure"] / 33.8639),
        "'pressure' looks like inches of mercury",
    ),
    "% to a share": (lambda r: r.assign(humid=r["humid"] / 100), "'humid' looks like a share of 1"),
    "nulls": (some("temp", 0.4), "flood of nulls: 'temp' is missing in 40%"),
    "all nulls": (lambda r: r.assign(seats=np.nan), "flood of nulls: 'seats' .* in 100%"),
    "constant": (lambda r: r.assign(temp=57.0), "constant column: 'temp' has one value"),
    "constant text": (lambda r: r.assign(carrier="UA"), "constant column: 'carrier'"),
    "bad rows": (
        lambda r: r.assign(visib=r["visib"].where(np.arange(len(r)) % 5 > 0, 99.0)),
        r"too many bad rows: 1305 of 6523 rows .*visib: less_than",
    ),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupt_week_is_refused_by_the_name_of_its_cause(kind, before, rows, contents):
    corrupt, said = CORRUPTIONS[kind]
    untouched, corrupted = contents(before.folder), corrupt(rows).reset_index(drop=True)
    with pytest.raises(RefusedError, match=said):
        ingest.ingest(PROBLEM, before, WEEK, corrupted, labels=False)
    assert contents(before.folder) == untouched
    quarantine = Quarantine(before.folder.with_name("quarantine"))
    assert quarantine.rows(WEEK).empty
    assert len(corrupted) in {kept.rows for kept in quarantine.refused(WEEK)}


MORE = (
    "temp to °C", "dewp to °C", "temp from °C", "wind to m/s", "wind to knots", "visib to km",
    "pressure to kPa", "half of the temperatures to °C", "distance x 0.1", "distance x -1",
    "temp and humid swapped", "wind_speed and wind_gust swapped", "temp stuck for half",
    "constant moment", "temp missing in 25%", "carrier missing in 50%", "pressure missing in 60%",
    "key missing in 30%", "a column twice", "a day is missing", "moments five hours later",
    "carriers in lower case", "unseen airports", "an airline is gone",
)  # fmt: skip


@pytest.mark.parametrize("kind", MORE)
def test_more_corruptions_have_their_right_name(kind, before, rows):
    expected, change = FIELDS[kind]

    def judged() -> None:
        delivered = examine(PROBLEM, WEEK, change(rows), "the batch")
        admit(PROBLEM, before, delivered, Terms(Contract()), False)

    with pytest.raises(RefusedError, match=f"({expected}):"):
        judged()


def test_harmless_changes_are_accepted(before, rows):
    harmless = [change for name, change in FIELDS.values() if name is None]
    assert len(harmless) >= 6
    for change in harmless:
        delivered = examine(PROBLEM, WEEK, change(rows), "the batch")
        assert delivered.sifted.broken.empty
        assert admit(PROBLEM, before, delivered, Terms(Contract()), False) == []


SOURCE = {
    "missing": (lambda b: b.drop(columns="tailnum"), "missing column: column 'tailnum'"),
    "renamed": (lambda b: b.rename(columns={"dest": "destination"}), "is it 'destination'"),
    "extra": (lambda b: b.assign(mood="good"), "extra column: column 'mood'"),
    "late": (
        lambda b: b.assign(distance=500.0 + b["arr_delay"].fillna(0)),
        "label leak: 'distance' alone predicts the label with ROC-AUC",
    ),
    "missing where late": (
        lambda b: b.assign(tailnum=b["tailnum"].where(~(b["arr_delay"] >= 15))),
        "label leak: '(aircraft_age|seats)'",
    ),
    "told by name": (
        lambda b: b.assign(dest=np.where(b["arr_delay"] >= 15, "LAX", "ORD")),
        "label leak: 'dest'",
    ),
}


@pytest.mark.parametrize("kind", SOURCE)
def test_a_corrupt_table_of_the_source_is_refused_by_name(kind, before, batch):
    corrupt, said = SOURCE[kind]
    with pytest.raises(RefusedError, match=said):
        ingest.ingest(PROBLEM, before, WEEK, corrupt(batch))


def test_a_person_overrules_a_rule_by_its_name_and_only_that(before, rows):
    delivered = examine(PROBLEM, WEEK, rows.iloc[::2].assign(temp=57.0), "the batch")
    with pytest.raises(RefusedError, match="constant column") as error:
        admit(PROBLEM, before, delivered, Terms(Contract(), frozenset({"volume"})), False)
    assert "volume" not in str(error.value)
    both = frozenset({"volume", "constant column"})
    assert admit(PROBLEM, before, delivered, Terms(Contract(), both), False) == []


def test_a_damaged_reference_does_not_stop_a_good_week(tmp_path, filled):
    partitions = filled(tmp_path / "raw", "2024-W01", "2024-W06")
    (partitions.folder / "2024-W02.parquet").write_bytes(b"")
    filled(tmp_path / "raw", "2024-W07", "2024-W07")


def test_a_new_world_is_no_broken_batch(tmp_path, filled):
    """The planted queue is far longer than ever from a week on: that is drift, for the monitor."""
    partitions = filled(tmp_path / "raw", "2024-W01", "2024-W20")
    assert len(partitions.periods()) == 20
    assert not (tmp_path / "quarantine").exists()


def test_more_tolerance_lets_more_pass(before, rows):
    delivered = examine(PROBLEM, WEEK, rows.iloc[::2], "the batch")
    wide = replace(Terms(Contract()), contract=Contract(tolerance=9.0))
    assert admit(PROBLEM, before, delivered, wide, False) == []


def test_params_yaml_has_the_defaults(root):
    assert load_params(root / "params.yaml").contract == Contract()


def test_a_profile_does_not_depend_on_the_order_of_rows():
    found = planted.PROBLEM.prepare(planted.read(planted.FIRST))
    typed = contracts.typed(planted.PROBLEM, found).rows
    one = profile(planted.PROBLEM, "one", typed)
    other = profile(planted.PROBLEM, "one", typed.sample(frac=1, random_state=1))
    assert (one.contents == other.contents).all() and (one.keys == other.keys).all()
    assert (one.columns["queue"].values == other.columns["queue"].values).all()


def test_no_more_of_a_long_history_is_read_than_the_reference(tmp_path, filled):
    """The nearest periods, before or after; damaged ones give way to the next."""
    read = []

    class Watched(Partitions):
        def rows(self, period):
            read.append(period.name)
            return super().rows(period)

    folder = filled(tmp_path / "raw", "2024-W01", "2024-W09").folder
    (folder / "2024-W05.parquet").write_bytes(b"")
    found = references(planted.PROBLEM, Watched(folder), Period.parse("2024-W04"), 3)
    assert [profile.name for profile in found] == ["2024-W03", "2024-W02", "2024-W06"]
    assert set(read) == {"2024-W03", "2024-W05", "2024-W02", "2024-W06"}


def listed(period: Period) -> pd.DataFrame:
    """A list of the same 500 shelves every week, full or empty: half of its contents come again."""
    random = np.random.default_rng([1, (period.start - planted.FIRST.start).days])
    minutes = np.sort(random.integers(0, 7 * 24 * 60, 500)).astype("timedelta64[m]")
    return pd.DataFrame(
        {
            "key": [f"{period}-{n}" for n in range(500)],
            "sent_at": np.datetime64(period.start, "us") + minutes,
            "shelf": [f"s{n}" for n in range(500)],
            "full": random.integers(0, 2, 500),
        }
    )


def test_a_list_that_comes_again_is_no_batch_that_was_delivered_before(tmp_path):
    fields = (
        Field("sent_at", "timestamp", "of the look"),
        Field("shelf", "text", "its name"),
        Field("full", "integer", "whether it was", minimum=0, maximum=1),
    )
    problem = replace(
        planted.PROBLEM, fields=fields, features=(Numeric("full", "full"),), slices=()
    )
    partitions = Partitions(tmp_path / "raw")
    weeks = span(planted.FIRST, Period.parse("2024-W08"))
    for week in weeks:
        done = ingest.ingest(problem, partitions, week, listed(week), labels=False)
        assert done.rows == 500
    after, again = weeks[-1].next(), listed(weeks[-1])
    moved = again["sent_at"] + pd.Timedelta(days=7)
    batch = again.assign(key="x" + again["key"], sent_at=moved)
    with pytest.raises(RefusedError, match="delivered before: 100% of its contents"):
        ingest.ingest(problem, partitions, after, batch, labels=False)
