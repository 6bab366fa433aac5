"""What serves and what should, for a terminal or a script."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bento import experiment, rollout
from bento.slots import SLOTS
from data.verdicts import Verdict
from flows import stack
from flows.project import Project
from flows.reports import newest_report, silence
from flows.settings import Settings
from models.registry import CHALLENGER, CHAMPION, PREVIOUS


def overview(settings: Settings) -> dict[str, Any]:
    """Aliases, slots, the endpoint's own answer, addresses, and what does not fit."""
    project = Project.open(settings)
    serving = rollout.status(settings.serving)
    aliases = {
        alias: version.number if (version := project.registry.alias(alias)) else None
        for alias in (CHAMPION, CHALLENGER, PREVIOUS)
    }
    state = serving.state
    up = stack.is_up(settings)
    active = state.slots[state.active] if state.active else None
    problems = [serving.problem] if serving.problem and up else []
    if up and active and active.version != aliases[CHAMPION]:
        problems.append(
            f"version {active.version} serves, but the champion is {aliases[CHAMPION]}: run "
            f"`evergreen release {aliases[CHAMPION]}`"
        )
    if experiment.abandoned(state):
        problems.append(
            "a canary is left behind by a killed release: `evergreen release` or `evergreen "
            "rollback --reason WHY` ends it"
        )
    if said := silence(project, datetime.now(UTC)):
        problems.append(said)
    return {
        "up": up,
        "aliases": aliases,
        "active": state.active,
        "slots": {
            slot: asdict(release) if (release := state.slots[slot]) else None for slot in SLOTS
        },
        "weights": dict(state.weights),
        "experiment": experiment.describe(state),
        "endpoint": serving.endpoint,
        "monitor": _watched(project),
        "problems": problems,
        "addresses": {
            "prefect": settings.url("prefect"),
            "mlflow": settings.url("mlflow"),
            "endpoint": f"{settings.url('gateway')}/predict",
        },
    }


def _watched(project: Project) -> dict[str, Any] | None:
    """What was decided about the newest period that was watched, and what nobody knows."""
    report = newest_report(project)
    if report is None:
        return None
    said = [finding for finding in report["findings"] if finding["verdict"] == Verdict.UNKNOWN]
    return {
        "period": report["period"],
        "version": report["version"],
        **report["decision"],
        "unknown": [finding["monitor"] for finding in said],
    }


def render(found: dict[str, Any]) -> RenderableType:
    """The same as a person reads it."""
    if not found["up"]:
        left = "; a gateway left behind still answers" if found["endpoint"] else ""
        return Text(f"the stack is down{left}: `evergreen up` starts it")
    slots = Table("slot", "version", "digest", "weight", "serves since")
    for slot, release in found["slots"].items():
        if release is None:
            slots.add_row(slot, "empty", "", "", "")
            continue
        mark = " (active)" if slot == found["active"] else ""
        slots.add_row(
            f"{slot}{mark}",
            release["version"],
            release["digest"][:16],
            str(found["weights"][slot]),
            release["since"] or "never",
        )
    aliases = ", ".join(f"{name} {number or '-'}" for name, number in found["aliases"].items())
    lines = [Text(f"aliases: {aliases}")]
    lines += [Text(found["experiment"])] if found["experiment"] else []
    if seen := found["monitor"]:
        lines.append(Text(f"monitor: {seen['period']}: {seen['action']}, {seen['reason']}"))
        if seen["unknown"]:
            names = ", ".join(seen["unknown"])
            lines.append(Text(f"unknown in {seen['period']}: {names}", style="yellow"))
    lines += [Text(f"{name}: {address}") for name, address in found["addresses"].items()]
    lines += [Text(f"problem: {problem}", style="bold red") for problem in found["problems"]]
    return Group(slots, *lines)
