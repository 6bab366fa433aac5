"""Models of numbers, or of several classes, that must not serve; made as in `tests.bad_models`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import Artifact
from tests.bad_models import World


def off_level(world: World, step: float, seed: int) -> Artifact:
    """All numbers too high by a step of their scale, or one class by a step of log odds."""
    return _pushed(world, np.ones(len(world.label), dtype=bool), step, seed)


def biased(world: World, step: float, seed: int) -> Artifact:
    """The same for the rows of one route."""
    return _pushed(world, world.seen.rows.columns["route"] == "coast", step, seed)


def _pushed(world: World, rows: np.ndarray, step: float, seed: int) -> Artifact:
    task, label = world.trained.task, world.label
    if task.classes:
        weight = np.where(rows & (label == 0), np.exp(step), 1.0)
        return world.made(world.fit(world.values, label, seed, weight))
    return world.made(world.fit(world.values, label + step * task.scale * rows, seed))


def bold(world: World, times: float, seed: int) -> Artifact:
    """Numbers `times` as far from their mean; the likeliest class taken for the outcome."""
    label = world.label
    if world.trained.task.classes:
        told = world.fit(world.values, label, seed).predict(world.values)
    else:
        told = label.mean() + times * (label - label.mean())
    return world.made(world.fit(world.values, told, seed))


def turned(world: World, by: float, seed: int) -> Artifact:
    """High for low, or each class for the next."""
    task, label = world.trained.task, world.label
    told = (label + int(by)) % task.width if task.classes else 2 * label.mean() - label
    return world.made(world.fit(world.values, told, seed))


def gullible(world: World, share: float, seed: int) -> Artifact:
    """A missing weight was taken for an extreme outcome in a share of the training rows."""
    place = [feature.name for feature in world.seen.features].index("kilos")
    hit = np.random.default_rng(seed).random(len(world.values)) < share
    more = world.values[hit].copy()
    more[:, place] = np.nan
    extreme = np.full(hit.sum(), 0 if world.trained.task.classes else world.label.max())
    values, label = np.vstack([world.values, more]), np.concatenate([world.label, extreme])
    return world.made(world.fit(values, label, seed))


def contract(world: World, changes: Mapping[str, Any], seed: int) -> Artifact:
    """The good artefact whose contract names another task."""

    def edit(folder: Path) -> None:
        path = folder / "contract.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "task": {**content["task"], **changes}}))

    return world.tampered(edit)
