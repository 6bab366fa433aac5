"""Send a period's events to the endpoint, as that period's clients would."""

from collections.abc import Callable, Iterator

import pandas as pd
import requests

from bento import predictions
from data import contracts
from data.contracts import KEY, to_columns
from data.errors import EvergreenError
from data.ingest import deliver
from data.periods import Period
from flows.project import Project
from models.artifact import to_requests

SINGLES = 20
TIMEOUT = (2, 30)


def send(project: Project, period: Period, progress: Callable[[int], None]) -> int:
    """POST every event of the period that took place and was not answered yet; how many.

    The first few go as single objects, the rest as lists in the order of event time.

    Raises:
        EvergreenError: if the endpoint refuses or does not answer.
    """
    rows = _due(project, period)
    requests_ = to_requests(to_columns(rows, project.problem.fields), project.problem.fields)
    bodies = [
        {**row, "key": key} for row, key in zip(requests_, rows[KEY].astype(object), strict=True)
    ]
    door = project.settings.serving.door
    with door.session() as session:
        for body in _batches(bodies, project.params.demo.rows_per_request):
            _post(session, f"{door.url}/predict", body)
            progress(len(body) if isinstance(body, list) else 1)
    return len(bodies)


def _due(project: Project, period: Period) -> pd.DataFrame:
    """The period's events that took place, without those that are in the prediction log."""
    rows = project.partitions.rows(period).sort_values([project.problem.event_time, KEY])
    outcomes = project.problem.outcomes(deliver(project.problem, period))
    if outcomes is not None:
        checked = contracts.check(
            contracts.LABELS, outcomes.assign(labelled_at=period.end), f"outcomes of {period}"
        )
        rows = rows[~rows[KEY].isin(checked.loc[checked["excluded"].notna(), KEY])]
    logged = predictions.read(project.settings.serving.folder, period.start, period.end)
    return rows[~rows[KEY].isin([record["key"] for record in logged])]


def _batches(bodies: list[dict[str, object]], size: int) -> Iterator[object]:
    yield from bodies[:SINGLES]
    for start in range(SINGLES, len(bodies), size):
        yield bodies[start : start + size]


def _post(session: requests.Session, url: str, body: object) -> None:
    try:
        response = session.post(url, json=body, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise EvergreenError(f"{url} does not answer ({type(error).__name__})") from error
    if response.status_code != 200:
        raise EvergreenError(f"{url} answers {response.status_code}: {response.text[:300]}")
