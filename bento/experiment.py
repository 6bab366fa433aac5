"""A share of the traffic for the idle slot: a canary that is watched, or an A/B test.

The gateway's state file holds it, so that it survives a restart. It ends in one step: all traffic
back to the active slot.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import psutil

from bento import target
from bento.rollout import FULL_WEIGHT, must_answer, only_one
from bento.slots import SLOTS, Serving, Slot
from bento.target import Experiment, State
from data.errors import EvergreenError

PATIENCE = 5.0  # seconds; whoever changes the weights holds the lock for milliseconds


def begin(serving: Serving, kind: Literal["canary", "ab"], slot: Slot, percent: int) -> Experiment:
    """Give the idle slot a share of the traffic; the active one keeps the rest.

    Raises:
        EvergreenError: if the slot is the active one, is empty or does not answer, or another
            experiment is on.
    """
    if kind == "ab" and serving.cluster is not None:
        raise EvergreenError(
            "an A/B test needs clients who stay with their version, which the standard HTTPRoute "
            "does not have: use a canary, or EVERGREEN_TARGET=haproxy"
        )
    at = datetime.now(UTC).isoformat()
    made = Experiment(kind, slot, percent, at, os.getpid())
    with only_one(serving, PATIENCE):
        state = target.load(serving)
        if state.experiment is not None:
            raise EvergreenError(f"slot {slot} gets no share: {describe(state)}; end that first")
        _apply(serving, state, made)
    return made


def change(serving: Serving, running: Experiment, percent: int) -> Experiment:
    """Another share for an experiment that is on.

    Raises:
        EvergreenError: if it was ended meanwhile, or the slot does not answer.
    """
    with only_one(serving, PATIENCE):
        state = target.load(serving)
        if not is_on(state, running):
            raise EvergreenError(f"the {running.kind} in slot {running.slot} was ended by others")
        made = replace(running, percent=percent)
        _apply(serving, state, made)
    return made


def end(serving: Serving, running: Experiment | None = None) -> State | None:
    """All traffic back to the active slot, in one step; the state before, None if nothing was on.

    Args:
        running: only this one; without it whatever is on, and a share that nobody answers for.
    """
    with only_one(serving, PATIENCE):
        state = target.load(serving)
        on = is_on(state, running) if running else state.experiment or left_over(state)
        if not on or state.active is None:
            return None
        weights = {slot: FULL_WEIGHT if slot == state.active else 0 for slot in SLOTS}
        target.of(serving).apply(replace(state, weights=weights, experiment=None))
        return state


def close(serving: Serving, running: Experiment) -> bool:
    """The experiment is over, its share stays until the switch; False if others ended it."""
    with only_one(serving, PATIENCE):
        state = target.load(serving)
        if not is_on(state, running):
            return False
        target.of(serving).apply(replace(state, experiment=None))
        return True


def is_on(state: State, running: Experiment) -> bool:
    """Whether this very experiment is still on."""
    return state.experiment is not None and state.experiment.since == running.since


def left_over(state: State) -> bool:
    """Whether the idle slot has a share without an experiment, as a killed release leaves it."""
    return state.experiment is None and state.active is not None and state.weights[state.idle] > 0


def abandoned(state: State, alive: Callable[[int], bool] = psutil.pid_exists) -> bool:
    """Whether a canary has nobody left who watches it."""
    tried = state.experiment
    return left_over(state) or (
        tried is not None and tried.kind == "canary" and not alive(tried.pid)
    )


def describe(state: State) -> str | None:
    """The experiment in words, None if none is on."""
    tried = state.experiment
    if tried is None:
        return None
    held = state.slots[tried.slot]
    name = "canary" if tried.kind == "canary" else "B of an A/B test"
    version = held.version if held else "?"
    return f"version {version} is {name} with {tried.percent} % since {tried.since[:19]}"


def _apply(serving: Serving, state: State, made: Experiment) -> None:
    slot, percent = made.slot, made.percent
    if state.active is None or slot == state.active or not 0 < percent < FULL_WEIGHT:
        raise EvergreenError(
            f"{percent} % for slot {slot} is no share: name the slot that is not active "
            f"(active: {state.active}) and 1 to 99 percent; `switch` moves everything"
        )
    must_answer(serving, state, slot)
    weights = {slot: percent, state.active: FULL_WEIGHT - percent}
    target.of(serving).apply(replace(state, weights=weights, experiment=made))
