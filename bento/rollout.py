"""Deploy, switch, roll back: how a packaged model comes to take the traffic.

Nothing here decides whether a model is good; that is the gates' matter. What is checked is that the
endpoint serves exactly the artefact that was meant, and answers as it did in training.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from bento import client, gateway, supervisor
from bento.gateway import Release, State
from bento.package import Package
from bento.slots import SLOTS, Serving, Slot, install, restore
from data.errors import EvergreenError

READY_TIMEOUT = 60.0
GATEWAY_TIMEOUT = 10.0
FULL_WEIGHT = 100
ROWS_PER_SMOKE_REQUEST = 100
Row = dict[str, Any]


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


@contextmanager
def _only_one(serving: Serving) -> Iterator[None]:
    try:
        with FileLock(serving.folder / "rollout.lock", timeout=0):
            yield
    except Timeout as error:
        raise EvergreenError("another rollout is on its way: wait until it is done") from error


def deploy(
    serving: Serving,
    package: Package,
    golden_rows: Sequence[Row],
    golden_probabilities: Sequence[float],
    *,
    smoke_rows: int,
    tolerance: float,
) -> Slot:
    """Bring a package up in the idle slot and smoke-test it through the gateway.

    It takes no traffic yet. If it fails, the slot gets back what it held, and the state is as it
    was before.

    Args:
        golden_rows, golden_probabilities: raw rows and what the model answered them in training.
        smoke_rows: how many of them to send.
        tolerance: the largest difference allowed in a probability.

    Returns:
        The slot that now holds the package.

    Raises:
        EvergreenError: naming what failed.
    """
    with _only_one(serving):
        before = gateway.load(serving)
        slot = before.idle
        during = before.with_slot(slot, None)
        gateway.apply(serving, replace(during, weights={**before.weights, slot: 0}))
        supervisor.stop(serving.supervisor_socket, slot)
        install(serving, slot, package)
        release = Release(package.version, package.digest, package.tag)
        try:
            _start(serving, slot, release)
            _smoke(serving, slot, release, golden_rows[:smoke_rows], golden_probabilities, tolerance)
        except EvergreenError as error:
            _put_back(serving, slot, before)
            raise EvergreenError(f"{package.tag} is not released: {error}") from error
        gateway.apply(serving, during.with_slot(slot, release))
        return slot


def switch(serving: Serving, slot: Slot) -> State:
    """Move all traffic to a slot; the other keeps running as its backup.

    Raises:
        EvergreenError: if the slot is empty or does not answer as what it holds.
    """
    with _only_one(serving):
        return _switch(serving, gateway.load(serving), slot)


def rollback(serving: Serving) -> State:
    """Move all traffic back to the slot that served before.

    Raises:
        EvergreenError: if the other slot never served, or is not alive.
    """
    with _only_one(serving):
        state = gateway.load(serving)
        if state.active is None or not state.backs_up(state.idle):
            raise EvergreenError(
                "there is nothing to roll back to: the other slot holds no release that has served"
            )
        return _switch(serving, state, state.idle)


def resume(serving: Serving) -> State:
    """Start the slots that the state names, after the whole stack was down.

    Raises:
        EvergreenError: if the active slot does not come up.
    """
    with _only_one(serving):
        state = gateway.load(serving)
        for slot in sorted(SLOTS, key=lambda slot: slot != state.active):
            if release := state.slots[slot]:
                _start(serving, slot, release)
        gateway.apply(serving, state)
        return state


def status(serving: Serving) -> Status:
    """What the state says and what the endpoint itself answers."""
    state = gateway.load(serving)
    try:
        reply = client.get(f"{serving.url}/version")
        endpoint = reply.value if reply.status == 200 else None
    except EvergreenError:
        endpoint = None
    return Status(state, endpoint, _difference(state, endpoint))


def _difference(state: State, endpoint: dict[str, Any] | None) -> str | None:
    release = state.slots[state.active] if state.active else None
    if release is None:
        return None if endpoint is None else f"{endpoint.get('bento')} serves, though none should"
    if endpoint is None:
        return f"{release.tag} should serve, but the gateway has no answer"
    if endpoint.get("bento") != release.tag:
        return f"{release.tag} should serve, but {endpoint.get('bento')} does"
    return None


def _switch(serving: Serving, state: State, slot: Slot) -> State:
    release = state.slots[slot]
    if release is None:
        raise EvergreenError(f"slot {slot} is empty: deploy a version into it first")
    if (fault := _fault(serving.slot_url(slot), release)) is not None:
        raise EvergreenError(f"slot {slot} takes no traffic: {fault}")
    since = release.since or datetime.now(UTC).isoformat(timespec="seconds")
    state = state.with_slot(slot, replace(release, since=since))
    weights = {name: FULL_WEIGHT if name == slot else 0 for name in SLOTS}
    state = replace(state, active=slot, weights=weights)
    gateway.apply(serving, state)
    return state


def _start(serving: Serving, slot: Slot, release: Release) -> None:
    """Start a slot and wait until it answers, itself and behind the gateway."""
    supervisor.start(serving.supervisor_socket, slot)
    _wait(lambda: _slot_fault(serving, slot, release), READY_TIMEOUT)
    headers = {"x-slot": slot}
    _wait(lambda: _fault(serving.url, release, headers), GATEWAY_TIMEOUT)


def _slot_fault(serving: Serving, slot: Slot, release: Release) -> str | None:
    word = supervisor.state(serving.supervisor_socket, slot)
    if word in supervisor.FAILED:
        raise EvergreenError(f"slot {slot} is {word}; {serving.log(slot)} ends with\n{_tail(serving, slot)}")
    fault = _fault(serving.slot_url(slot), release)
    return fault and f"{fault}; {serving.log(slot)} ends with\n{_tail(serving, slot)}"


def _fault(url: str, release: Release, headers: dict[str, str] | None = None) -> str | None:
    """Why this is not the release's endpoint; None if it is."""
    try:
        reply = client.get(f"{url}/version", headers)
    except EvergreenError as error:
        return str(error)
    if reply.status != 200 or not isinstance(reply.value, dict):
        return f"{url}/version answers {reply.status}"
    if reply.value.get("bento") != release.tag:
        return f"{url} serves {reply.value.get('bento')}, not {release.tag}"
    return None


