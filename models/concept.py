"""Monitor `concept_drift`: has what follows from the features changed since training?

For calibrated probabilities the squared error (y - p)^2 is p (1 - p) on average. The mean over a
day's rows of the difference, (y - p)(1 - 2p), is one observation: rows of a day go wrong together.
Of several classes it is summed over them; of numbers it is the squared error itself, in units of
the task's scale, `MOST` at most. Two bets are made against it, that it is higher, and that it is
lower, than the reference's own out-of-fold scores leave room for, and the money won is averaged
over several stakes. While neither is so, the chance that it ever reaches 1 / alpha is at most alpha
(Ville 1939), however often one looks: an e-process, in the betting form of I. Waudby-Smith, A.
Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024). A rate that rises,
or a relation that turns, is found in days to weeks; one that falls makes the error smaller, and
`calibration` sees it first.
"""

from dataclasses import dataclass

import numpy as np

from data.reference import Daily
from data.task import Task
from data.verdicts import Finding, Verdict

CONCEPT_DRIFT = "concept_drift"
MOST = 9.0  # of a number's squared error: three standard deviations off
STAKES = (0.1, 0.2, 0.4, 0.6, 0.8)  # parts of the largest that cannot lose everything
BLOCK_DAYS = 7
ROOM = 1.0  # standard errors of the reference's own mean
MINIMUM_DAYS = 3


@dataclass(frozen=True)
class Room:
    """The daily means that the reference leaves room for, and what they can be at all."""

    low: float
    high: float
    least: float
    most: float


def observations(label: np.ndarray, score: np.ndarray, task: Task) -> np.ndarray:
    """Each row's part of the observation, shape (n,)."""
    if task.kind == "regression":
        return np.asarray(np.minimum(task.squared_errors(label, score), MOST))
    p = score.astype(np.float64)
    parts = task.residuals(label, p) * (1 - 2 * p)
    return np.asarray(parts.sum(axis=1) if task.classes else parts)


def bounds(task: Task) -> tuple[float, float]:
    """The least and the most that an observation can be."""
    if task.kind == "regression":
        return 0.0, MOST
    if task.classes:  # 2 (sum of p^2 - p of the true one)
        return -(task.width - 1) / (2 * task.width), 2.0
    return -0.125, 1.0


def room(reference: Daily, task: Task) -> Room:
    """The reference's mean, and a standard error of it over blocks of a week."""
    least, most = bounds(task)
    values = np.array(reference.residual)
    blocks = [values[i : i + BLOCK_DAYS].mean() for i in range(0, len(values), BLOCK_DAYS)]
    error = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.inf
    middle = float(values.mean())
    return Room(max(middle - ROOM * error, least), min(middle + ROOM * error, most), least, most)


def log_evidence(values: np.ndarray, usual: Room) -> np.ndarray:
    """Logarithm of the money won after each day, shape (days,), from daily means (days,)."""
    bets = []
    for sign, border, worst in ((1.0, usual.high, usual.least), (-1.0, usual.low, usual.most)):
        largest = 1.0 / max(sign * (border - worst), 1e-3)
        for part in STAKES:
            gain = 1 + part * largest * sign * (values - border)
            bets.append(np.log(np.maximum(gain, 1e-12)).cumsum())
    return np.asarray(np.logaddexp.reduce(bets, axis=0) - np.log(len(bets)))


def concept_drift(
    reference: Daily | None, seen: Daily, alpha: float, minimum_rows: int, task: Task
) -> Finding:
    """Whether the labels since the champion began still follow from its features.

    Args:
        reference: of the out-of-fold scores; None for a model that has none.
        seen: every labelled day that the champion answered, oldest first.
        alpha: the chance, over the whole life of a champion, to alarm for nothing.
    """
    rows, needed = sum(seen.rows), 1 / alpha
    if reference is None or len(reference.days) <= BLOCK_DAYS or rows < minimum_rows:
        reason = f"{rows} labelled answers (at least {minimum_rows} are needed, and a reference)"
        return Finding(CONCEPT_DRIFT, Verdict.UNKNOWN, None, needed, rows, reason)
    usual, values = room(reference, task), np.array(seen.residual)
    logs = log_evidence(values, usual)
    most, now = float(np.exp(min(logs.max(), 50.0))), float(np.exp(min(logs[-1], 50.0)))
    first = next((d for d, e in zip(seen.days, logs, strict=True) if e >= np.log(needed)), None)
    mean = float(np.average(values, weights=seen.rows))
    verdict = Verdict.OK if first is None else Verdict.ALARM
    reason = f"evidence {most:.3g} against the old relation, {needed:.0f} is proof"
    reason += f": reached on {first}" if first else ""
    beyond = "of the outcome's variance" if task.kind == "regression" else "beyond calibration"
    reason += f"; error {mean:+.4f} {beyond}, usual {usual.low:+.4f} to {usual.high:+.4f}"
    evidence = {
        "days": list(seen.days),
        "residual": list(seen.residual),
        "log_evidence": [round(float(e), 4) for e in logs],
        "now": now,
        "since": first,
        "room": [usual.low, usual.high],
    }
    return Finding(CONCEPT_DRIFT, verdict, most, needed, rows, reason, evidence)
