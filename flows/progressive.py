"""Shadow and canary of a release: a version proves itself while the champion serves.

`bento.shadow` and `bento.canary` decide; here it is asked, waited for and acted upon.
"""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bento import answers, canary, experiment, observe, shadow, target
from bento.canary import Action, Decision, Look
from bento.contract import Contract
from bento.shadow import Report
from bento.slots import Slot
from bento.target import Experiment, State
from data.contracts import KEY
from data.digests import write_atomically
from data.errors import EvergreenError
from data.labels import known
from flows import troubles
from flows.approval import NotPromotedError
from flows.owner import act
from flows.project import Project
from flows.steps import show, step
from models import standing
from models.ledger import Kind
from models.version import Version

LOOK_SHARE = 3  # times as long as a look takes is waited at least until the next


def shadowed(project: Project, version: Version, slot: Slot, by: str | None) -> None:
    """Ask the last logged requests again; return if nothing speaks against the version.

    Raises:
        NotPromotedError: if something does; the version is marked with it.
    """
    limits, serving = project.params.release.shadow, project.settings.serving
    active = target.load(serving).active
    champion = target.load(serving).slots[active] if active else None
    if not limits.rows or active is None or champion is None:
        print("shadow: skipped, " + ("there is no champion" if limits.rows else "it is off"))
        return
    logged = shadow.last_requests(serving, limits.rows)
    if not logged and not limits.required:
        print("shadow: skipped, nobody has asked anything yet (unknown)")
        return
    contract = _contract(project, champion.version)
    if not answers.comparable(contract.task, _contract(project, version.number).task):
        said = "it answers other classes than the champion, or another kind of outcome"
        if limits.required:
            send_back(project, version, f"shadow: unknown, {said}", by)
        print(f"shadow: skipped, {said} (unknown)")
        return
    pairs = step(shadow.replay, serving, active, slot, logged, contract, champion.digest)
    report = shadow.compare(pairs, limits, contract.task)
    _keep(project, version, "shadow", report.to_json())
    page = _shadow_page(version, report)
    print(page)
    show("shadow", page, f"version {version.number} on logged requests")
    if report.blocks:
        send_back(project, version, f"shadow: {report.blocks}", by)


def watched(project: Project, version: Version, slot: Slot, by: str | None) -> Experiment | None:
    """Raise the share of a version step by step; return when every step is passed.

    Returns:
        The experiment, which is closed right before the promotion; None where there is nothing to
        compare with (the first release).

    Raises:
        NotPromotedError: if the canary is ended; the champion has all traffic again.
    """
    limits, serving = project.params.release.canary, project.settings.serving
    if target.load(serving).active is None:
        print("canary: skipped, there is no champion to compare with")
        return None
    running = experiment.begin(serving, "canary", slot, limits.steps[0])
    decision = canary.no_metrics("not watched")
    try:
        watcher = Watcher(project, running)
        for number, percent in enumerate(limits.steps):
            if number:
                running = experiment.change(serving, running, percent)
            print(f"canary: version {version.number} takes {percent} %")
            decision = watcher.step(running)
            if decision.action is Action.ABORT:
                break
            print(f"canary: {percent} % passed: {decision.reason}")
    except EvergreenError as error:
        decision = canary.no_metrics(str(error))
    except BaseException:
        experiment.end(serving, running)
        raise
    aborted = decision.action is Action.ABORT
    # The weight goes back before anything is written down.
    ended = experiment.end(serving, running) if aborted else None
    _canary_report(project, version, decision)
    if aborted and ended is None:  # by others, who say why
        raise NotPromotedError(f"version {version.number} is not promoted: its canary was ended")
    if aborted:
        send_back(project, version, f"canary at {running.percent} %: {decision.reason}", by)
    return running


class Watcher:
    """Looks at both arms again and again; what was seen in one step counts in the next, too."""

    def __init__(self, project: Project, running: Experiment) -> None:
        self._project, self._running = project, running
        self._limits = project.params.release.canary
        self._watch = canary.start(self._limits)
        serving = project.settings.serving
        self._before = observe.read(serving, datetime.now(UTC))
        state = target.load(serving)
        champion = state.slots[state.active] if state.active else None
        if champion is None:
            raise EvergreenError("a slot of the canary is empty")
        self._contract = _contract(project, champion.version)

    def step(self, running: Experiment) -> Decision:
        """Wait until the step is decided.

        Raises:
            EvergreenError: if the looks cannot be taken.
        """
        self._running, self._watch = running, self._watch.next_step()
        began, pause = time.monotonic(), self._limits.poll
        while True:
            time.sleep(pause)
            start = time.monotonic()
            state = target.load(self._project.settings.serving)
            if not experiment.is_on(state, self._running):
                return canary.no_metrics("the canary was ended by others")
            self._watch = canary.see(self._watch, self._look(state), self._limits)
            decision = canary.judge(self._watch, time.monotonic() - began, self._limits)
            if decision.action is not Action.CONTINUE:
                return decision
            pause = max(self._limits.poll, LOOK_SHARE * (time.monotonic() - start))

    def _look(self, state: State) -> Look:
        """What both did since the last look."""
        serving, before = self._project.settings.serving, self._before
        after = self._before = observe.read(serving, datetime.now(UTC))
        logged = observe.records(serving, before.at, after.at)
        labels = labels_of(self._project, logged)
        arms = []
        for slot in (state.active, self._running.slot):
            release = state.slots[slot] if slot else None
            if slot is None or release is None:
                raise EvergreenError("a slot of the canary is empty")
            mine = [record for record in logged if record["digest"] == release.digest]
            own = before.slots[slot], after.slots[slot]
            arms.append(observe.arm(*own, mine, labels, self._contract))
        return Look(*arms)


