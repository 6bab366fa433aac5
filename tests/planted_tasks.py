"""The parcels of `tests.planted` with other questions: how many hours, and how fast?

The causes are the same, and so is what changes at `CHANGE`: the question alone is another.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from data.features import HistoricalRate
from data.periods import Period
from data.task import REGRESSION, multiclass
from tests import planted
from tests.planted import CHANGE, FIRST, SEED

CLASSES = ("early", "on_time", "late")
HOURS = "hours"


def read(period: Period) -> pd.DataFrame:
    """A week's parcels with the hours they took; the same for every call."""
    batch = planted.read(period)
    random = np.random.default_rng([SEED, 1, (period.start - FIRST.start).days])
    afternoon = batch["sent_at"].dt.hour >= 12
    flat = batch["route"].isin(["coast", "plain"])
    cause = (batch["size"] == "large") if period >= CHANGE else afternoon == flat
    far = (batch["kilos"].fillna(20) - 20).abs() > 10
    hours = 30 + 8 * cause + 6 * far + 0.5 * batch["stops"] + random.normal(0, 4, len(batch))
    return batch.drop(columns="delay_hours").assign(**{HOURS: hours.round(2)})


def prepare(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.drop(columns=[HOURS, "fate"], errors="ignore")


def _outcomes(batch: pd.DataFrame, label: pd.Series) -> pd.DataFrame:
    lost = batch["fate"] == "lost"
    excluded = pd.Series(np.where(lost, "lost", None), dtype=object)
    return pd.DataFrame({"key": batch["key"], "label": label.mask(lost), "excluded": excluded})


def hours(batch: pd.DataFrame) -> pd.DataFrame | None:
    return _outcomes(batch, batch[HOURS]) if HOURS in batch else None


def speed(batch: pd.DataFrame) -> pd.DataFrame | None:
    """Early up to 36 hours, late from 42 on."""
    if HOURS not in batch:
        return None
    names = np.select([batch[HOURS] <= 36, batch[HOURS] >= 42], ["early", "late"], "on_time")
    return _outcomes(batch, pd.Series(names, dtype=object))


_COMMON = replace(planted.PROBLEM, read=read, prepare=prepare, source_outcomes=(HOURS, "fate"))
NUMBER = replace(_COMMON, name="hours", target=HOURS, task=REGRESSION, outcomes=hours)
CLASS = replace(
    _COMMON,
    name="speed",
    target="speed",
    task=multiclass(CLASSES),
    outcomes=speed,
    features=tuple(f for f in planted.PROBLEM.features if not isinstance(f, HistoricalRate)),
)