def _wait(fault: Callable[[], str | None], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (found := fault()) is not None:
        if time.monotonic() > end:
            raise EvergreenError(f"after {seconds:.0f} s {found}")
        time.sleep(0.05)


def _smoke(
    serving: Serving,
    slot: Slot,
    release: Release,
    rows: Sequence[Row],
    expected: Sequence[float],
    tolerance: float,
) -> None:
    """Ask the golden rows through the gateway; every answer has to be the right model's."""
    for first in range(0, len(rows), ROWS_PER_SMOKE_REQUEST):
        part = list(rows[first : first + ROWS_PER_SMOKE_REQUEST])
        reply = client.call("POST", f"{serving.url}/predict", part, {"x-slot": slot})
        if reply.status != 200 or not isinstance(reply.value, list):
            raise EvergreenError(f"golden rows are answered with {reply.status}: {reply.value}")
        for number, answer in enumerate(reply.value, start=first):
            _judge(number, answer, release, expected[number], tolerance)


def _judge(
    number: int, answer: dict[str, Any], release: Release, expected: float, tolerance: float
) -> None:
    if (answer["digest"], answer["model_version"]) != (release.digest, release.version):
        raise EvergreenError(
            f"golden row {number} is answered by {answer['model_version']} "
            f"({answer['digest'][:16]}), not by {release.version} ({release.digest[:16]})"
        )
    if answer["degraded"]:
        raise EvergreenError(f"golden row {number} is answered with the base rate: the model fails")
    if not abs(answer["probability"] - expected) <= tolerance:
        raise EvergreenError(
            f"golden row {number} has the probability {answer['probability']:.6f}; training gave "
            f"{expected:.6f}, and the difference is over {tolerance:g}"
        )


def _put_back(serving: Serving, slot: Slot, before: State) -> None:
    """The slot as it was before a failed deploy."""
    supervisor.stop(serving.supervisor_socket, slot)
    restore(serving, slot)
    if release := before.slots[slot]:
        _start(serving, slot, release)
    gateway.apply(serving, before)


def _tail(serving: Serving, slot: Slot, lines: int = 8) -> str:
    try:
        text = serving.log(slot).read_text(errors="replace")
    except OSError:
        return "(nothing)"
    return "\n".join(text.splitlines()[-lines:])
