"""The traffic goes back, at once: nothing here takes seconds to import."""

import time
from dataclasses import dataclass

from bento import experiment, rollout, target
from bento.target import Release
from data.errors import EvergreenError
from flows import stores
from flows.settings import Settings
from models import standing
from models.standing import Served

PATIENCE = 120.0  # seconds; a release that is on its way is let finish
TURN = 0.5


@dataclass(frozen=True)
class Ended:
    """A canary or A/B test that was ended: what it was, the version, and how long it took."""

    test: bool
    what: str
    release: Release
    milliseconds: float


def end_experiment(settings: Settings) -> Ended | None:
    """All traffic back to the champion if another version has a share of it; None if none has.

    It waits for no release: the one that watches a canary sees that it was ended.
    """
    if target.load(settings.serving).experiment is None:
        return None
    start = time.monotonic()
    before = experiment.end(settings.serving)
    took = 1000 * (time.monotonic() - start)
    tried = before.experiment if before else None
    release = before.slots[tried.slot] if before and tried else None
    if before is None or tried is None or release is None:
        return None
    return Ended(tried.kind == "ab", experiment.describe(before) or "", release, took)


def wait_or_end(settings: Settings) -> Ended | None:
    """Wait for a release that is on its way; if it comes to a canary, that is ended.

    Raises:
        EvergreenError: if it is not done after `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while True:
        if ended := end_experiment(settings):
            return ended
        try:
            with rollout.one_release(settings.serving, TURN):
                return None
        except EvergreenError:
            if time.monotonic() > end:
                raise


def move(settings: Settings) -> tuple[Served, bool]:
    """Move the traffic to the version that served before, as the ledger has it.

    The caller holds `rollout.one_release`.

    Returns:
        That version, and whether the traffic is its already; if not, no slot can answer as it.

    Raises:
        EvergreenError: if no version served before.
    """
    serving, ledger = settings.serving, stores.ledger(settings)
    experiment.end(serving)  # a share that a killed release left
    served = standing.rollback_target(ledger.read())
    slot = rollout.slot_of(target.load(serving), served.version, served.digest)
    if slot is None:
        return served, False
    start = time.monotonic()
    try:
        rollout.switch(serving, slot)
    except EvergreenError:
        return served, False
    took = 1000 * (time.monotonic() - start)
    print(f"all traffic is version {served.version}'s after {took:.0f} ms")
    return served, True
