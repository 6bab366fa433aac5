"""May this challenger serve? Each gate is a frozen verdict; acting on it is somebody else's job."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from data.errors import EvergreenError
from data.features import Columns
from data.fields import Field
from data.params import Gates
from models.artifact import Artifact, serve_scores, to_rows
from models.candidates import BASE_RATE, LOGISTIC
from models.quality import Interval, auc_difference, block_bootstrap, log_losses

MARKS = {True: "passed", False: "failed", None: "unknown"}


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
        return "; ".join(f"{v.name}: {v.reason}" for v in self.verdicts if not v.passed)

    def and_also(self, verdict: Verdict) -> "GateReport":
        return replace(self, verdicts=(*self.verdicts, verdict))

    def to_tags(self) -> dict[str, str]:
        """`gate.<name>` -> verdict and reason, as text."""
        return {
            f"gate.{v.name}": f"{MARKS[v.passed]}: {v.reason.removeprefix(f'{v.name}: ')}"[:5000]
            for v in self.verdicts
        }

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed, "reason": self.reason}

    def to_markdown(self) -> str:
        """A table people read."""
        marks = {k: word if k else f"**{word}**" for k, word in MARKS.items()}
        lines = ["| gate | verdict | value | threshold | n | reason |", "|---|---|---|---|---|---|"]
        for v in self.verdicts:
            value = "" if v.value is None else f"{v.value:.2g}"
            cells = (v.name, marks[v.passed], value, f"{v.threshold:.2g}", str(v.n), v.reason)
            lines.append(f"| {' | '.join(cells)} |")
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
        scores: the simpler candidates' probabilities for it, shape (n,).
        champion: what serves now, if anything; scored here on the same rows.
        params: thresholds.
        seed: of the bootstrap and of the parity rows.
    """
    compared = _Comparison(label, challenger.score(columns), day, params, seed)
    verdicts = [
        compared.ranks_better("beats_base_rate", scores[BASE_RATE], params.beat_base_rate_by),
        compared.ranks_better("beats_logistic", scores[LOGISTIC], params.beat_logistic_by),
    ]
    baseline = scores[BASE_RATE]
    if champion is not None:
        baseline = champion.score(columns)
        verdicts.append(
            compared.ranks_better("not_worse_than_champion", baseline, -params.champion_margin)
        )
    verdicts.append(compared.loses_little("log_loss", baseline, params.log_loss_margin))
    verdicts.append(parity(challenger, columns, params, seed))
    return GateReport(challenger.digest, champion.digest if champion else None, tuple(verdicts))


@dataclass(frozen=True)
class _Comparison:
    """The challenger's probabilities on the holdout, to be set against another's."""

    label: np.ndarray
    score: np.ndarray
    day: np.ndarray
    params: Gates
    seed: int

    def ranks_better(self, name: str, other: np.ndarray, by: float) -> Verdict:
        """The whole interval of the difference in ROC-AUC must lie above `by`.

        Ranking is compared because the level of a week's rate is what no model here can know.
        """
        if unknown := self._too_little(name, by):
            return unknown
        interval = auc_difference(self.label, self.score, other, self.day, **self._draws())
        return _verdict(name, "ROC-AUC", interval, by, len(self.label), interval.low >= by)

    def loses_little(self, name: str, other: np.ndarray, margin: float) -> Verdict:
        """The mean log loss may exceed the other's by at most `margin`."""
        if unknown := self._too_little(name, margin):
            return unknown
        difference = log_losses(self.label, self.score) - log_losses(self.label, other)
        interval = block_bootstrap(difference, self.day, **self._draws())
        n, passed = len(self.label), interval.value <= margin
        return _verdict(name, "log loss", interval, margin, n, passed)

    def _draws(self) -> dict[str, Any]:
        samples, confidence = self.params.bootstrap_samples, self.params.confidence
        return {"samples": samples, "confidence": confidence, "seed": self.seed}

    def _too_little(self, name: str, threshold: float) -> Verdict | None:
        n, needed = len(self.label), self.params.minimum_rows
        both = 0 < self.label.sum() < n
        if n >= needed and both and len(np.unique(self.day)) > 1:
            return None
        reason = f"{n} rows cannot be judged ({needed}, both outcomes and two days needed)"
        return Verdict(name, None, None, threshold, n, None, reason)


def _verdict(
    name: str, metric: str, interval: Interval, threshold: float, n: int, passed: bool
) -> Verdict:
    reason = (
        f"{metric} {interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] "
        f"against {threshold:+.4f}"
    )
    bounds = (interval.low, interval.high)
    return Verdict(name, bool(passed), interval.value, threshold, n, bounds, reason)


def parity(challenger: Artifact, columns: Columns, params: Gates, seed: int) -> Verdict:
    """The serving path must equal training's on rows with nulls and unseen categories."""
    rows = disturbed(columns, challenger.fields, params.parity_rows, seed)
    expected = challenger.score(rows)
    served = serve_scores(challenger, to_rows(rows, challenger.fields))
    gap = float(np.abs(served - expected).max()) if np.isfinite(served).all() else float("inf")
    passed = gap <= params.parity_tolerance
    reason = f"largest difference {gap:.1e} over {len(expected)} rows"
    return Verdict(
        "serving_parity", passed, gap, params.parity_tolerance, len(expected), None, reason
    )


def git_clean(commit: str, changed: Sequence[str]) -> Verdict:
    """A model whose code no commit holds cannot be made again, so it must not serve.

    Args:
        commit: the checkout's commit, or `none`.
        changed: files that shape a model and are not as the commit has them.
    """
    passed = not changed and commit != "none"
    reason = f"git_clean: code and parameters are those of commit {commit[:12]}"
    if not passed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        files = ", ".join(changed[:3]) + more or "the code"
        reason = f"git_clean: no commit holds {files} as trained: commit or stash, then train again"
    return Verdict("git_clean", passed, float(len(changed)), 0.0, len(changed), None, reason)


def disturbed(columns: Columns, fields: tuple[Field, ...], size: int, seed: int) -> Columns:
    """Rows drawn from `columns` with a tenth of nullable values missing, categories unseen.

    Raises:
        EvergreenError: if there are no rows to draw from.
    """
    n = len(next(iter(columns.values())))
    if n == 0:
        raise EvergreenError(
            "the holdout has no rows: choose an as_of whose last period has labels"
        )
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
