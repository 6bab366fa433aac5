"""One process for one place: a locked pid file, and an end for a process that outlived its parent.

A killed supervisord leaves its programs behind. Without this, a successor of a slot could never
bind, and a second HAProxy would share the port with the first and its outdated weights.
"""

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from data.errors import EvergreenError

# TERM lets requests on the way finish; uvicorn gives them ten seconds.
PATIENCE = ((signal.SIGTERM, 12.0), (signal.SIGKILL, 3.0))


def hold(path: Path, *marks: str) -> None:
    """Hold `path` for the life of this process, also through exec.

    Args:
        path: the pid file.
        marks: words that the command line of a predecessor has; a process without them is a
            stranger that got its number, and is left alone.

    Raises:
        EvergreenError: if the predecessor does not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    stale = _holder(descriptor, marks)
    if not any(_taken(descriptor, stale, number, seconds) for number, seconds in PATIENCE):
        raise EvergreenError(f"{path} stays locked: end the process that holds it")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.set_inheritable(descriptor, True)


def succeed(path: Path, *marks: str) -> int | None:
    """Hold `path` beside a predecessor that serves until its successor does.

    Args:
        path, marks: as for `hold`.

    Returns:
        The predecessor's pid, which the successor has to end; None if there is none.
    """
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.set_inheritable(descriptor, True)
    before = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    predecessor = _holder(before, marks)
    os.close(before)
    fresh.rename(path)
    return predecessor.pid if predecessor else None


def holder(path: Path) -> int | None:
    """The pid in the file, whether or not the process lives."""
    try:
        text = path.read_text()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _holder(descriptor: int, marks: tuple[str, ...]) -> psutil.Process | None:
    pid = os.pread(descriptor, 20, 0)
    with suppress(psutil.Error):
        if pid.isdigit() and int(pid) != os.getpid():
            process = psutil.Process(int(pid))
            if set(marks) <= set(process.cmdline()):
                return process
    return None


def _taken(
    descriptor: int, stale: psutil.Process | None, number: signal.Signals, seconds: float
) -> bool:
    """Whether the lock is ours and the stale process gone, within `seconds` of signalling it."""
    with suppress(psutil.Error):
        if stale is not None:
            stale.send_signal(number)
    end = time.monotonic() + seconds
    while _alive(stale) or not _locked(descriptor):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _alive(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
