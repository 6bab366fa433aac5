"""The one family of errors that a person is meant to read."""

import sys
from collections.abc import Callable


class EvergreenError(Exception):
    """Something a person can mend; the message says what was expected and what to do."""


class RefusedError(EvergreenError):
    """A batch that is not taken as it is; it is kept in quarantine with this reason."""


def stop_on_error(main: Callable[[], None]) -> None:
    """Run a command; an `EvergreenError` is printed as one line and exits with 1."""
    try:
        main()
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
