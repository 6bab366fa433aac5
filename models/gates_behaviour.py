"""Gates on what a model answers to rows that are not as they should be, label or no label.

The same holdout rows are scored as they are and disturbed. What the yardstick suffers from the same
disturbance is subtracted: a field that decides a lot may be missed a lot.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data.errors import EvergreenError
from data.features import Columns
from data.fields import Field
from data.task import Task
from data.windows import Labelled
from models.bootstrap import Interval, block_bootstrap
from models.evidence import Case
from models.quality import ranking
from models.verdict import Verdict

UNSEEN = "never seen before"
Score = Callable[[Columns], np.ndarray]


def missing_values(case: Case) -> Verdict:
    """Nullable fields missing, each in all rows and a tenth of all, may add little loss.

    The worst case's added loss (`Task.losses`), beyond the yardstick's, must be at most the margin.
    """
    rows, fields = _sample(case), case.challenger.fields
    nullable = [field for field in fields if field.nullable]
    cases = {f.name: {**rows.columns, f.name: _emptied(rows.columns[f.name], f)} for f in nullable}
    generator = np.random.default_rng(case.seed)
    tenth = {f.name: _emptied(rows.columns[f.name], f, generator.random(len(rows)) < 0.1)
             for f in nullable}  # fmt: skip
    cases["a tenth"] = {**rows.columns, **tenth}
    return _added_loss(case, "missing_values", rows, cases, case.params.missing_margin)


def unseen_categories(case: Case) -> Verdict:
    """As `missing_values`, with each open text field holding what training never saw."""
    rows = _sample(case)
    cases = {
        f.name: {**rows.columns, f.name: np.full(len(rows), UNSEEN, dtype=object)}
        for f in case.challenger.fields
        if f.kind == "text" and f.values is None
    }
    return _added_loss(case, "unseen_categories", rows, cases, case.params.unseen_margin)


def noise(case: Case) -> Verdict:
    """Numbers off by a twentieth of their spread must not move answers much.

    The mean absolute change, beyond the yardstick's, must be at most the margin: of a probability
    (of several: half of what all change by), or of a number in units of twice its scale, which is
    what 0 and 1 are apart by where each is as likely.
    """
    rows, margin = _sample(case), case.params.noise_margin
    generator = np.random.default_rng(case.seed)
    numbers = {f.name: _noisy(rows.columns[f.name], f, generator)
               for f in case.challenger.fields if f.kind in ("number", "integer")}  # fmt: skip
    noisy = {**rows.columns, **numbers}
    own, other = (_moved(score(noisy), score(rows.columns), case.task)
                  for score in _scores(case))  # fmt: skip
    value = float((own - other).mean()) if np.isfinite(own).all() else float("inf")
    reason = f"answers move by {own.mean():.3f}, the yardstick's by {other.mean():.3f}"
    return Verdict("noise", value <= margin, value, margin, len(rows), None, reason)


def _moved(after: np.ndarray, before: np.ndarray, task: Task) -> np.ndarray:
    change = np.abs(after - before)
    if task.classes:
        return np.asarray(change.sum(axis=1) / 2)
    return np.asarray(change / (2 * task.scale) if task.kind == "regression" else change)


def permutation(case: Case) -> Verdict:
    """No field may carry the ranking alone: shuffled, it must cost less ROC-AUC than the bound."""
    rows, bound, task = _sample(case), case.params.permutation_bound, case.task
    if not task.learnable(rows.label):
        reason = "the holdout has one outcome only"
        return Verdict("permutation", None, None, bound, len(rows), None, reason)
    order = np.random.default_rng(case.seed).permutation(len(rows))

    def ranked(columns: Columns) -> float:
        return ranking(rows.label, case.challenger.score(columns), task) or 0.0

    whole = ranked(rows.columns)
    drops = {
        name: whole - ranked({**rows.columns, name: values[order]})
        for name, values in rows.columns.items()
    }
    name = max(drops, key=lambda n: drops[n])
    value = drops[name]
    reason = (
        f"{name} shuffled costs {task.ranking} {value:.3f} of {whole:.3f}, up to {bound} is allowed"
    )
    return Verdict("permutation", value <= bound, value, bound, len(rows), None, reason)


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
            values[hit] = UNSEEN
        elif field.nullable:
            values = _emptied(values, field, hit)
        result[field.name] = values
    return result


def _sample(case: Case) -> Labelled:
    """Evenly spaced holdout rows."""
    size, wanted = len(case.holdout), case.params.robustness_rows
    places = np.unique(np.linspace(0, size - 1, min(wanted, size)).astype(int))
    return case.holdout.take(np.isin(np.arange(size), places))


def _emptied(values: np.ndarray, field: Field, hit: np.ndarray | None = None) -> np.ndarray:
    """The values without those that are hit; default: without any."""
    empty = {"text": None, "timestamp": np.datetime64("NaT")}.get(field.kind, np.nan)
    values = values.copy()
    values[slice(None) if hit is None else hit] = empty
    return values


def _noisy(values: np.ndarray, field: Field, generator: np.random.Generator) -> np.ndarray:
    known = values[~np.isnan(values)]
    step = 0.05 * known.std() if len(known) else 0.0
    moved = values + generator.normal(0, step, len(values))
    moved = np.round(moved) if field.kind == "integer" else moved
    return np.asarray(np.clip(moved, field.minimum, field.maximum))


def _added_loss(
    case: Case, name: str, rows: Labelled, cases: Mapping[str, Columns], margin: float
) -> Verdict:
    """The worst of several disturbances by loss added beyond the yardstick's."""
    if not cases:
        return Verdict(name, True, 0.0, margin, 0, None, "no field can be so disturbed")
    before = [_losses(case, score, rows, rows.columns) for score in _scores(case)]
    found = {what: _beyond(case, rows, columns, before) for what, columns in cases.items()}
    what = max(found, key=lambda key: found[key].value)
    worst = found[what]
    passed = worst.low <= margin and worst.value <= 2 * margin
    reason = (
        f"{what}: {case.task.loss} rises by {worst.value:+.4f} [{worst.low:+.4f}, "
        f"{worst.high:+.4f}] beyond the yardstick's, the worst of {len(cases)} disturbances"
    )
    return Verdict(name, passed, worst.value, margin, len(rows), (worst.low, worst.high), reason)


def _beyond(case: Case, rows: Labelled, columns: Columns, before: Sequence[np.ndarray]) -> Interval:
    """Loss that a disturbance adds, the challenger's minus the yardstick's."""
    own, other = (_losses(case, score, rows, columns) - there
                  for score, there in zip(_scores(case), before, strict=True))  # fmt: skip
    if not np.isfinite(own).all():
        return Interval(np.inf, np.inf, np.inf)
    return block_bootstrap(own - other, rows.day, **case.draws)


def _scores(case: Case) -> tuple[Score, Score]:
    return case.challenger.score, case.yardstick.score


def _losses(case: Case, score: Score, rows: Labelled, columns: Columns) -> np.ndarray:
    return case.task.losses(rows.label, score(columns))
