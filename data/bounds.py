"""The first and last period of a drafted problem to learn from, and how many are held out."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import pandas as pd

from data.errors import EvergreenError
from data.periods import Frequency, Period, span

LEAST = 5  # periods
FEWEST = 400  # rows with an outcome: of a quarter of fewer, held out, chance tells as much
MANY = 100  # rows of a period; with fewer one bad row, or one outcome, is a share of it
WISHED = 12
ROWS = 500  # of an artificial period, and held out at least
HELD, PART = 2000, 8  # held out, if that is no more than one of so many periods
WHOLE = 0.5  # of the median's rows; with fewer the first or last period is a part of one
COVERED = 0.9
EVEN = "--order in place of the time (even periods), if the rows are in its order"


def one_sided(by: pd.DataFrame) -> int:
    """Periods in which all known outcomes are the same."""
    return int((((by["ones"] == 0) | (by["ones"] == by["known"])) & (by["known"] > 0)).sum())


def by_period(days: pd.DataFrame, frequency: Frequency) -> pd.DataFrame:
    """Rows and known outcomes of every period between the first and the last, empty ones too."""
    names = [Period.of(day, frequency).name for day in pd.DatetimeIndex(days.index).to_pydatetime()]
    by = days.groupby(names).sum()
    whole = span(Period.parse(min(names)), Period.parse(max(names)))
    return by.reindex([period.name for period in whole], fill_value=0)


def bounds(by: pd.DataFrame, frequency: Frequency, artificial: bool) -> tuple[str, str, list[str]]:
    """The first and last period to learn from, and why not others."""
    said, usual = list[str](), float(by["rows"].median())
    longer = "A longer --frequency" if frequency != "month" else EVEN
    longer = "A larger table" if artificial else longer
    rows, known = by["rows"].to_numpy(), by["known"].to_numpy()
    empty = np.flatnonzero(rows == 0)
    first = int(empty[-1]) + 1 if len(empty) else 0
    if first:
        said.append(
            f"{len(empty)} {frequency}s have no rows, the last is {by.index[first - 1]}: what is "
            "before it is not learned from, because periods have to follow each other. "
            f"{longer} may close the gaps."
        )
    last = len(by) - 1
    if artificial:
        last -= int(rows[last] < rows[0])
    else:
        first += int(first < last and rows[first] < WHOLE * usual)
        last -= int(first < last and rows[last] < WHOLE * usual)
    while last > first and known[last] < COVERED * rows[last]:
        last -= 1
    waiting = len(by) - 1 - last
    if waiting and known[-1] < COVERED * rows[-1]:
        said.append(f"the outcomes of the last {waiting} {frequency}s are not known yet.")
    if alike := one_sided(by.iloc[first : last + 1]):
        said.append(
            f"in {alike} {frequency}s all outcomes are the same: such a batch is refused. "
            f"{longer} may have both in each."
        )
    said += _few(by, first, last, frequency, longer, said)
    return str(by.index[first]), str(by.index[last]), said


def _few(
    by: pd.DataFrame, first: int, last: int, frequency: Frequency, longer: str, said: Sequence[str]
) -> list[str]:
    """What so few periods, or rows, do to the figures; too few are refused."""
    number, usual = last - first + 1, float(by["rows"].median())
    if number < LEAST:
        raise EvergreenError(
            f"there are {number} {frequency}s to learn from (of {len(by)} from {by.index[0]} to "
            f"{by.index[-1]}, {int((by['rows'] == 0).sum())} without rows), and {LEAST} are "
            "needed: try another --frequency (day, week, month), or bring more data. If the time "
            "is only a year, or a batch, sort the table by it and say --order in place of --time"
        )
    if (there := int(by["known"].iloc[first : last + 1].sum())) < FEWEST:
        raise EvergreenError(
            f"there are {there} rows with an outcome to learn from, and {FEWEST} are needed: of "
            "the fewer than a hundred that are held out, chance would tell more than the model "
            f"does{''.join(f'; {each}' for each in said)}".removesuffix(".")
        )
    found = list[str]()
    if usual < MANY:
        found.append(
            f"{usual:.0f} rows in a {frequency} are few: chance alone moves what is measured of "
            f"one. {longer}, or more data, lets gates and monitors say more."
        )
    if number < WISHED:
        found.append(
            f"{number} {frequency}s are few: models are compared on little, and limits are loose "
            f"until there are {WISHED}."
        )
    return found


def holdout(usual: int, number: int, frequency: Frequency) -> int:
    """How many of the last periods are held out, so that there are rows and days to judge by."""
    least, good = (ceil(rows / max(usual, 1)) for rows in (ROWS, HELD))
    share = min(good, ceil(number / PART))
    wanted = max(least, share, 7 if frequency == "day" else 1, number // WISHED)
    return int(np.clip(wanted, 1, max((number - 4) // 3, number // 4)))
