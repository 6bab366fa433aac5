"""What flows need of their stores before the first one runs: `python -m flows.prepare`.

`evergreen up` does it on one machine; in a cluster the worker does, before it takes runs.
"""

import os

from data.errors import stop_on_error
from flows import stack
from flows.settings import Settings


def main() -> None:
    stack.prepare(Settings.read(os.environ))


if __name__ == "__main__":
    stop_on_error(main)
