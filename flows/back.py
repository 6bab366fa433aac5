"""The traffic goes back, at once: nothing here takes seconds to import."""

from bento import gateway, rollout
from data.errors import EvergreenError
from flows.settings import Settings
from models import standing
from models.ledger import Ledger
from models.standing import Served

PATIENCE = 120.0  # a release that is on its way is let finish


def move(settings: Settings) -> tuple[Served, bool]:
    """Move the traffic to the version that served before, as the ledger has it.

    The caller holds `rollout.one_release`.

    Returns:
        That version, and whether the traffic is its already; if not, no slot can answer as it.

    Raises:
        EvergreenError: if no version served before.
    """
    serving, ledger = settings.serving, Ledger(settings.home / "ledger.jsonl")
    target = standing.rollback_target(ledger.read())
    slot = rollout.slot_of(gateway.load(serving), target.version, target.digest)
    if slot is None:
        return target, False
    try:
        rollout.switch(serving, slot)
    except EvergreenError:
        return target, False
    return target, True
