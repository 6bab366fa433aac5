"""The planted parcels with other outcomes: how many hours late (a number), and how fast (a class).

The same causes decide as in `tests.planted`: until its `CHANGE` the weight, the hour and the route.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from data.features import HistoricalRate
from data.periods import Period
from data.task import REGRESSION, Task, multiclass
from tests import planted
from tests.planted import CHANGE, OUTCOME

CLASSES = ("fast", "slow", "usual")
# what each of the two causes adds to the log odds of a class
ODDS = {"fast": (-2.0, -1.0), "slow": (2.0, 0.0), "usual": (0.0, 2.0)}


def causes(batch: pd.DataFrame) -> np.ndarray:
    """Whether each of the two causes holds, shape (n, 2)."""
    afternoon, flat = batch["sent_at"].dt.hour >= 12, batch["route"].isin(["coast", "plain"])
    changed = batch["sent_at"] >= pd.Timestamp(CHANGE.start)
    first = (afternoon == flat).where(~changed, batch["size"] == "large")
    return np.column_stack([first, (batch["kilos"] - 20).abs() > 10]).astype(float)


def read(period: Period) -> pd.DataFrame:
    """A week's parcels with hours and speed; the same for every call."""
    batch = planted.read(period)
    random, found = np.random.default_rng([7, *period.name.encode()]), causes(batch)
    hours = 4 + found @ [3.0, 3.0] + random.normal(0, 2, len(batch))
    odds = found @ np.array([ODDS[name] for name in CLASSES]).T
    speed = (odds + random.gumbel(size=odds.shape)).argmax(axis=1)
    lost = batch["fate"] == "lost"
    return batch.assign(
        delay_hours=np.where(lost, np.nan, hours.round(2)),
        speed=np.where(lost, None, np.array(CLASSES, dtype=object)[speed]),
    )


def prepare(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.drop(columns=[*OUTCOME, "speed"], errors="ignore")


def _outcomes(batch: pd.DataFrame, column: str) -> pd.DataFrame | None:
    if not {*OUTCOME, "speed"} <= set(batch.columns):
        return None
    lost = pd.Series(np.where(batch["fate"] == "lost", "lost", None), dtype=object)
    return pd.DataFrame({"key": batch["key"], "label": batch[column], "excluded": lost})


def _with(task: Task, target: str, **changes) -> planted.Problem:
    return replace(
        planted.PROBLEM, target=target, task=task, read=read, prepare=prepare,
        outcomes=lambda batch: _outcomes(batch, target), source_outcomes=(*OUTCOME, "speed"),
        **changes,
    )  # fmt: skip


HOURS = _with(REGRESSION, "delay_hours", name="parcel_hours")
SPEED = _with(
    multiclass(CLASSES), "speed", name="parcel_speed",
    features=tuple(f for f in planted.FEATURES if not isinstance(f, HistoricalRate)),
)  # fmt: skip
