"""May this challenger serve? Each gate is a frozen verdict; acting on it is somebody else's job."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.errors import EvergreenError
from data.features import Columns
from data.fields import Field
from data.params import Gates
from models.artifact import Artifact, serve_scores, to_rows
from models.quality import Interval, block_bootstrap, log_losses
from models.train import BASE_RATE, LOGISTIC, XGBOOST


@dataclass(frozen=True)
class Verdict:
    """One gate's finding; `passed` is None where there was too little data, which blocks too."""

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    n: int
    interval: tuple[float, float] | None
    reason: str


@dataclass(frozen=True)
class GateReport:
    """All verdicts on one challenger."""

    digest: str
    champion: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def reason(self) -> str:
        if self.passed:
            return f"all {len(self.verdicts)} gates passed"
        return "; ".join(v.reason for v in self.verdicts if not v.passed)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed, "reason": self.reason}

    def to_markdown(self) -> str:
        """A table people read."""
        marks = {True: "passed", False: "**failed**", None: "**unknown**"}
        lines = ["| gate | verdict | value | threshold | n | reason |", "|---|---|---|---|---|---|"]
        for v in self.verdicts:
            value = "" if v.value is None else f"{v.value:.2g}"
            lines.append(
                f"| {v.name} | {marks[v.passed]} | {value} | {v.threshold:.2g} | {v.n} | {v.reason} |"
            )
        return "\n".join(lines)


def judge(
    challenger: Artifact,
    columns: Columns,
    label: np.ndarray,
    day: np.ndarray,
    scores: Mapping[str, np.ndarray],
    champion: Artifact | None,
    params: Gates,
    seed: int,
) -> GateReport:
    """Put a challenger through every gate.

    Args:
        challenger: the artefact that would serve.
        columns, label, day: the untouched holdout, each of shape (n,).
        scores: each candidate's probabilities for it, shape (n,).
        champion: what serves now, if anything; scored here on the same rows.
        params: thresholds.
        seed: of the bootstrap and of the parity rows.
    """
    losses = {name: log_losses(label, values) for name, values in scores.items()}
    own = losses[XGBOOST]
    verdicts = [
        _better("beats_base_rate", own - losses[BASE_RATE], day, -params.beat_base_rate_by, params, seed),
        _better("beats_logistic", own - losses[LOGISTIC], day, -params.beat_logistic_by, params, seed),
    ]
    if champion is not None:
        against = own - log_losses(label, champion.score(columns))
        verdicts.append(
            _better("not_worse_than_champion", against, day, params.champion_margin, params, seed)
        )
    verdicts.append(parity(challenger, columns, params, seed))
    return GateReport(challenger.digest, champion.digest if champion else None, tuple(verdicts))


def _better(
    name: str, difference: np.ndarray, day: np.ndarray, limit: float, params: Gates, seed: int
) -> Verdict:
    """The challenger's log loss minus the other's, by day, must lie below `limit` as a whole."""
    n = len(difference)
    if n < params.minimum_rows or len(np.unique(day)) < 2:
        reason = f"{name}: {n} rows are too few to judge, {params.minimum_rows} are needed"
        return Verdict(name, None, None, limit, n, None, reason)
    interval = block_bootstrap(difference, day, params.bootstrap_samples, params.confidence, seed)
    passed = bool(interval.high <= limit)
    reason = f"{name}: {_say(interval)}, {'within' if passed else 'not within'} {limit:+.4f}"
    return Verdict(name, passed, interval.value, limit, n, (interval.low, interval.high), reason)


def _say(interval: Interval) -> str:
    return f"log loss {interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def parity(challenger: Artifact, columns: Columns, params: Gates, seed: int) -> Verdict:
    """The serving path must equal training's on rows with nulls and unseen categories."""
    rows = disturbed(columns, challenger.fields, params.parity_rows, seed)
    expected = challenger.score(rows)
    served = serve_scores(challenger, to_rows(rows, challenger.fields))
    gap = float(np.abs(served - expected).max()) if np.isfinite(served).all() else float("inf")
    passed = gap <= params.parity_tolerance
    reason = f"serving_parity: largest difference {gap:.1e} over {len(expected)} rows"
    return Verdict("serving_parity", passed, gap, params.parity_tolerance, len(expected), None, reason)


def disturbed(columns: Columns, fields: tuple[Field, ...], size: int, seed: int) -> Columns:
    """Rows drawn from `columns` with a tenth of nullable values missing, categories unseen.

    Raises:
        EvergreenError: if there are no rows to draw from.
    """
    n = len(next(iter(columns.values())))
    if n == 0:
        raise EvergreenError("the holdout has no rows: choose an as_of whose last period has labels")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(n, size=size)
    result = {}
    for field in fields:
        values = columns[field.name][drawn].copy()
        hit = generator.random(size) < 0.1
        if field.kind == "text" and field.values is None:
            values[hit] = "never seen before"
        elif field.nullable:
            empty = {"text": None, "timestamp": np.datetime64("NaT")}.get(field.kind, np.nan)
            values[hit] = empty
        result[field.name] = values
    return result
