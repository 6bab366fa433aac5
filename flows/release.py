"""A judged version is packaged, tried in the idle slot, and takes the traffic."""

import json
from pathlib import Path

from prefect import flow

from bento import gateway, package, rollout
from bento.package import Package
from data.errors import EvergreenError
from flows.project import Project
from flows.steps import Outcome, link, step
from models.registry import CHALLENGER, CHAMPION, Version


def run_release(project: Project, number: str | None = None) -> Version:
    """Release a version (the challenger without a number); the champion serves until it may.

    Running it again after a crash goes on where it stopped.

    Raises:
        EvergreenError: if the version was trained from a dirty tree, did not pass its gates, was
            judged against another champion, or fails its smoke test; nothing changes for clients
            then.
    """
    version = _chosen(project, number)
    serving, settings = project.settings.serving, project.params.release
    state = gateway.load(serving)
    active = state.slots[state.active] if state.active else None
    if active is None or active.version != version.number or active.digest != version.digest:
        artefact = project.registry.folder(version)
        built = step(_build, project, version, artefact)
        golden = json.loads((artefact / "golden.json").read_text())
        slot = step(
            rollout.deploy,
            serving,
            built,
            golden["rows"],
            golden["probabilities"],
            smoke_rows=settings.smoke_rows,
            tolerance=settings.smoke_tolerance,
        )
        print(f"{built.tag} answers in slot {slot}, as trained, through the gateway")
        expected = version.tags.get("judged_against", "none")
        project.registry.promote(version, None if expected == "none" else expected)
        step(rollout.switch, serving, slot)
        tag = built.tag
    else:
        tag = active.tag
        expected = version.tags.get("judged_against", "none")
        project.registry.promote(version, None if expected == "none" else expected)
    project.registry.tag(version, {"bento": tag})
    print(f"version {version.number} is champion and serves at {serving.url}/predict")
    link("endpoint", f"{serving.url}/docs.json", f"endpoint, version {version.number}")
    return version


def _chosen(project: Project, number: str | None) -> Version:
    """The version to release; the champion itself may be released again."""
    registry = project.registry
    version = registry.get(number) if number else registry.alias(CHALLENGER)
    if version is None:
        raise EvergreenError("there is no challenger: run `evergreen train` first")
    version.refuse_if_dirty()
    if version.tags.get("gates") != "passed":
        reason = version.tags.get("reason", "it was never judged")
        raise EvergreenError(f"version {version.number} did not pass its gates: {reason}")
    champion = registry.alias(CHAMPION)
    expected = version.tags.get("judged_against", "none")
    current = champion.number if champion else "none"
    if version.number != current and expected != current:
        raise EvergreenError(
            f"version {version.number} was judged against champion {expected}, but the champion is "
            f"{current} now: judge it again with `evergreen train`"
        )
    return version


def _build(project: Project, version: Version, artefact: Path) -> Package:
    """The bento of a version's artefact."""
    return package.build(
        artefact,
        name=project.problem.name,
        version=version.number,
        store=project.settings.home / "bentos",
        checkout=project.settings.checkout,
    )


@flow(name="release", flow_run_name="release {version}", log_prints=True)
def release(version: str | None = None) -> Outcome:
    """Package a judged version, smoke-test it in the idle slot, and move the traffic to it.

    Args:
        version: its number in the registry; without it the challenger.
    """
    released = run_release(Project.open(), version)
    return Outcome(f"version {released.number} is champion and serves")
