"""A synthetic problem whose signal and whose change are known: will a parcel arrive late?

The weight decides in a way that a line cannot draw; until `CHANGE` the hour and the route do, too.
From then on the queue at the depot is longer than ever before, and the size of the box decides in
their place: a model of the old world ranks badly, one that has seen a week of the new one well.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from data.features import CalendarPart, Category, HistoricalRate, Numeric, Ratio
from data.fields import Field
from data.periods import Period, span
from data.problem import Problem

FIRST, LAST = Period.parse("2024-W01"), Period.parse("2024-W20")
CHANGE = Period.parse("2024-W13")
ROWS = 500
SEED = 20240101
NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
ROUTES = ("coast", "hills", "plain", "river")
OUTCOME = ["delay_hours", "fate"]

FIELDS = (
    Field("sent_at", "timestamp", "local time of the depot"),
    Field("route", "text", "which way it goes"),
    Field("size", "text", "of the box", values=("large", "small")),
    Field("kilos", "number", "weight; unknown for some", nullable=True, minimum=0, maximum=40,
          unit="kilograms"),
    Field("queue", "number", "parcels waiting, in hundreds", minimum=0, maximum=100),
    Field("stops", "integer", "on the way", minimum=1, maximum=9),
)  # fmt: skip
FEATURES = (
    CalendarPart("hour", "sent_at", "hour"),
    Category("route", "route"),
    Category("size", "size"),
    HistoricalRate("route_rate", "route", strength=50.0),
    Numeric("kilos", "kilos"),
    Numeric("queue", "queue"),
    Ratio("kilos_per_stop", "kilos", "stops"),
)


def periods() -> list[str]:
    return [period.name for period in span(FIRST, LAST)]


def read(period: Period) -> pd.DataFrame:
    """A week's parcels with what became of them; the same for every call."""
    random = np.random.default_rng([SEED, (period.start - FIRST.start).days])
    changed = period >= CHANGE
    minutes = np.sort(random.integers(0, 7 * 24 * 60, ROWS))
    route = random.choice(ROUTES, ROWS)
    kilos = random.uniform(0, 40, ROWS).round(2)
    queue = (random.gamma(8, 1.5, ROWS) + 25 * changed).round(2).clip(0, 100)
    size = random.choice(["large", "small"], ROWS)
    afternoon, flat = minutes // 60 % 24 >= 12, np.isin(route, ["coast", "plain"])
    cause = size == "large" if changed else afternoon == flat
    odds = -3.0 + 3.0 * cause + 3.0 * (np.abs(kilos - 20) > 10)
    chance = 1 / (1 + np.exp(-odds))
    delay = np.where(random.random(ROWS) < chance, 5.0, 0.5)
    fate = np.where(random.random(ROWS) < 0.03, "lost", "delivered")
    kilos[random.random(ROWS) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "key": [f"{period.name}-{i:04d}" for i in range(ROWS)],
            "sent_at": np.datetime64(period.start, "us") + minutes.astype("timedelta64[m]"),
            "route": route,
            "size": size,
            "kilos": kilos,
            "queue": queue,
            "stops": random.integers(1, 10, ROWS),
            "delay_hours": np.where(fate == "lost", np.nan, delay),
            "fate": fate,
        }
    )


def prepare(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.drop(columns=OUTCOME, errors="ignore")


def outcomes(batch: pd.DataFrame) -> pd.DataFrame | None:
    """Late or not for delivered parcels; lost ones never get a label."""
    if not set(OUTCOME) <= set(batch.columns):
        return None
    lost, delay = batch["fate"] == "lost", batch["delay_hours"]
    return pd.DataFrame(
        {
            "key": batch["key"],
            "label": (delay > 2).astype(float).where(delay.notna() & ~lost),
            "excluded": pd.Series(np.where(lost, "lost", None), dtype=object),
        }
    )


PROBLEM = Problem(
    name="parcels",
    frequency="week",
    event_time="sent_at",
    fields=FIELDS,
    features=FEATURES,
    target="late",
    label_delay=timedelta(hours=36),
    slices=("route", "hour"),
    periods=periods,
    read=read,
    prepare=prepare,
    outcomes=outcomes,
    source_outcomes=tuple(OUTCOME),
)
