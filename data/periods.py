"""Periods (`2013-W05`, `2013-02`, `2013-02-05`) and logical time.

A period is written as an ISO week, a month or a day; its name says which. Time is the problem's own
clock: naive local timestamps, never the wall clock.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self

from data.errors import EvergreenError

Frequency = Literal["week", "month", "day"]

_PATTERNS: dict[Frequency, re.Pattern[str]] = {
    "week": re.compile(r"(\d{4})-W(\d{2})"),
    "month": re.compile(r"(\d{4})-(\d{2})"),
    "day": re.compile(r"(\d{4})-(\d{2})-(\d{2})"),
}


@dataclass(frozen=True, order=True)
class Period:
    """A span of time [start, end), ordered by its start."""

    start: datetime
    end: datetime
    name: str

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, name: str) -> Self:
        """The period called `name`.

        Raises:
            EvergreenError: if `name` is no ISO week, month or day of the calendar.
        """
        try:
            for frequency, pattern in _PATTERNS.items():
                if match := pattern.fullmatch(name):
                    return cls._build(frequency, *map(int, match.groups()))
        except (ValueError, OverflowError):
            pass
        raise EvergreenError(
            f"{name!r} is not a period: write an ISO week (2013-W05), a month (2013-02) or a day "
            "(2013-02-05) that the calendar has"
        )

    @classmethod
    def of(cls, moment: datetime, frequency: Frequency) -> Self:
        """The period of that frequency in which `moment` lies."""
        if frequency == "week":
            return cls._build(frequency, *moment.isocalendar()[:2])
        if frequency == "month":
            return cls._build(frequency, moment.year, moment.month)
        return cls._build(frequency, moment.year, moment.month, moment.day)

    @classmethod
    def _build(cls, frequency: Frequency, *numbers: int) -> Self:
        if frequency == "week":
            start = datetime.fromisocalendar(numbers[0], numbers[1], 1)
            return cls(start, start + timedelta(days=7), "{:04d}-W{:02d}".format(*numbers))
        if frequency == "month":
            start = datetime(numbers[0], numbers[1], 1)
            following = (start + timedelta(days=32)).replace(day=1)
            return cls(start, following, "{:04d}-{:02d}".format(*numbers))
        start = datetime(numbers[0], numbers[1], numbers[2])
        return cls(start, start + timedelta(days=1), "{:04d}-{:02d}-{:02d}".format(*numbers))

    @property
    def frequency(self) -> Frequency:
        return next(f for f, pattern in _PATTERNS.items() if pattern.fullmatch(self.name))

    def next(self) -> "Period":
        return Period.of(self.end, self.frequency)

    def previous(self) -> "Period":
        return Period.of(self.start - timedelta(days=1), self.frequency)


def span(first: Period, last: Period) -> list[Period]:
    """All periods from `first` to `last`, both included; empty if `last` is before `first`."""
    periods = []
    while first <= last:
        periods.append(first)
        first = first.next()
    return periods


def parse_as_of(text: str, label_delay: timedelta) -> datetime:
    """A moment of logical time: an ISO timestamp, or a period's name.

    A period stands for the moment when all its labels are known: its end plus `label_delay`.

    Raises:
        EvergreenError: if `text` is neither.
    """
    if any(pattern.fullmatch(text) for pattern in _PATTERNS.values()):
        return Period.parse(text).end + label_delay
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None:
        raise EvergreenError(
            f"as_of {text!r} is not understood: write a period (2013-W08), or a timestamp without "
            "zone in the problem's own clock (2013-02-25T12:00)"
        )
    return moment