def _contract(project: Project, number: str) -> Contract:
    """What a version of that number takes and answers."""
    return Contract.load(project.registry.folder(project.registry.get(number)))


def labels_of(project: Project, logged: list[dict[str, Any]]) -> dict[str, float]:
    """The outcomes of logged events that have arrived already, by key."""
    found: dict[str, float] = {}
    partitions = project.partitions
    keys = {record["key"] for record in logged} - {None}
    for period in partitions.periods() if keys else []:
        inside = any(period.start <= record["event_time"] < period.end for record in logged)
        if inside and partitions.has_labels(period):
            rows = known(partitions.labels(period)).dropna(subset=["label"])
            rows = rows[rows[KEY].isin(keys)]
            found |= dict(zip(rows[KEY], rows["label"].astype(float), strict=True))
    return found


def send_back(project: Project, version: Version, reason: str, by: str | None) -> None:
    """Mark a version that did not prove itself, in the registry and the ledger.

    Raises:
        NotPromotedError: always, with the reason.
    """
    mark(project, version, reason, by)
    raise NotPromotedError(f"version {version.number} is not promoted: {reason}")


def mark(project: Project, version: Version, reason: str, by: str | None) -> None:
    """Registry and ledger say that a version was sent back, and why."""
    project.registry.tag(version, {"aborted": reason[:4000]})
    done = act(project.settings, reason, by)
    project.registry.record(Kind.ABORTED, version, done)
    troubles.sent_back(project, version.number, reason, done.at)


def clear(project: Project, by: str | None = None) -> str | None:
    """End a canary that a killed release left behind; what was done. The caller holds the release.

    Raises:
        EvergreenError: if an A/B test is on, which only a person ends.
    """
    serving = project.settings.serving
    state = target.load(serving)
    if state.experiment is not None and state.experiment.kind == "ab":
        raise EvergreenError(f"{experiment.describe(state)}: `evergreen ab stop` ends it first")
    release = state.slots[state.idle]
    champion, _ = standing.holders(project.ledger.read())
    if release is not None and release.version == champion:  # it was promoted: the switch follows
        return None
    if experiment.end(serving) is None:
        return None
    said = "the canary of a killed release was ended: all traffic is the champion's again"
    if release is not None:
        version = project.registry.get(release.version)
        project.registry.record(Kind.CUT_OFF, version, act(project.settings, said, by))
    return said


def _canary_report(project: Project, version: Version, decision: Decision) -> None:
    _keep(project, version, "canary", asdict(decision))
    page = _canary_page(version, decision)
    print(page)
    show("canary", page, f"version {version.number}: {decision.action}")


def _keep(project: Project, version: Version, name: str, content: dict[str, Any]) -> None:
    path = project.settings.home / "releases" / f"{version.number}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1))


def _table(verdicts: tuple[canary.Verdict, ...]) -> list[str]:
    words = {True: "ok", False: "**blocks**", None: "unknown"}
    lines = ["| check | verdict | n | reason |", "|---|---|---|---|"]
    return lines + [f"| {v.name} | {words[v.good]} | {v.n} | {v.reason} |" for v in verdicts]


def _shadow_page(version: Version, report: Report) -> str:
    lines = [f"shadow: version {version.number} on the last {report.rows} logged requests"]
    if report.mean_difference is not None:
        lines.append(f"mean difference of the answers {report.mean_difference:.4f}")
    lines.append(f"{report.changed_since} answered by the champion otherwise than it was logged")
    lines += ["", *_table(report.verdicts), "", "| request | difference |", "|---|---|"]
    lines += [f"| {name} | {gap:.4f} |" for name, gap in report.largest[:5]]
    return "\n".join(lines)


def _canary_page(version: Version, decision: Decision) -> str:
    head = f"canary: version {version.number}: {decision.action}, {decision.reason}"
    return "\n".join([head, "", *_table(decision.verdicts)])
