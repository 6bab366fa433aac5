"""Monitor `estimated_quality`: what the answers alone suggest; a chart, never a trigger.

| task | what is taken for true | what follows |
|---|---|---|
| binary | scores as the reference calibrates them (CBPE of NannyML) | ROC-AUC, log loss |
| multiclass | the probabilities as they are | mean ROC-AUC, log loss |
| regression | the loss of the reference's answers as high as these (DLE of NannyML) | the loss |

All of it is optimistic as soon as the relation itself has changed.
"""

import numpy as np

from data.reference import Reference
from data.task import EPSILON, Task
from data.verdicts import Finding, Verdict

ESTIMATED = "estimated_quality"


def estimated_quality(
    reference: Reference, scores: np.ndarray, minimum_rows: int, task: Task
) -> Finding:
    """What to expect of these answers, see `data.task`, if nothing but the features has changed."""
    if len(scores) < minimum_rows or not (reference.steps[0] or (task.classes and reference.daily)):
        reason = f"{len(scores)} answers (at least {minimum_rows} are needed, and a reference)"
        return Finding(ESTIMATED, Verdict.UNKNOWN, None, None, len(scores), reason)
    if task.kind == "regression":
        loss = float(np.interp(scores, *reference.steps).mean())
        reason = f"{task.loss} {loss:.3f}, if the relation has not changed"
        return Finding(ESTIMATED, Verdict.OK, loss, None, len(scores), reason, {"log_loss": loss})
    pairs = _pairs(reference, scores, task)
    area = float(np.mean([_area(chance, score) for chance, score in pairs]))
    loss = _loss(pairs, task)
    reason = (
        f"{task.ranking} {area:.3f} and {task.loss} {loss:.3f}, if the relation has not changed"
    )
    evidence = {"roc_auc": area, "log_loss": loss}
    if task.kind == "binary":
        evidence["positive_rate"] = float(pairs[0][0].mean())
    return Finding(ESTIMATED, Verdict.OK, area, None, len(scores), reason, evidence)


def _pairs(
    reference: Reference, scores: np.ndarray, task: Task
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is taken for the chance of each class, and its scores, each of shape (n,)."""
    if task.classes:
        return [(column, column) for column in scores.T]
    return [(np.interp(scores, *reference.steps), scores)]


def _area(chance: np.ndarray, scores: np.ndarray) -> float:
    """The ROC-AUC to expect of scores whose rows are positive with these chances."""
    order = np.argsort(scores, kind="stable")
    positive, negative = chance[order], 1 - chance[order]
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / max(positive.sum() * negative.sum(), 1e-12))


def _loss(pairs: list[tuple[np.ndarray, np.ndarray]], task: Task) -> float:
    """The log loss to expect."""
    if task.classes:
        parts = [-chance * np.log(np.clip(score, EPSILON, 1)) for chance, score in pairs]
        return float(np.mean(np.sum(parts, axis=0)))
    ((chance, scores),) = pairs
    return float(np.mean(-chance * np.log(np.clip(scores, 1e-7, 1))
                         - (1 - chance) * np.log(np.clip(1 - scores, 1e-7, 1))))  # fmt: skip
