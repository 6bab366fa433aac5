"""Deploy, switch, roll back: how a packaged model comes to take the traffic.

Nothing here decides whether a model is good; that is the gates' matter. What is checked is that the
endpoint serves exactly the artefact that was meant, and answers as it did in training.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bento import history, target
from bento.client import Door
from bento.contract import Contract
from bento.slots import SLOTS, Serving, Slot
from bento.smoke import Row, smoke_test
from bento.target import Packed, Release, State, Target
from data.errors import EvergreenError

GATEWAY_TIMEOUT = 10.0
FULL_WEIGHT = 100


@dataclass(frozen=True)
class Status:
    """What should serve and what does.

    Attributes:
        endpoint: what the gateway's /version answers; None if nothing does.
        problem: how the two differ; None if they do not.
    """

    state: State
    endpoint: dict[str, Any] | None
    problem: str | None


def one_release(serving: Serving, patience: float = 0) -> AbstractContextManager[None]:
    """Held from the idle slot's deployment to the last step of a release or a rollback.

    The idle slot has one owner then; what one release put there no other switches to.

    Raises:
        EvergreenError: if another one is still on its way after `patience` seconds.
    """
    return target.of(serving).lock("release", patience, "another release or rollback")


def only_one(serving: Serving, patience: float = 0) -> AbstractContextManager[None]:
    """Held while the gateway's state changes."""
    return target.of(serving).lock("rollout", patience, "another rollout")


def deploy(
    serving: Serving,
    package: Packed,
    contract: Contract,
    golden_rows: Sequence[Row],
    golden_scores: Sequence[Any],
    *,
    smoke_rows: int,
    tolerance: float,
) -> Slot:
    """Bring a package up in the idle slot and smoke-test it through the gateway.

    It takes no traffic yet. If it fails, the slot gets back what it held, and the state is as it
    was before.

    Args:
        contract: of the artefact inside.
        golden_rows, golden_scores: raw rows and what the model answered them in training.
        smoke_rows: how many of them to send.
        tolerance: the largest difference allowed in a score, see `Task.gap`.

    Returns:
        The slot that now holds the package.

    Raises:
        EvergreenError: naming what failed.
    """
    if not golden_rows[:smoke_rows]:
        raise EvergreenError(f"{package.tag} has no golden rows to be tested with: train it again")
    with only_one(serving):
        place = target.of(serving)
        before = place.load()
        slot = before.idle
        release = Release(package.version, package.digest, package.tag)
        place.stage(slot, package)
        emptied = replace(before.with_slot(slot, None), weights={**before.weights, slot: 0})
        emptied = place.apply(emptied)
        try:
            place.install(slot, package)
            _start(serving, place, slot, release)
            rows = golden_rows[:smoke_rows]
            smoke_test(serving, slot, release, contract, rows, golden_scores, tolerance)
        except Exception as error:
            left = _put_back(serving, place, slot, before, emptied)
            raise EvergreenError(f"{package.tag} is not released: {error}{left}") from error
        place.apply(emptied.with_slot(slot, release))
        return slot


def switch(serving: Serving, slot: Slot) -> State:
    """Move all traffic to a slot; the other keeps running as its backup.

    Raises:
        EvergreenError: if the slot is empty or does not answer as what it holds.
    """
    with only_one(serving):
        return _switch(serving, target.load(serving), slot)


def slot_of(state: State, version: str, digest: str) -> Slot | None:
    """The slot that holds a version, the active one first."""
    for slot in sorted(SLOTS, key=lambda slot: slot != state.active):
        release = state.slots[slot]
        if release and (release.version, release.digest) == (version, digest):
            return slot
    return None


def confirm(serving: Serving, version: str, digest: str) -> None:
    """Ask the gateway, as a client does, who answers.

    Raises:
        EvergreenError: if it is not this version with this digest.
    """
    state = target.load(serving)
    # While two versions share the traffic, the one that is meant is asked by its slot.
    slot = state.active if state.experiment else None
    pinned = serving.pinned(slot).get("/version", {"x-slot": slot}) if slot else None
    reply = pinned or serving.door.get("/version")
    said = reply.value if isinstance(reply.value, dict) else {}
    if (said.get("model_version"), said.get("digest")) != (version, digest):
        raise EvergreenError(
            f"{serving.url} is answered by version {said.get('model_version')} "
            f"({str(said.get('digest'))[:16]}), not by {version} ({digest[:16]})"
        )


