"""What goes on only when a person says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.params import Params
from flows.ask import Registered, Run
from models import standing
from models.ledger import Entry, Kind
from models.standing import CHALLENGER


@dataclass(frozen=True)
class Waiting:
    """Something that goes on when a person says so: what, the command, and where to click."""

    what: str
    command: str
    url: str | None = None


def find(
    params: Params | None,
    known: Registered | None,
    entries: Sequence[Entry],
    runs: Sequence[Run],
) -> list[Waiting]:
    """Paused runs, which ask about a version themselves; else a challenger nobody decided about."""
    found = [
        Waiting(f"the run {run.name!r} is paused", "answer its form in the Prefect UI", run.url)
        for run in runs
        if run.kind == "PAUSED"
    ]
    number = known.aliases.get(CHALLENGER) if known else None
    if found or params is None or known is None or number is None or number not in known.versions:
        return found
    version = known.versions[number]
    said = standing.decision(entries, version.digest, version.judged_against)
    ended = standing.aborted(entries, number) or standing.taken_back(entries, number)
    if ended or (said and said.kind is Kind.REFUSED):
        return found
    what = f"version {number} passed its gates ({version.tags.get('reason', 'no reason kept')})"
    if params.approval.required and said is None:
        command = f"evergreen approve {number} --by NAME --note WHY"
        return [*found, Waiting(f"{what} and needs a person's approval", command)]
    return [*found, Waiting(f"{what} and is not released", f"evergreen release {number}")]
