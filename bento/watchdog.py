"""A call of the model that does not come back.

The model runs in the event loop's own thread: to hand each request to another one would cost as
much as the model does. So a call that hangs takes everything with it, and nobody can end it but the
end of the process. What is left is a second thread, which notices it, and has the last word.
"""

from collections.abc import Callable
from threading import Lock, Thread
from time import sleep
from types import TracebackType
from typing import Self

LOOKS = 4


class Watchdog:
    """Around each call (`with`); `give_up` is called, in another thread, while one hangs.

    Its thread counts how often it saw the same call, rather than seconds: a process that was
    stopped for a while has not hung.
    """

    def __init__(self, limit: float, give_up: Callable[[], None]) -> None:
        """Args: limit: seconds; give_up: the call that hangs never returns to what made it."""
        self._limit, self._give_up = limit, give_up
        self._calls, self._busy = 0, False
        self._returning = Lock()
        Thread(target=self._look, name="watchdog", daemon=True).start()

    def __enter__(self) -> Self:
        self._calls += 1
        self._busy = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._returning:
            self._busy = False

    def _look(self) -> None:
        seen, call = 0, 0
        while True:
            sleep(self._limit / LOOKS)
            seen = seen + 1 if self._busy and call == self._calls else 0
            call = self._calls
            if seen >= LOOKS:
                with self._returning:
                    if self._busy and call == self._calls:
                        self._give_up()
                seen = 0
