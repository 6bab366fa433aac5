"""What a model goes by: how much worse it gets on the holdout when one raw field is shuffled.

Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) asks any model the same
question, so that a challenger's answer can be set beside the champion's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from data.params import Importance as Settings
from data.params import Params
from data.task import Task
from data.windows import Labelled
from models.artifact import Artifact
from models.bootstrap import Interval, block_bootstrap
from models.verdict import Verdict

NAME = "importance_shift"


@dataclass(frozen=True)
class FieldImportance:
    """The mean loss (`Task.losses`) that shuffling a field adds, over bootstrapped days."""

    field: str
    loss: Interval


def measure(model: Artifact, held: Labelled, params: Params) -> tuple[FieldImportance, ...]:
    """The importance of every raw field, largest first.

    Args:
        held: rows that the model did not learn from.
        params: how often to shuffle and to draw; the seed of training is that of both.
    """
    gates, seed = params.gates, params.train.seed
    random = np.random.default_rng(seed)
    shuffles = [random.permutation(len(held)) for _ in range(params.importance.repeats)]
    before = model.task.losses(held.label, model.score(held.columns))
    found = []
    for field in model.fields:
        values = held.columns[field.name]
        after = [
            model.task.losses(held.label, model.score({**held.columns, field.name: values[places]}))
            for places in shuffles
        ]
        added = np.mean(after, axis=0) - before
        draws = (gates.bootstrap_samples, gates.confidence, seed)
        found.append(FieldImportance(field.name, block_bootstrap(added, held.day, *draws)))
    return tuple(sorted(found, key=lambda one: -one.loss.value))


def shares(found: Sequence[FieldImportance]) -> dict[str, float]:
    """Each field's part of all importance; what shuffling does not hurt has none."""
    useful = {one.field: max(one.loss.value, 0.0) for one in found}
    total = sum(useful.values())
    return {name: value / total if total else 0.0 for name, value in useful.items()}


def shift(
    challenger: Sequence[FieldImportance],
    champion: Sequence[FieldImportance] | None,
    rows: int,
    settings: Settings,
) -> Verdict:
    """Whether a challenger goes by other fields than the champion did, on the same rows.

    The distance is the total variation between the shares: the part of all importance that would
    have to move from field to field to make one the other.
    """
    limit = settings.maximum_shift
    if champion is None:
        reason = "there is no champion to compare with"
        return Verdict(NAME, True, None, limit, rows, None, reason)
    own, before = shares(challenger), shares(champion)
    if not any(own.values()) or not any(before.values()):
        reason = "shuffling no field makes one of the two models worse, so nothing can be compared"
        return Verdict(NAME, None, None, limit, rows, None, reason)
    moved = _differences(own, before)
    distance = sum(map(abs, moved.values())) / 2
    most = max(moved, key=lambda name: abs(moved[name]))
    reason = (
        f"{distance:.0%} of the importance moved between fields (at most {limit:.0%}), most for "
        f"{most}: {before.get(most, 0.0):.0%} -> {own.get(most, 0.0):.0%}"
    )
    return Verdict(NAME, distance <= limit, distance, limit, rows, None, reason)


def _differences(own: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    names = {**own, **before}
    return {name: own.get(name, 0.0) - before.get(name, 0.0) for name in names}


def to_json(found: Sequence[FieldImportance]) -> str:
    """Every field with its interval and its share, as text."""
    parts = shares(found)
    return json.dumps([{**asdict(one), "share": parts[one.field]} for one in found], indent=1)


def figure(found: Sequence[FieldImportance], task: Task) -> Figure:
    """Bars with their intervals, the largest on top."""
    ranked = found[::-1]
    drawn, axes = plt.subplots(figsize=(6, 0.25 * len(ranked) + 1), layout="constrained")
    values = np.array([one.loss.value for one in ranked])
    low, high = (np.array([getattr(one.loss, end) for one in ranked]) for end in ("low", "high"))
    spread = np.maximum([values - low, high - values], 0)
    axes.barh([one.field for one in ranked], values, xerr=spread, ecolor="grey")
    axes.set(xlabel=f"{task.loss} that shuffling the field adds")
    plt.close(drawn)
    return drawn
