"""A judged version is packaged, tried in the idle slot, and takes the traffic."""

import json
from datetime import UTC, datetime

from prefect import flow

from bento import experiment, rollout, target
from bento.contract import Contract
from bento.slots import Slot
from data.errors import EvergreenError
from flows import approval, image, progressive, shelf, troubles
from flows.approval import NotPromotedError
from flows.forms import Number, Person, run_name
from flows.owner import act, still_owner
from flows.project import Project
from flows.steps import Outcome, link, step
from models import standing
from models.ledger import Kind
from models.registry import CHALLENGER, CHAMPION
from models.version import Version


def run_release(project: Project, number: str | None = None, by: str | None = None) -> Version:
    """Release a version (the challenger without a number); the champion serves until it may.

    First it answers in the idle slot as it did in training, then logged requests, and where
    params.yaml asks for it a growing share of the traffic; then it is promoted, in the ledger and
    by alias; then it takes the traffic. Running it again after a crash goes on where it stopped.

    Raises:
        EvergreenError: if the version was trained from a dirty tree, did not pass its gates, was
            judged against another champion, is not approved where that is asked for, or fails its
            smoke test; nothing changes for clients then.
    """
    project.registry.resume(number)
    version = _chosen(project, number)
    if not _is_champion(project, version):
        approval.ask(project, version, by)
    serving = project.settings.serving
    with rollout.one_release(serving):
        if done := progressive.clear(project, by):
            print(done)
        slot = slot_for(project, version)
        prove(project, version, slot, by)
        try:
            project.registry.promote(
                version,
                version.judged_against,
                act(project.settings, version.tags.get("cause", "released"), by),
                still_owner=still_owner,
            )
        except BaseException:
            experiment.end(serving)  # the share that a passed canary still has
            raise
        take_traffic(project, version, slot, by)
    print(f"version {version.number} is champion and serves at {serving.url}/predict")
    troubles.released(project, version.number, datetime.now(UTC))
    link("endpoint", f"{serving.url}/docs.json", f"endpoint, version {version.number}")
    return version


def prove(project: Project, version: Version, slot: Slot, by: str | None) -> None:
    """Shadow, and a canary where params.yaml asks for it; what serves already has proved itself.

    Raises:
        NotPromotedError: if something speaks against the version; the champion has all traffic.
    """
    serving = project.settings.serving
    state = target.load(serving)
    if slot == state.active or _is_champion(project, version):
        return
    progressive.shadowed(project, version, slot, by)
    if project.params.release.strategy != "canary":
        return
    running = progressive.watched(project, version, slot, by)
    if running is not None and not experiment.close(serving, running):
        raise NotPromotedError(f"version {version.number} is not promoted: its canary was ended")


def slot_for(project: Project, version: Version) -> Slot:
    """The slot that a version answers in: where it serves or waits, or the idle one, deployed now.

    What waits has passed its smoke test, or the state would not name it.
    """
    serving = project.settings.serving
    state = target.load(serving)
    slot = rollout.slot_of(state, version.number, version.digest)
    if slot and (slot == state.active or not state.backs_up(slot)):
        return slot
    return _deploy(project, version)


def take_traffic(project: Project, version: Version, slot: Slot, by: str | None) -> None:
    """All traffic to a promoted version; from then on it counts as one that served."""
    serving = project.settings.serving
    state = step(rollout.switch, serving, slot)
    rollout.confirm(serving, version.number, version.digest)
    done = act(project.settings, f"serves in slot {slot}", by)
    project.registry.record(Kind.RELEASED, version, done)
    if release := state.slots[slot]:
        project.registry.tag(version, {"bento": release.tag})


def finish(project: Project) -> str | None:
    """Complete a release that was killed between its promotion and the switch; what was done.

    A champion whose slot has served before is not switched to: there a rollback was cut off.
    """
    serving = project.settings.serving
    with rollout.one_release(serving):
        project.registry.resume()
        tried = target.load(serving).experiment
        left = progressive.clear(project) if tried is None or tried.kind == "canary" else None
        champion, state = project.registry.alias(CHAMPION), target.load(serving)
        slot = rollout.slot_of(state, champion.number, champion.digest) if champion else None
        if champion is None or slot is None or slot == state.active or state.backs_up(slot):
            return left
        take_traffic(project, champion, slot, None)
    return f"version {champion.number} was promoted before the stack went down, and serves now"


def _deploy(project: Project, version: Version) -> Slot:
    serving, settings = project.settings.serving, project.params.release
    artefact = project.registry.folder(version)
    built = step(shelf.build, project, version, artefact)
    packed = image.of(version, built) if serving.cluster else built
    golden = json.loads((artefact / "golden.json").read_text())
    slot = step(
        rollout.deploy,
        serving,
        packed,
        Contract.load(artefact),
        golden["rows"],
        golden["probabilities"],
        smoke_rows=settings.smoke_rows,
        tolerance=settings.smoke_tolerance,
    )
    print(f"{built.tag} answers in slot {slot}, as trained, through the gateway")
    return slot


def _chosen(project: Project, number: str | None) -> Version:
    """The version to release; the champion itself may be released again."""
    registry = project.registry
    version = registry.get(number) if number else registry.alias(CHALLENGER)
    if version is None:
        raise EvergreenError("there is no challenger: run `evergreen train` first")
    version.refuse_if_dirty()
    must_have_passed(project, version)
    champion = registry.alias(CHAMPION)
    current = champion.number if champion else None
    if current not in (version.number, version.judged_against):
        raise EvergreenError(
            f"version {version.number}: champion changed since it was judged: judge again with "
            f"`evergreen train` (judged against {version.judged_against}, the champion is "
            f"{current} now)"
        )
    return version


def must_have_passed(project: Project, version: Version) -> None:
    """Every gate passed, or a person answers for it.

    Raises:
        EvergreenError: naming the gates that neither holds for.
    """
    verdict = version.tags.get("gates")
    if verdict == "passed":
        return
    number, now = version.number, datetime.now(UTC)
    known = standing.waivers(project.ledger.read(), version.digest)
    left = standing.unwaived(version.tags, known, now)
    if verdict is None or left or not standing.failed_gates(version.tags):
        reason = version.tags.get("reason", "it was never judged")
        raise EvergreenError(f"version {number} did not pass its gates: {reason}")
    for waiver in (waiver for waiver in known if waiver.holds(now)):
        said = f"{waiver.by} answers for it until {waiver.expires}: {waiver.reason}"
        print(f"gate {waiver.gate} of version {number} is waived; {said}")


def _is_champion(project: Project, version: Version) -> bool:
    champion = project.registry.alias(CHAMPION)
    return champion is not None and champion.number == version.number


@flow(
    name="release",
    flow_run_name=run_name("release", "version"),
    **troubles.TOLD,
)
def release(version: Number | None = None, by: Person | None = None) -> Outcome:
    """Package a judged version, smoke-test it in the idle slot, and move the traffic to it.

    Args:
        version: its number in the registry; without it the challenger.
        by: who asks for it, for the ledger.
    """
    try:
        released = run_release(Project.open(), version, by)
    except NotPromotedError as refusal:
        print(refusal)
        return Outcome(str(refusal), done=False)
    return Outcome(f"version {released.number} is champion and serves")
