"""As many alarms at once as its first argument says, about what the second is the key of."""

import os
import sys

from flows.settings import Settings


def main() -> None:
    count, key = int(sys.argv[1]), sys.argv[2]
    os.environ.update(Settings.read(os.environ).child_environment())
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    resource = {"prefect.resource.id": "evergreen.model.parcels", "evergreen.key": f"storm {key}"}
    payload = {"as_of": "2024-W14", "cause": "a storm", "version": "2", "key": key}
    for _ in range(count):
        emit_event("evergreen.drift.detected", resource=resource, payload=payload)
    EventsWorker.instance().wait_until_empty()


if __name__ == "__main__":
    main()
