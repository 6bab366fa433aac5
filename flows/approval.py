"""A person decides, in the paused run's form or on the command line; the ledger keeps the word."""

import math
import time
from datetime import UTC, date, datetime
from enum import StrEnum

from prefect import pause_flow_run
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput

from data.errors import EvergreenError
from flows import troubles
from flows.owner import act, author, resumed
from flows.project import Project
from flows.steps import in_flow, show
from models import standing
from models.ledger import Entry, Kind
from models.registry import CHAMPION
from models.standing import NEVER_WAIVED, Waiver
from models.version import Version

POLL_SECONDS = 3


class NotPromotedError(EvergreenError):
    """A person said no, or nobody said anything in time; the champion keeps serving."""


class Decision(StrEnum):
    """What a person says of a version."""

    APPROVE = "approve"
    REJECT = "reject"


class Approval(RunInput):
    """The form that a paused run shows; what is sent without an answer is a no."""

    decision: Decision = Decision.REJECT
    note: str = ""
    by: str = ""


def ask(project: Project, version: Version, by: str | None = None) -> None:
    """Return if the version may serve as far as a person has to say so.

    Args:
        by: who started this run; where identities are on, somebody else has to approve.

    Raises:
        NotPromotedError: if it was refused, or nobody decided in time.
        EvergreenError: if there is no run that could be paused to ask.
    """
    if not project.params.approval.required:
        return
    by = author(project.settings, by)
    said = _said(project, version)
    if said is None and not in_flow():
        raise EvergreenError(
            f"version {version.number} needs a person's approval: `evergreen approve "
            f"{version.number} --by NAME --note WHY`, then release it again"
        )
    said = said or _wait(project, version, by)
    if said.kind is Kind.REFUSED:
        raise NotPromotedError(
            f"version {version.number} is not promoted: {said.by} refused it ({said.reason}); "
            f"`evergreen approve {version.number}` overrules that"
        )
    _must_be_another(project, version, said.by, by)


def decide(project: Project, version: Version, decision: Decision, note: str, by: str) -> Entry:
    """Write a person's word on a version, as it was judged, into the ledger.

    Raises:
        EvergreenError: if that person may not decide on it, or a refusal has no reason.
    """
    approved = decision is Decision.APPROVE
    if not approved and not note.strip():
        raise EvergreenError(f"version {version.number}: say why it is refused (note)")
    if approved:
        _must_be_another(project, version, by)
    said = act(project.settings, note.strip() or "approved", by)
    kind = Kind.APPROVED if approved else Kind.REFUSED
    return project.registry.record(kind, version, said, version.judged_against)


def waive(project: Project, number: str, gate: str, by: str, reason: str, expires: date) -> Waiver:
    """Write into the ledger that a person answers for a gate that a version failed.

    Raises:
        EvergreenError: if there is no such failed gate, the reason is empty, or it is a gate that
            nobody can answer for.
    """
    version = project.registry.get(number)
    version.refuse_if_dirty()
    failed = standing.failed_gates(version.tags)
    if gate not in failed:
        raise EvergreenError(
            f"version {number} failed no gate {gate!r} (failed: {', '.join(failed) or 'none'})"
        )
    if gate in NEVER_WAIVED:
        raise EvergreenError(
            f"gate {gate} cannot be waived: what it found is no matter of judgement; mend it and "
            "train again"
        )
    said = act(project.settings, reason.strip(), author(project.settings, by))
    if not said.reason or not by.strip():
        raise EvergreenError("a waiver needs a name and a reason: --by NAME --reason WHY")
    detail = {"gate": gate, "expires": expires.isoformat()}
    project.registry.record(Kind.WAIVER, version, said, version.judged_against, detail)
    return Waiver(gate, number, version.digest, said.by, said.reason, expires)


def _said(project: Project, version: Version) -> Entry | None:
    return standing.decision(project.ledger.read(), version.digest, version.judged_against)


def _must_be_another(
    project: Project, version: Version, approver: str, starter: str | None = None
) -> None:
    """Nobody approves their own, where identities are on."""
    if not project.settings.identities:
        return
    made_by = version.tags.get("author")
    if made_by is None:
        raise EvergreenError(
            f"version {version.number} has no author on record, but identities are on: nobody "
            "knows who must not approve it; train as of another moment"
        )
    if approver in (made_by, starter):
        raise EvergreenError(
            f"{approver} cannot approve version {version.number}, which is their own (trained by "
            f"{made_by}, released by {starter or 'nobody yet'}): ask somebody else"
        )


def _wait(project: Project, version: Version, by: str) -> Entry:
    """Pause this run until somebody who may decides, or the time is up."""
    hours = project.params.approval.timeout_hours
    deadline = time.monotonic() + 3600 * hours
    show("approval", _report(version), f"Version {version.number} waits for a person")
    print(f"version {version.number} waits for approval (up to {hours:g} h): resume this run")
    how = f"answer its form in the Prefect UI, or `evergreen approve {version.number}`"
    told = f"{how}, within {hours:g} h; the champion serves meanwhile"
    troubles.waits(project, version.number, told, datetime.now(UTC))
    try:
        return _asked(project, version, by, deadline)
    finally:
        troubles.decided(project, version.number, "it waits no longer", datetime.now(UTC))


def _asked(project: Project, version: Version, by: str, deadline: float) -> Entry:
    """What a person answers in the form, which is shown again while it cannot be taken."""
    hours, report, remark = project.params.approval.timeout_hours, _report(version), ""
    while (left := deadline - time.monotonic()) > 0:
        form = Approval.with_initial_data(description=f"{remark}{report}")
        try:
            said = pause_flow_run(form, timeout=math.ceil(left), poll_interval=POLL_SECONDS)
            resumed()
            return _answer(project, version, said, by)
        except FlowPauseTimeout:
            break
        except EvergreenError as error:
            print(error)
            remark = f"**Not taken: {error}**\n\n"
    if entry := _said(project, version):  # on the command line, meanwhile
        return entry
    reason = f"nobody decided within {hours:g} h"
    if not _serves(project, version):
        late = act(project.settings, reason, by)
        project.registry.record(Kind.NOT_PROMOTED, version, late, version.judged_against)
    raise NotPromotedError(
        f"version {version.number} is not promoted: {reason}; it stays challenger, and "
        f"`evergreen release {version.number}` asks again"
    )


def _answer(project: Project, version: Version, form: Approval, starter: str | None) -> Entry:
    """What the form says, written down.

    Raises:
        EvergreenError: if it may not be said by this person; then the form is shown again.
    """
    approver = form.by.strip()
    if not approver:
        raise EvergreenError("say who decides (by)")
    if form.decision is Decision.APPROVE:
        _must_be_another(project, version, approver, starter)
    return decide(project, version, form.decision, form.note, approver)


def _serves(project: Project, version: Version) -> bool:
    champion = project.registry.alias(CHAMPION)
    return champion is not None and champion.number == version.number


def _report(version: Version) -> str:
    """What the gates said, as the form shows it."""
    tags = version.tags
    lines = [
        f"### May version {version.number} serve?",
        f"Trained as of {tags.get('as_of')} ({tags.get('cause')}), judged against champion "
        f"{version.judged_against or 'none'}: {tags.get('reason')}",
        "\n| gate | verdict |\n|---|---|",
    ]
    gates = {name: verdict for name, verdict in tags.items() if name.startswith(standing.GATE)}
    lines += [f"| {g.removeprefix(standing.GATE)} | {v} |" for g, v in sorted(gates.items())]
    return "\n".join(lines)
