"""What can go wrong with a week of flights, after the door or before it; some of it harmless.

A fault changes raw columns, labels, or both, of one day's rows: it is given those of the day, how
many weeks it has lasted, and a stream's own random generator and turn (which column it hits).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Columns = dict[str, np.ndarray]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure",
           "visib"]  # fmt: skip


@dataclass(frozen=True)
class Day:
    """Labelled rows of one day; columns and label have shape (n,)."""

    columns: Columns
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def put(self, **columns: np.ndarray) -> "Day":
        return replace(self, columns={**self.columns, **columns})


@dataclass(frozen=True)
class Stream:
    """A stream's own luck: `turn` chooses among the variants of a fault."""

    turn: int
    random: np.random.Generator

    def pick(self, variants: list) -> object:
        return variants[self.turn % len(variants)]


Fault = Callable[[Day, int, Stream], Day]


def unit(day: Day, _: int, stream: Stream) -> Day:
    name, change = stream.pick([
        ("temp", lambda v: (v - 32) / 1.8),
        ("distance", lambda v: v * 1.609344),
        ("wind_speed", lambda v: v * 0.44704),
        ("pressure", lambda v: v * 0.02953),
        ("dewp", lambda v: (v - 32) / 1.8),
        ("visib", lambda v: v * 1.609344),
    ])  # fmt: skip
    return day.put(**{name: change(day.columns[name])})


def scale(day: Day, _: int, stream: Stream) -> Day:
    name, factor = stream.pick([
        ("wind_speed", 0.5), ("seats", 10.0), ("humid", 0.01), ("departures_day", 0.5),
        ("aircraft_age", 12.0), ("distance", 0.1),
    ])  # fmt: skip
    return day.put(**{name: day.columns[name] * factor})


def missing_join(day: Day, _: int, stream: Stream) -> Day:
    """The weather, or the aircraft, of one row in five or of all."""
    names, share = stream.pick([
        (WEATHER, 1.0), (WEATHER, 0.2), (["aircraft_age", "seats"], 1.0), (["pressure"], 1.0),
    ])  # fmt: skip
    gone = stream.random.random(len(day)) < share
    return day.put(**{name: np.where(gone, np.nan, day.columns[name]) for name in names})


def stuck(day: Day, _: int, stream: Stream) -> Day:
    name, value = stream.pick([
        ("pressure", 1016.0), ("temp", 48.0), ("humid", 60.0), ("wind_speed", 9.2),
        ("dewp", 33.0), ("departures_hour", 16.0),
    ])  # fmt: skip
    return day.put(**{name: np.full(len(day), value)})


def swapped(day: Day, _: int, stream: Stream) -> Day:
    a, b = stream.pick([
        ("temp", "dewp"), ("temp", "humid"), ("wind_speed", "wind_gust"),
        ("departures_hour", "departures_day"), ("aircraft_age", "seats"), ("humid", "visib"),
    ])  # fmt: skip
    return day.put(**{a: day.columns[b], b: day.columns[a]})


def permuted(day: Day, _: int, stream: Stream) -> Day:
    """Sound values of a field in the wrong rows: any row of the day."""
    name = stream.pick([
        "dest", "temp", "seats", "pressure", "departures_hour", "wind_speed", "carrier", "humid",
        "distance", "visib", "aircraft_age", "dewp",
    ])  # fmt: skip
    return day.put(**{name: stream.random.permutation(day.columns[name])})


def slipped(day: Day, _: int, stream: Stream) -> Day:
    """A join whose rows are one or some too far down."""
    names, rows = stream.pick([
        (WEATHER, 1), (["aircraft_age", "seats"], 1), (["distance"], 1), (WEATHER, 7),
        (["departures_hour", "departures_day"], 3), (["temp"], 5),
    ])  # fmt: skip
    return day.put(**{name: np.roll(day.columns[name], rows) for name in names})


def sentinel(day: Day, _: int, stream: Stream) -> Day:
    """What stands in for a missing value, in one row of five."""
    name, value = stream.pick([
        ("temp", 0.0), ("pressure", -999.0), ("wind_speed", 0.0), ("distance", 0.0),
        ("seats", 0.0), ("humid", -999.0), ("departures_day", 0.0), ("aircraft_age", 0.0),
        ("dewp", -999.0), ("visib", 0.0), ("distance", -999.0), ("departures_hour", 0.0),
    ])  # fmt: skip
    hit = stream.random.random(len(day)) < 0.2
    return day.put(**{name: np.where(hit, value, day.columns[name])})


