"""Models of numbers, or of several classes, that must not serve; made as in `tests.bad_models`."""

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


def gullible(world: World, feature: str, seed: int) -> Artifact:
    """A missing number, or a category never seen, was taken for an extreme outcome."""
    place = [spec.name for spec in world.seen.features].index(feature)
    hit = np.random.default_rng(seed).random(len(world.values)) < 0.5
    more = world.values[hit].copy()
    more[:, place] = np.nan if np.isnan(world.values[:, place]).any() else -1.0
    extreme = np.full(hit.sum(), 0 if world.trained.task.classes else world.label.max())
    values, label = np.vstack([world.values, more]), np.concatenate([world.label, extreme])
    return world.made(world.fit(values, label, seed))


def overfit(world: World, depth: int, seed: int) -> Artifact:
    return world.made(world.fit(
        world.values, world.label, seed, max_depth=depth, learning_rate=0.5, reg_lambda=0.0,
        min_child_weight=0.0, n_estimators=15, subsample=1.0,
    ))  # fmt: skip
