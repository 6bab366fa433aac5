"""The default problem's real source: every row once, nothing known only afterwards, right joins."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from data import contracts, flights
from data.periods import Period

AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
SCHEMA = contracts.rows_schema(flights.FIELDS)


@pytest.fixture(scope="module")
def weeks() -> dict[str, pd.DataFrame]:
    """Every week of the source after its contract."""
    found = {}
    for name in flights.periods():
        rows = flights.prepare(flights.read(Period.parse(name)))
        found[name] = contracts.check(SCHEMA, rows, name)
    return found


def test_every_row_of_the_year_is_in_exactly_one_week_that_holds_its_contract(weeks):
    assert len(weeks) == 53
    assert sum(map(len, weeks.values())) == 336_776
    assert pd.concat(rows["key"] for rows in weeks.values()).is_unique
    for name, rows in weeks.items():
        period, moments = Period.parse(name), rows["scheduled_departure"]
        assert moments.min() >= period.start and moments.max() < period.end


def test_every_row_has_an_outcome_or_a_reason_why_not(weeks):
    outcomes = flights.outcomes(flights._schedule())
    assert set(outcomes["key"]) == set(pd.concat(r["key"] for r in weeks.values()))
    assert (outcomes["label"].isna() == outcomes["excluded"].notna()).all()
    assert outcomes["excluded"].value_counts().to_dict() == {"cancelled": 8255, "diverted": 1175}


def test_nothing_known_only_afterwards_is_a_field_or_reaches_one():
    names = {field.name for field in flights.FIELDS}
    assert not names & set(AFTERWARDS)
    batch = flights.read(Period.parse("2013-W06"))
    random = np.random.default_rng(1)
    other = batch.assign(
        **{name: random.permutation(batch[name].to_numpy()) * 7 + 1 for name in AFTERWARDS}
    )
    pd.testing.assert_frame_equal(flights.prepare(other), flights.prepare(batch))
    without = flights.prepare(batch.drop(columns=AFTERWARDS))
    pd.testing.assert_frame_equal(without, flights.prepare(batch))
    assert flights.outcomes(batch.drop(columns=AFTERWARDS)) is None


@pytest.mark.parametrize("name", ["2013-W06", "2013-W10", "2013-W44"])
def test_the_weather_is_that_of_the_hour_before_also_where_clocks_change(weeks, name):
    """Looked up once more by way of local time; W10 and W44 end on the days of the changes."""
    table = flights._table("weather.csv")
    at = zip(table["origin"], pd.to_datetime(table["time_hour"], utc=True), strict=True)
    weather = dict(zip(at, table[list(flights.WEATHER)].to_numpy(dtype=float), strict=True))
    zone, hour = ZoneInfo("America/New_York"), pd.Timedelta(hours=1)
    rows = weeks[name]
    rows = rows[rows["scheduled_departure"].dt.dayofweek >= 5]
    moments = rows["scheduled_departure"].dt.tz_localize(zone).dt.tz_convert("UTC").dt.floor("h")
    nothing = np.full(len(flights.WEATHER), np.nan)
    expected = [
        weather.get((origin, moment - hour), nothing)
        for origin, moment in zip(rows["origin"], moments, strict=True)
    ]
    found = rows[list(flights.WEATHER)].to_numpy(dtype=float)
    np.testing.assert_array_equal(found, np.array(expected))
    assert np.isfinite(found[:, 0]).mean() > 0.9


def test_departures_count_the_schedule_of_that_airport(weeks):
    rows = weeks["2013-W06"]
    one = rows.iloc[1000]
    moment = one["scheduled_departure"]
    there = rows[rows["origin"] == one["origin"]]["scheduled_departure"]
    assert one["departures_day"] == (there.dt.date == moment.date()).sum()
    assert one["departures_hour"] == (there.dt.floor("h") == moment.floor("h")).sum()
    own = there[rows["carrier"] == one["carrier"]]
    assert one["carrier_day"] == (own.dt.date == moment.date()).sum() > 1
    assert one["carrier_hour"] == (own.dt.floor("h") == moment.floor("h")).sum() > 1


@pytest.mark.parametrize("name", ["2013-W06", "2013-W10", "2013-W19"])
def test_the_rain_is_that_of_the_hours_before(weeks, name):
    """Added up once more, hour by hour, back from the hour before or to four in the morning."""
    table = flights._table("weather.csv")
    at = zip(table["origin"], pd.to_datetime(table["time_hour"], utc=True), strict=True)
    rain = dict(zip(at, table["precip"], strict=True))
    hour, rows = pd.Timedelta(hours=1), weeks[name]
    rows = rows[rows["precip_12h"].notna()].iloc[::97]
    assert (rows["precip_12h"] > 0).any()
    for row in rows.to_dict("records"):
        moment = row["scheduled_departure"].tz_localize("America/New_York").floor("h")
        until = moment.tz_convert("UTC") - hour
        back = [until - i * hour for i in range(12)]
        for hours in (3, 12):
            fell = [rain.get((row["origin"], h), 0.0) for h in back[:hours]]
            assert row[f"precip_{hours}h"] == pytest.approx(np.nansum(fell), abs=0.005)
        day = (moment - 5 * hour).date()
        same = [h for h in (until - i * hour for i in range(25))
                if (h.tz_convert("America/New_York") - 4 * hour).date() == day]  # fmt: skip
        wet = [rain.get((origin, h), 0.0) > 0 for origin in ("EWR", "JFK", "LGA") for h in same]
        assert row["wet_hours"] == sum(wet)


def test_weather_that_is_yet_to_come_changes_no_field(monkeypatch):
    batch = flights.read(Period.parse("2013-W06"))
    before, noon = flights.prepare(batch), pd.Timestamp("2013-02-08 12:00", tz="UTC")
    known, table = flights._table, flights._table("weather.csv")
    later = (pd.to_datetime(table["time_hour"], utc=True) >= noon).to_numpy()
    names = list(flights.WEATHER)
    other = table.assign(**{name: table[name].mask(later, 7.0) for name in names})
    monkeypatch.setattr(flights, "_table", lambda name: other if "weather" in name else known(name))
    flights._weather.cache_clear()
    after = flights.prepare(batch)
    flights._weather.cache_clear()
    early = (pd.to_datetime(batch["time_hour"], utc=True) <= noon).to_numpy()
    pd.testing.assert_frame_equal(after[early], before[early])
    assert not after[~early].equals(before[~early])
