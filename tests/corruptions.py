# ruff: noqa: E501 - a table, one line each
"""Ways in which a real week of flights goes wrong, each with the name that it must be refused by.

`FIELDS` change a batch in the form of a partition, `SOURCE` one in the form of the airlines' table.
None as the name: nothing is wrong, and every row must be accepted.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

Change = Callable[[pd.DataFrame], pd.DataFrame]
Corruption = tuple[str | None, Change]


def convert(factor: float, offset: float = 0.0, *names: str, digits: int = 12) -> Change:
    return lambda r: r.assign(**{name: (r[name] * factor + offset).round(digits) for name in names})


def swap(a: str, b: str) -> Change:
    return lambda r: r.assign(**{a: r[b].to_numpy(), b: r[a].to_numpy()})


def each(name: str, change: Callable[[pd.Series], pd.Series]) -> Change:
    return lambda r: r.assign(**{name: change(r[name])})


def set_in(name: str, share: float, value: object) -> Change:
    """A value in that share of the rows, spread over the whole batch."""

    def change(r: pd.DataFrame) -> pd.DataFrame:
        chosen = np.random.default_rng(5).random(len(r)) < share
        column = r[name].astype(object) if isinstance(value, str) else r[name].copy()
        return r.assign(**{name: column.mask(chosen, value)})

    return change


def stuck(name: str) -> Change:
    """The last value of the first half stays for the other half."""
    return lambda r: r.assign(
        **{name: r[name].where(np.arange(len(r)) < len(r) / 2, r[name].dropna().iloc[len(r) // 3])}
    )


def later(days: int) -> Change:
    moved = pd.Timedelta(days=days)
    return lambda r: r.assign(scheduled_departure=r["scheduled_departure"] + moved)


def shuffled(r: pd.DataFrame) -> pd.DataFrame:
    return r.sample(frac=1, random_state=3).reset_index(drop=True)


def again(share: float) -> Change:
    return lambda r: pd.concat([r, r.sample(frac=share, random_state=2)], ignore_index=True)


def other_content(r: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([r, r.iloc[:40].assign(seats=3.0)], ignore_index=True)


UNIT, SWAP, NULLS, CONSTANT = "changed unit", "swapped columns", "flood of nulls", "constant column"
FIELDS: dict[str, Corruption] = {
    "temp to °C": (UNIT, convert(5 / 9, -160 / 9, "temp")),
    "dewp to °C": (UNIT, convert(5 / 9, -160 / 9, "dewp")),
    "temp and dewp to °C": (UNIT, convert(5 / 9, -160 / 9, "temp", "dewp")),
    "temp and dewp to °C, rounded to .1": (UNIT, convert(5 / 9, -160 / 9, "temp", "dewp", digits=1)),
    "temp and dewp to °C, whole": (UNIT, convert(5 / 9, -160 / 9, "temp", "dewp", digits=0)),
    "temp from °C": (UNIT, convert(1.8, 32, "temp")),
    "dewp from °C": (UNIT, convert(1.8, 32, "dewp")),
    "temp to kelvin": (UNIT, convert(5 / 9, 255.372, "temp")),
    "wind to m/s": (UNIT, convert(0.44704, 0, "wind_speed")),
    "wind and gusts to m/s": (UNIT, convert(0.44704, 0, "wind_speed", "wind_gust")),
    "wind to m/s, rounded to .1": (UNIT, convert(0.44704, 0, "wind_speed", digits=1)),
    "wind to km/h": (UNIT, convert(1.609344, 0, "wind_speed")),
    "wind and gusts to km/h": (UNIT, convert(1.609344, 0, "wind_speed", "wind_gust")),
    "wind to knots": (UNIT, convert(1 / 1.15078, 0, "wind_speed")),
    "gusts to m/s": (UNIT, convert(0.44704, 0, "wind_gust")),
    "distance to km": (UNIT, convert(1.609344, 0, "distance")),
    "distance to whole km": (UNIT, convert(1.609344, 0, "distance", digits=0)),
    "distance to nautical miles": (UNIT, convert(1 / 1.15078, 0, "distance")),
    "distance to feet": (UNIT, convert(5280, 0, "distance")),
    "visib to km": (UNIT, convert(1.609344, 0, "visib")),
    "visib to metres": (UNIT, convert(1609.344, 0, "visib")),
    "precip to mm": (UNIT, convert(25.4, 0, "precip")),
    "pressure to inHg": (UNIT, convert(1 / 33.8639, 0, "pressure", digits=2)),
    "pressure to kPa": (UNIT, convert(0.1, 0, "pressure")),
    "pressure to Pa": (UNIT, convert(100, 0, "pressure")),
    "pressure to mmHg": (UNIT, convert(0.750062, 0, "pressure")),
    "humid to a share": (UNIT, convert(0.01, 0, "humid")),
    "wind_dir to radians": (UNIT, convert(np.pi / 180, 0, "wind_dir")),
    "age to months": (UNIT, convert(12, 0, "aircraft_age")),
    "age to days": (UNIT, convert(365.25, 0, "aircraft_age")),
    "half of the temperatures to °C": (
        UNIT, lambda r: r.assign(temp=r["temp"].where(np.arange(len(r)) % 2 > 0, (r["temp"] - 32) / 1.8)),
    ),
    **{f"{name} x {factor}": (UNIT, convert(factor, 0, name)) for name, factor in [
        ("temp", 10), ("temp", 0.1), ("distance", 10), ("distance", 0.1), ("distance", 100),
        ("distance", 0.001), ("seats", 10), ("seats", 0.1), ("seats", 100), ("departures_day", 0.1),
        ("departures_hour", 10), ("departures_hour", 0.1), ("wind_speed", 10), ("wind_speed", 0.1),
        ("humid", 0.1), ("pressure", 0.001), ("aircraft_age", 10), ("aircraft_age", 0.1),
        ("dewp", 0.1), ("visib", 10), ("visib", 0.1), ("distance", -1), ("temp", -1), ("seats", -1),
    ]},
    **{f"{a} and {b} swapped": (SWAP, swap(a, b)) for a, b in [
        ("temp", "dewp"), ("temp", "humid"), ("dewp", "humid"), ("wind_dir", "wind_speed"),
        ("wind_speed", "wind_gust"), ("origin", "dest"), ("carrier", "origin"), ("carrier", "dest"),
        ("departures_hour", "departures_day"), ("aircraft_age", "seats"), ("seats", "distance"),
        ("temp", "wind_speed"), ("visib", "precip"), ("distance", "departures_day"),
        ("pressure", "distance"), ("humid", "wind_dir"), ("temp", "visib"), ("pressure", "humid"),
        ("humid", "seats"), ("visib", "wind_speed"), ("departures_hour", "temp"),
        ("departures_hour", "aircraft_age"), ("seats", "departures_day"), ("wind_dir", "distance"),
    ]},
    **{f"constant {name}": (CONSTANT, lambda r, n=name: r.assign(**{n: r[n].dropna().iloc[0]}))
       for name in ("temp", "distance", "carrier", "origin", "seats", "pressure", "humid", "wind_speed",
                    "departures_day", "aircraft_age", "dewp")},
    "constant moment": (CONSTANT, lambda r: r.assign(scheduled_departure=r["scheduled_departure"].iloc[9])),
    **{f"{name} stuck for half": (CONSTANT, stuck(name))
       for name in ("temp", "pressure", "distance", "wind_speed", "carrier", "seats", "humid")},
    **{f"{name} missing in {share:.0%}": (NULLS, set_in(name, share, None)) for name, share in [
        ("temp", 0.25), ("temp", 0.5), ("temp", 1), ("dewp", 0.5), ("seats", 0.5), ("seats", 1),
        ("aircraft_age", 0.6), ("pressure", 0.6), ("wind_speed", 0.25), ("visib", 0.5), ("precip", 1),
        ("wind_gust", 1), ("wind_dir", 0.4), ("humid", 0.3), ("carrier", 0.5), ("origin", 0.5),
        ("dest", 1), ("distance", 0.3), ("distance", 1), ("departures_hour", 0.5),
        ("scheduled_departure", 0.3), ("key", 0.3),
    ]},
    "NA for carriers": ("unseen categories", set_in("carrier", 0.5, "NA")),
    "empty carriers": ("unseen categories|too many bad rows|flood of nulls", set_in("carrier", 0.5, "")),
    "NA for temp": ("retyped column", set_in("temp", 0.5, "NA")),
    "distance as text": ("retyped column", each("distance", lambda c: c.astype(str))),
    "temp as text": ("retyped column", each("temp", lambda c: c.astype(str))),
    "seats as bool": ("retyped column", each("seats", lambda c: c > 100)),
    "carrier as numbers": ("retyped column", each("carrier", lambda c: c.factorize()[0])),
    "moments as numbers": ("retyped column", each("scheduled_departure", lambda c: c.astype("int64"))),
    "moments as other text": (
        "retyped column", each("scheduled_departure", lambda c: c.dt.strftime("%d/%m/%Y %I:%M %p"))),
    "moments with a zone": ("retyped column", each("scheduled_departure", lambda c: c.dt.tz_localize("UTC"))),
    "typo in a name": ("renamed column", lambda r: r.rename(columns={"distance": "distnace"})),
    "name in capitals": ("renamed column", lambda r: r.rename(columns={"temp": "TEMP"})),
    "name padded": ("renamed column", lambda r: r.rename(columns={"temp": " temp "})),
    "all names in capitals": ("renamed column", lambda r: r.rename(columns=str.upper)),
    "two names exchanged for others": (
        "renamed column", lambda r: r.rename(columns={"temp": "temperature", "dest": "destination"})),
    "missing column": ("missing column", lambda r: r.drop(columns="pressure")),
    "two missing columns": ("missing column", lambda r: r.drop(columns=["pressure", "seats"])),
    "no key": ("missing column", lambda r: r.drop(columns="key")),
    "extra column": ("extra column", lambda r: r.assign(mood=1.0)),
    "two extra columns": ("extra column", lambda r: r.assign(mood=1.0, comment="x")),
    "missing and extra": ("renamed column", lambda r: r.drop(columns="seats").assign(zzz=1)),
    "a column twice": ("extra column|duplicated column", lambda r: pd.concat([r, r[["temp"]]], axis=1)),
    "all rows twice": ("duplicated keys", again(1.0)),
    "some rows twice": ("duplicated keys", again(0.02)),
    "a key with other content": ("duplicated keys", other_content),
    "half of the rows": ("volume", lambda r: r.iloc[::2]),
    "half of the week": ("volume", lambda r: r[r["scheduled_departure"].dt.dayofweek < 4]),
    "a day is missing": ("volume", lambda r: r[r["scheduled_departure"].dt.dayofweek != 2]),
    "twice the rows under other keys": (
        "volume|duplicated", lambda r: pd.concat([r, r.assign(key="x" + r["key"])], ignore_index=True)),
    "ten rows": ("volume", lambda r: r.iloc[:10]),
    "moments a day later": ("rows of another period", later(1)),
    "moments five hours later": (
        "rows of another period",
        each("scheduled_departure", lambda c: c + pd.Timedelta(hours=5))),
    "moments a year later": ("rows of another period", later(364)),
    "one row of another period": (
        "rows of another period",
        each("scheduled_departure", lambda c: c.mask(np.arange(len(c)) == 7, c + pd.Timedelta(days=9)))),
    "infinite temps": ("too many bad rows", set_in("temp", 0.3, np.inf)),
    "negative distances": ("too many bad rows|changed unit", set_in("distance", 0.3, -5.0)),
    "visib 99": ("too many bad rows", set_in("visib", 0.3, 99.0)),
    "unseen carriers": ("unseen categories", set_in("carrier", 0.3, "ZZ")),
    "unseen airports": ("unseen categories", set_in("dest", 0.3, "QQQ")),
    "carriers in lower case": ("unseen categories", each("carrier", lambda c: c.str.lower())),
    "airports padded": ("unseen categories|too many bad rows", each("dest", lambda c: c + " ")),
    "origins in lower case": ("unseen categories", each("origin", lambda c: c.str.lower())),
    "an airline is gone": ("dropped category", lambda r: r[r["carrier"] != "DL"]),
    "an airport is gone": ("dropped category", lambda r: r[r["origin"] != "LGA"]),
    "an airline under another's name": ("dropped category", each("carrier", lambda c: c.replace("B6", "UA"))),
    "rows in another order": (None, shuffled),
    "columns in another order": (None, lambda r: r[list(r.columns)[::-1]]),
    "counts as integers": (None, lambda r: r.astype({"departures_day": "int32", "distance": "int64"})),
    "moments as ISO text": (None, each("scheduled_departure", lambda c: c.dt.strftime("%Y-%m-%dT%H:%M:%S"))),
    "one row less": (None, lambda r: r.iloc[1:]),
    "another index": (None, lambda r: r.set_axis(range(7, 7 + len(r)))),
    "3 % of the temperatures are missing": (None, set_in("temp", 0.03, None)),
}  # fmt: skip


def late(b: pd.DataFrame) -> pd.Series:
    return b["arr_delay"] >= 15


def noisy(b: pd.DataFrame, share: float) -> np.ndarray:
    """The label, wrong in that share of the rows."""
    flip = np.random.default_rng(1).random(len(b)) < share
    return late(b).to_numpy() ^ flip


LEAK = "label leak"
SOURCE: dict[str, Corruption] = {
    "the label": (LEAK, lambda b: b.assign(distance=late(b) * 1.0 + 100)),
    "1 - the label": (LEAK, lambda b: b.assign(distance=101.0 - late(b))),
    "the label with 5 % noise": (LEAK, lambda b: b.assign(distance=noisy(b, 0.05) * 1.0 + 100)),
    "the label shifts a feature": (LEAK, lambda b: b.assign(distance=b["distance"] + 6000 * late(b))),
    "the label in the last digit": (LEAK, lambda b: b.assign(distance=b["distance"] + 0.001 * late(b))),
    "the delay under another name": (LEAK, lambda b: b.assign(distance=500 + b["arr_delay"].fillna(0))),
    "missing where late": (LEAK, lambda b: b.assign(tailnum=b["tailnum"].where(~late(b)))),
    "a word where late": (LEAK, lambda b: b.assign(dest=np.where(late(b), "LAX", "ORD"))),
    "one airport where late": (LEAK, lambda b: b.assign(dest=b["dest"].where(~late(b), "ZZZ"))),
    "labels all late": ("constant label", lambda b: b.assign(arr_delay=b["arr_delay"] * 0 + 99)),
    "labels all in time": ("constant label", lambda b: b.assign(arr_delay=b["arr_delay"] * 0)),
    "a label column of another name": ("extra column", lambda b: b.assign(is_late=late(b))),
    "distance to km": (UNIT, lambda b: b.assign(distance=b["distance"] * 1.609344)),
    "origin and dest swapped": (SWAP, swap("origin", "dest")),
    "origin is constant": (CONSTANT, lambda b: b.assign(origin="JFK")),
    "tailnum is constant": (CONSTANT, lambda b: b.assign(tailnum="N14228")),
    "no aircraft": (NULLS, lambda b: b.assign(tailnum=None)),
    "carrier missing in half": (NULLS, set_in("carrier", 0.5, None)),
    "day missing in half": (NULLS + "|too many bad rows", set_in("day", 0.5, None)),
    "distance as text": ("retyped column", each("distance", lambda c: c.astype(str))),
    "times as text": ("retyped column", each("sched_dep_time", lambda c: c.astype(str))),
    "times as clock": (
        "retyped column",
        each("sched_dep_time", lambda c: c.map(lambda t: f"{t // 100:02}:{t % 100:02}"))),
    "times in minutes": ("too many bad rows|changed unit", each("sched_dep_time", lambda c: c // 100 * 60 + c % 100)),
    "departure and arrival swapped": ("too many bad rows|swapped columns", swap("sched_dep_time", "sched_arr_time")),
    "month and day swapped": ("rows of another period|too many bad rows", swap("month", "day")),
    "another year": ("rows of another period|too many bad rows", each("year", lambda c: c + 1)),
    "renamed": ("renamed column", lambda b: b.rename(columns={"tailnum": "tail_num"})),
    "missing": ("missing column", lambda b: b.drop(columns="dest")),
    "extra": ("extra column", lambda b: b.assign(mood="good")),
    "half of the rows": ("volume", lambda b: b.iloc[::2]),
    "a day is missing": ("volume", lambda b: b[b["day"] != b["day"].iloc[len(b) // 2]]),
    "all rows twice": ("duplicated keys", again(1.0)),
    "lower case": ("unseen categories", each("carrier", lambda c: c.str.lower())),
    "in another order": (None, shuffled),
    "numbers with a point": (None, lambda b: b.astype({"year": float, "day": float, "distance": float, "flight": float})),
    "no outcomes": (None, lambda b: b.drop(columns=["arr_delay", "dep_time", "dep_delay", "arr_time", "air_time"])),
}  # fmt: skip
