"""One at a time in a whole cluster: a Lease that its holder renews, and that ends with it."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from bento.kubernetes_api import Api, ConflictError, UnclearError
from data.errors import EvergreenError

SECONDS = 30  # without a renewal the holder counts as gone
TURN = 0.2


@contextmanager
def held(api: Api, path: str, patience: float, other: str) -> Iterator[None]:
    """Hold a Lease, which has to be there, while the block runs.

    Raises:
        EvergreenError: naming `other` if somebody else holds it after `patience` seconds.
    """
    end = time.monotonic() + patience
    while (mine := _take(api, path)) is None:
        if time.monotonic() > end:
            raise EvergreenError(f"{other} is on its way: wait until it is done")
        time.sleep(TURN)
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(api, path, mine, over), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        with suppress(EvergreenError):  # whoever took it over meanwhile keeps it
            api.patch(path, _change(mine, holderIdentity=None))


def is_held(api: Api, path: str) -> bool:
    """Whether the holder has renewed a Lease in time."""
    return _renewed(api.get(path))


def _renewed(lease: dict[str, Any]) -> bool:
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity"):
        return False
    last = datetime.fromisoformat(spec["renewTime"])
    return datetime.now(UTC) < last + timedelta(seconds=spec["leaseDurationSeconds"])


def _take(api: Api, path: str) -> dict[str, Any] | None:
    """The Lease's metadata if it is this process's now."""
    lease = api.get(path)
    if _renewed(lease):
        return None
    me = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    change = _change(
        lease["metadata"],
        holderIdentity=me,
        acquireTime=_now(),
        renewTime=_now(),
        leaseDurationSeconds=SECONDS,
    )
    try:
        return dict(api.patch(path, change)["metadata"])
    except ConflictError:
        return None


def _keep(api: Api, path: str, mine: dict[str, Any], over: threading.Event) -> None:
    """Renew until it is over, or others have it."""
    while not over.wait(SECONDS / 3):
        with suppress(UnclearError):
            try:
                mine |= api.patch(path, _change(mine, renewTime=_now()))["metadata"]
            except ConflictError:
                return


def _change(metadata: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": spec}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
