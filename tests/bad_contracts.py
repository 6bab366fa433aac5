"""Artefacts whose contract is not the problem's, leaks, and retrains as good as the good model."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.features import Numeric
from data.fields import Field
from models.artifact import Artifact
from tests import bad_models as bad
from tests.bad_models import World


def contract(world: World, change: Callable[[dict[str, Any]], None]) -> Artifact:
    """The good artefact with its contract changed."""

    def edit(folder: Path) -> None:
        path = folder / "contract.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return world.tampered(edit)


def _number(content: dict[str, Any]) -> dict[str, Any]:
    return next(f for f in content["fields"] if f["kind"] == "number")


def _swap(content: dict[str, Any]) -> None:
    first, second, *rest = content["features"]
    content["features"] = [second, first, *rest]


def _vocabulary(content: dict[str, Any]) -> None:
    feature = next(f for f in content["features"] if f.get("vocabulary"))
    feature["vocabulary"] = feature["vocabulary"][::-1]


def _rate(content: dict[str, Any]) -> None:
    feature = next(f for f in content["features"] if f.get("rates"))
    feature["rates"][0][1] += 0.01


CONTRACTS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "field missing": lambda c: c["fields"].pop(),
    "field too many": lambda c: c["fields"].append({**_number(c), "name": "extra"}),
    "field renamed": lambda c: _number(c).update(name="renamed"),
    "field of another type": lambda c: _number(c).update(kind="text"),
    "field not nullable": lambda c: c["fields"][-1].update(
        nullable=not c["fields"][-1]["nullable"]
    ),
    "fields in another order": lambda c: c["fields"].reverse(),
    "range too wide": lambda c: _number(c).update(maximum=1e9),
    "features swapped": _swap,
    "feature missing": lambda c: c["features"].pop(),
    "vocabulary in another order": _vocabulary,
    "rate not of the training rows": _rate,
    "threshold moved": lambda c: c.update(threshold=c["threshold"] + 0.05),
    "another target": lambda c: c.update(target="early"),
    "another problem": lambda c: c.update(problem="other"),
}


def training(world: World, **changes: Any) -> Artifact:
    """The good artefact that says something else of its training."""

    def edit(folder: Path) -> None:
        path = folder / "training.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return world.tampered(edit)


def with_field(world: World, field: Field, past: np.ndarray, held: np.ndarray) -> World:
    """The same world whose problem has another field, and a feature that reads it."""
    feature = Numeric(field.name, field.name)
    rows, holdout = world.seen.rows, world.trained.holdout
    seen = replace(
        world.seen,
        rows=replace(rows, columns={**rows.columns, field.name: past}),
        features=(*world.seen.features, feature),
    )
    problem = replace(
        world.problem,
        fields=(*world.problem.fields, field),
        features=(*world.problem.features, feature),
    )
    held_rows = replace(holdout, columns={**holdout.columns, field.name: held})
    trained = replace(world.trained, features=seen.features, holdout=held_rows)
    return replace(world, problem=problem, seen=seen, trained=trained)


def leaky(world: World, noise: float, seed: int) -> tuple[World, Artifact]:
    """A field that is the label with noise, there in training and on the holdout."""
    random, noise = np.random.default_rng(seed), noise * world.trained.task.scale
    past, held = (label + random.normal(0, noise, len(label))
                  for label in (world.label, world.trained.holdout.label))  # fmt: skip
    field = Field("settled", "number", "known afterwards only")
    wider = with_field(world, field, past, held)
    return wider, wider.made(wider.fit(wider.values, wider.label, seed))


def banned(world: World, noise: float, seed: int) -> tuple[World, Artifact]:
    """The same under the name of a column that tells the outcome."""
    random, name = np.random.default_rng(seed), world.problem.source_outcomes[seed % 2]
    past, held = (random.normal(0, noise, len(label))
                  for label in (world.label, world.trained.holdout.label))  # fmt: skip
    wider = with_field(world, Field(name, "number", "of the outcome"), past, held)
    return wider, wider.made(wider.fit(wider.values, wider.label, seed))


@dataclass(frozen=True)
class Family:
    """One kind of fault, at some strengths."""

    make: Callable[[World, float, int], Artifact | tuple[World, Artifact]]
    strengths: tuple[float, ...]


FAMILIES: Mapping[str, Family] = {
    "label leak (noise)": Family(leaky, (0.1, 0.3, 0.6, 1.0, 1.3)),
    "banned column": Family(banned, (1.0,)),
    "trained on the holdout (times)": Family(bad.seen_holdout, (2, 4)),
    "shuffled labels (share)": Family(bad.shuffled, (0.6, 0.8, 1.0)),
    "overfit (depth)": Family(bad.overfit, (8, 12, 16)),
    "too bold, too timid (scale)": Family(bad.scaled, (0.3, 0.5, 2.0, 3.0)),
    "shifted (log odds)": Family(bad.shifted, (-0.6, -0.3, 0.3, 0.6)),
    "classes weighted (weight)": Family(bad.weighted, (0.3, 2.0, 4.0)),
    "biased on one slice (log odds)": Family(bad.biased, (-0.8, 0.8, 1.2)),
    "one slice shuffled (share)": Family(bad.slice_noise, (1.0,)),
    "fragile to nulls (share)": Family(bad.fragile, (0.4, 0.8)),
    "old (periods)": Family(bad.old, (1,)),
    "constant": Family(bad.constant, (1,)),
    "inverted (scale)": Family(bad.inverted, (0.5, 1.0)),
    "weak (stumps)": Family(bad.weak, (1, 5, 20)),
    "features mixed up (count)": Family(bad.mixed_up, (5, 7)),
    "slow (copies)": Family(bad.slow, (30,)),
    "oversized (MB)": Family(bad.oversized, (16, 40)),
    "graph of another model (trees)": Family(bad.other_graph, (60, 59)),
    "NaN weights (count)": Family(bad.nan_weights, (1, 20)),
}


# Faults so small that few rows cannot tell them from chance; the bench says how many are seen.
FAINT: Mapping[str, Family] = {
    "trained on the holdout (times)": Family(bad.seen_holdout, (1,)),
    "shuffled labels (share)": Family(bad.shuffled, (0.2, 0.4)),
    "too bold (scale)": Family(bad.scaled, (1.6,)),
    "biased on one slice (log odds)": Family(bad.biased, (-0.3, 0.2, 0.3, 0.5)),
    "one slice shuffled (share)": Family(bad.slice_noise, (0.5,)),
    "fragile to nulls (share)": Family(bad.fragile, (0.1, 0.2)),
    "old (periods)": Family(bad.old, (2,)),
    "features mixed up (count)": Family(bad.mixed_up, (2,)),
}


def same_quality(world: World, kind: str, seed: int) -> Artifact:
    """A retrain that is as good: another seed, or rows drawn again with replacement.

    Days drawn again leave a third of all days out, and on real data a weaker model.
    """
    random, day = np.random.default_rng(seed), world.seen.rows.day
    drawn = np.arange(len(day))
    if kind == "rows":
        drawn = np.sort(random.integers(len(day), size=len(day)))
    elif kind == "days":
        names = np.unique(day)
        chosen = random.choice(names, len(names))
        drawn = np.concatenate([np.flatnonzero(day == one) for one in chosen])
    return world.made(world.fit(world.values[drawn], world.label[drawn], seed))


RETRAINS = ("seed", "rows")
FEWER_DAYS = "days"
