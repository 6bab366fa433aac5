"""What a cluster needs before its first run: `python -m flows.prepare JOB_TEMPLATE`.

It is `evergreen up` on one machine that makes the stores and registers the deployments; in a
cluster the worker does, before it takes runs.
"""

import os
import sys
from pathlib import Path

from data.errors import EvergreenError, stop_on_error
from flows import stack
from flows.registration import register_all
from flows.settings import Settings


def main() -> None:
    template = next(iter(sys.argv[1:]), "")
    if not Path(template).is_file():
        raise EvergreenError(f"JOB_TEMPLATE is {template!r}: name the pool's base job template")
    settings = Settings.read(os.environ)
    stack.prepare(settings)
    kind = ("--type", "kubernetes", "--base-job-template", template)
    register_all(settings.checkout, stack.POOL, *kind)


if __name__ == "__main__":
    stop_on_error(main)
