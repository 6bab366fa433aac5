"""What can go wrong with a week of flights, after the door or before it; some of it harmless.

A fault changes raw columns, labels, or both, of one day's rows: it is given those of the day, how
many weeks it has lasted, and a stream's own random generator and turn (which column it hits).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Columns = dict[str, np.ndarray]


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
    weather = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip",
               "pressure", "visib"]  # fmt: skip
    names, share = stream.pick([
        (weather, 1.0), (weather, 0.2), (["aircraft_age", "seats"], 1.0), (["pressure"], 1.0),
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
SEASONS = ("seasonal return", *UNLEARNED)
