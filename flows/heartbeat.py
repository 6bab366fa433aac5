"""A sign of life for a service outside: when none comes, it tells somebody that all this is gone.

EVERGREEN_HEARTBEAT is the address of a check at such a service. It is asked for when the monitor or
the daily look at the loop has done its work, and for nothing else: a monitor that fails for days is
as silent as a machine that is off.
"""

from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests

from data.errors import EvergreenError
from flows import year
from flows.reports import SILENCE, silent
from flows.settings import Settings

SECONDS = (2.0, 10.0)  # to connect, to answer


def beat(settings: Settings) -> bool | None:
    """Ask for the address; whether it answered, None if none is named.

    That it did not is a line in the log and no error. The path of the address is a secret.
    """
    if not settings.heartbeat:
        return None
    try:
        reply = requests.get(settings.heartbeat, timeout=SECONDS)
        trouble = "" if reply.ok else f"it answers {reply.status_code}"
    except requests.RequestException as error:
        trouble = type(error).__name__
    if trouble:
        host = urlsplit(settings.heartbeat).hostname
        print(f"the sign of life did not reach {host} of EVERGREEN_HEARTBEAT: {trouble}")
    return not trouble


def watched(folder: Path, at: datetime) -> str:
    """What the newest report says of when the monitor last worked; only files are read.

    Args:
        folder: of the reports.

    Raises:
        EvergreenError: if there is none, or it is older than the schedule allows.
    """
    report = year.read(folder).newest
    if report is None:
        raise EvergreenError(
            f"nothing was ever watched: {folder} has no report; `evergreen monitor` makes one"
        )
    if said := silent(report.week.period, report.made_at, at):
        raise EvergreenError(said)
    hours = (at - datetime.fromisoformat(report.made_at)).total_seconds() / 3600
    limit = SILENCE.total_seconds() / 3600
    return f"{report.week.period} was watched {hours:.0f} hours ago, at most {limit:.0f} are usual"
