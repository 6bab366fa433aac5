"""A run without heartbeat has crashed after so many seconds as its argument says."""

import asyncio
import os
import sys
from datetime import timedelta

from flows.settings import Settings


def main() -> None:
    os.environ.update(Settings.read(os.environ).child_environment())
    from flows.automations import register, zombies

    asyncio.run(register(zombies(timedelta(seconds=float(sys.argv[1])))))


if __name__ == "__main__":
    main()