def renamed(day: Day, _: int, stream: Stream) -> Day:
    """Two words of a field exchanged, or all of them written otherwise."""
    name, how = stream.pick([("carrier", "exchanged"), ("dest", "small"), ("origin", "exchanged")])
    values = day.columns[name]
    if how == "small":
        return day.put(**{name: np.array([v.lower() for v in values], dtype=object)})
    a, b = ("UA", "DL") if name == "carrier" else ("EWR", "LGA")
    return day.put(**{name: np.where(values == a, b, np.where(values == b, a, values))})


def duplicated(day: Day, _: int, stream: Stream) -> Day:
    """Rows that come twice: all of them, or one in five."""
    twice = stream.random.random(len(day)) < stream.pick([1.0, 0.2])
    rows = np.sort(np.concatenate([np.arange(len(day)), np.flatnonzero(twice)]))
    return Day({name: values[rows] for name, values in day.columns.items()}, day.label[rows])


def clock(day: Day, _: int, stream: Stream) -> Day:
    """Another time zone, written as if it were local."""
    hours = stream.pick([5, -3, 12])
    moved = day.columns["scheduled_departure"] + np.timedelta64(int(hours), "h")
    return day.put(scheduled_departure=moved)


def burst(day: Day, _: int, stream: Stream) -> Day:
    """A word nobody knows, in a tenth to half of the rows."""
    name, share = stream.pick([("carrier", 0.3), ("dest", 0.1), ("carrier", 0.1), ("dest", 0.5)])
    hit = stream.random.random(len(day)) < share
    values = day.columns[name].copy()
    values[hit] = "XX1"
    return day.put(**{name: values})


def label_flip(day: Day, _: int, stream: Stream) -> Day:
    """Labels turned round: all of them, or three in ten."""
    hit = stream.random.random(len(day)) < stream.pick([1.0, 0.3])
    return replace(day, label=np.where(hit, 1 - day.label, day.label))


def reversed_hour(day: Day, _: int, stream: Stream) -> Day:
    """What happened to the evening happens to the morning, with every day's rate as it was."""
    order = np.argsort(day.columns["scheduled_departure"], kind="stable")
    label = day.label.copy()
    label[order] = day.label[order[::-1]]
    return replace(day, label=label)


def slice_worse(day: Day, _: int, stream: Stream) -> Day:
    """Three carriers are late fifteen points more often."""
    three = stream.pick([["UA", "EV", "B6"], ["DL", "AA", "MQ"], ["US", "WN", "9E"],
                         ["UA", "AA", "US"]])  # fmt: skip
    return _later(day, np.isin(day.columns["carrier"], three), 0.15, stream)


def base_rate(day: Day, weeks: int, stream: Stream) -> Day:
    """Three points more late flights each week."""
    return _later(day, np.ones(len(day), dtype=bool), 0.03 * weeks, stream)


def _later(day: Day, rows: np.ndarray, points: float, stream: Stream) -> Day:
    on_time = rows & (day.label == 0)
    chance = points * rows.sum() / max(on_time.sum(), 1)
    hit = on_time & (stream.random.random(len(day)) < chance)
    return replace(day, label=np.where(hit, 1, day.label).astype(day.label.dtype))


def halved(day: Day, _: int, stream: Stream) -> Day:
    keep = stream.random.random(len(day)) < 0.5
    return Day({name: values[keep] for name, values in day.columns.items()}, day.label[keep])


def nothing(day: Day, _: int, stream: Stream) -> Day:
    return day


GROSS: dict[str, Fault] = {
    "unit change": unit,
    "scale": scale,
    "missing join": missing_join,
    "stuck sensor": stuck,
    "swapped columns": swapped,
    "category burst": burst,
}
RELATION: dict[str, Fault] = {
    "label flip": label_flip,
    "reversed effect (hour)": reversed_hour,
    "one slice worse": slice_worse,
}
SLOW: dict[str, Fault] = {"slow base-rate shift": base_rate}
HARMLESS: dict[str, Fault] = {
    "nothing": nothing, "traffic halved": halved, "seasonal return": nothing,
}  # fmt: skip
UNLEARNED: dict[str, Fault] = {"unlearned season": nothing}
TOGETHER: dict[str, Fault] = {
    "permuted field": permuted,
    "slipped join": slipped,
    "sentinel values": sentinel,
    "renamed words": renamed,
    "repeated rows": duplicated,
    "shifted clock": clock,
}
SEASONS = ("seasonal return", *UNLEARNED)