def resume(serving: Serving) -> State:
    """Start the slots that the state names, after the whole stack was down.

    Raises:
        EvergreenError: if a slot does not come up; the active one is started first.
    """
    with only_one(serving):
        place = target.of(serving)
        state = place.load()
        for slot in sorted(SLOTS, key=lambda slot: slot != state.active):
            if release := state.slots[slot]:
                _start(serving, place, slot, release)
        return state


def status(serving: Serving) -> Status:
    """What the state says and what the endpoint itself answers."""
    state = target.load(serving)
    try:
        reply = serving.door.get("/version")
        endpoint = reply.value if reply.status == 200 else None
    except EvergreenError:
        endpoint = None
    return Status(state, endpoint, _difference(serving, state, endpoint))


def _difference(serving: Serving, state: State, endpoint: dict[str, Any] | None) -> str | None:
    release = state.slots[state.active] if state.active else None
    tag = endpoint.get("bento") if endpoint else None
    if release is None:
        return None if tag is None else f"{tag} serves, though none should"
    if tag is None:
        return f"{release.tag} should serve, but the gateway has no answer"
    if tag not in {held.tag for s, held in state.slots.items() if held and state.weights[s]}:
        return f"{release.tag} should serve, but {tag} does"
    faults = {s: _fault(Door(serving.slot_url(s)), held) for s, held in state.slots.items() if held}
    return next((f"slot {s}: {fault}" for s, fault in faults.items() if fault), None)


def _switch(serving: Serving, state: State, slot: Slot) -> State:
    release = must_answer(serving, state, slot)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    before = release.since if state.active == slot else None  # it has the traffic already
    state = state.with_slot(slot, replace(release, since=before or at))
    weights = {name: FULL_WEIGHT if name == slot else 0 for name in SLOTS}
    state = replace(state, active=slot, weights=weights, experiment=None)
    state = target.of(serving).apply(state)
    history.append(serving.folder, history.Switch.of(release, slot, at))
    _wait(lambda: _fault(serving.door, release), GATEWAY_TIMEOUT)
    return state


def must_answer(serving: Serving, state: State, slot: Slot) -> Release:
    """The release that a slot holds and answers as, seen through the gateway.

    A slot that was killed is given the time to come back.
    """
    release = state.slots[slot]
    if release is None:
        raise EvergreenError(f"slot {slot} is empty: deploy a version into it first")
    try:
        _wait(lambda: _pinned_fault(serving, slot, release), GATEWAY_TIMEOUT)
    except EvergreenError as error:
        raise EvergreenError(f"slot {slot} takes no traffic: {error}") from error
    return release


def _start(serving: Serving, place: Target, slot: Slot, release: Release) -> None:
    """Start a slot and wait until it answers, itself and where clients are let in."""
    place.start(slot)
    _wait(lambda: _slot_fault(serving, place, slot, release), place.patience, place.pause)
    _wait(lambda: _pinned_fault(serving, slot, release), GATEWAY_TIMEOUT)


def _slot_fault(serving: Serving, place: Target, slot: Slot, release: Release) -> str | None:
    if (found := place.fault(slot)) is not None:
        return found
    fault = _fault(Door(serving.slot_url(slot)), release)
    return fault and f"{fault}; {place.last_words(slot)}"


def _pinned_fault(serving: Serving, slot: Slot, release: Release) -> str | None:
    return _fault(serving.pinned(slot), release, {"x-slot": slot})


def _fault(door: Door, release: Release, headers: dict[str, str] | None = None) -> str | None:
    """Why this is not the release's endpoint; None if it is."""
    try:
        reply = door.get("/version", headers)
    except EvergreenError as error:
        return str(error)
    if reply.status != 200 or not isinstance(reply.value, dict):
        return f"{door.url}/version answers {reply.status}"
    if reply.value.get("bento") != release.tag:
        return f"{door.url} serves {reply.value.get('bento')}, not {release.tag}"
    return None


def _wait(fault: Callable[[], str | None], seconds: float, pause: float = 0.05) -> None:
    end = time.monotonic() + seconds
    while (found := fault()) is not None:
        if time.monotonic() > end:
            raise EvergreenError(f"after {seconds:.0f} s {found}")
        time.sleep(pause)


def _put_back(serving: Serving, place: Target, slot: Slot, before: State, emptied: State) -> str:
    """The slot as it was before a failed deploy; what to add to the error if that fails, too."""
    try:
        place.restore(slot)
        if release := before.slots[slot]:
            _start(serving, place, slot, release)
    except EvergreenError as error:
        held = before.slots[slot]
        again = f", for {held.tag} does not start again" if held else ""
        return f"; slot {slot} is left empty{again} ({error})"
    place.apply(replace(emptied, slots=before.slots, weights=before.weights))
    return ""
