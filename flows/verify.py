"""`evergreen verify`: do ledger, aliases, artefacts and what serves agree?"""

from functools import partial

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bento import experiment, rollout, slots, target
from bento.target import State
from data.errors import EvergreenError
from flows import stack
from flows.project import Project
from flows.settings import Settings
from models import audit, standing
from models.audit import Check, Opened
from models.ledger import Entry, Kind
from models.registry import CHALLENGER, CHAMPION, PREVIOUS
from models.version import Version

SERVED = (Kind.PROMOTED, Kind.RELEASED, Kind.ROLLED_BACK)
MARKS = {True: ("ok", "green"), False: ("differs", "bold red"), None: ("not checked", "yellow")}


def run_verify(settings: Settings) -> list[Check]:
    """Every check, read only: nothing is mended here."""
    project = Project.open(settings)
    registry = project.registry
    ledger, entries = audit.ledger_check(project.ledger)
    champion, previous = registry.alias(CHAMPION), registry.alias(PREVIOUS)
    return [
        ledger,
        audit.head_check(entries, registry.head()),
        audit.promotions_check(entries, registry.versions()),
        audit.aliases_check(entries, _number(champion), _number(previous)),
        _artefacts(project, entries or []),
        _traffic(settings, champion, entries or []),
        _endpoint(settings, champion),
    ]


def _artefacts(project: Project, entries: list[Entry]) -> Check:
    """The artefacts of all versions that serve or did, and of what the slots were given."""
    registry, serving = project.registry, project.settings.serving
    named = {entry.version for entry in entries if entry.kind in SERVED}
    held = [registry.alias(alias) for alias in (CHAMPION, PREVIOUS, CHALLENGER)]
    named |= {version.number for version in held if version}
    folders: dict[str, Opened] = {}
    expected: dict[str, str] = {}
    for version in registry.versions():
        if version.number in named:
            name = f"version {version.number}"
            folders[name] = partial(registry.folder, version)
            expected[name] = version.digest
    for slot, release in target.load(serving).slots.items():
        if release and serving.cluster is None:  # a cluster's image has no folder here
            name = f"slot {slot}"
            folders[name] = partial(slots.artefact, serving, slot)
            expected[name] = release.digest
    return audit.artefacts_check(folders, expected)


def _traffic(settings: Settings, champion: Version | None, entries: list[Entry]) -> Check:
    """Whether the traffic is set to the champion."""
    try:
        state = target.load(settings.serving)
    except EvergreenError as error:
        return Check("traffic", False, str(error))
    active = state.slots[state.active] if state.active else None
    if champion is None or active is None:
        serves = f"version {active.version} serves" if active else "nothing serves"
        fits = champion is None and active is None
        return Check("traffic", fits, f"champion is {_number(champion)}, and {serves}")
    if (active.version, active.digest) != (champion.number, champion.digest):
        said = f"alias champion is {champion.number}, but {active.version} serves"
        return Check("traffic", False, f"{said}: run {_mend(state, champion, entries)}")
    if experiment.abandoned(state, target.of(settings.serving).alive):
        said = "a canary is left behind by a killed release: run `evergreen release`"
        return Check("traffic", False, f"{said}, or `evergreen rollback --reason WHY`")
    shared = f", and {on}" if (on := experiment.describe(state)) else ""
    return Check(
        "traffic", True, f"version {active.version} has it, in slot {state.active}{shared}"
    )


def _mend(state: State, champion: Version, entries: list[Entry]) -> str:
    """What was cut off: a rollback if the champion served before, a release if it never did."""
    served = standing.Served(champion.number, champion.digest) in standing.served(entries)
    slot = rollout.slot_of(state, champion.number, champion.digest)
    if served and slot and state.backs_up(slot):
        return "`evergreen rollback --reason WHY`, which was cut off"
    return f"`evergreen release {champion.number}`"


def _endpoint(settings: Settings, champion: Version | None) -> Check:
    """Whether a client's request is answered by the champion."""
    if settings.cluster is None and not stack.is_up(settings):
        return Check("endpoint", None, "not checked: the stack is down (`evergreen up`)")
    if champion is None:
        found = rollout.status(settings.serving).problem
        return Check("endpoint", found is None, found or "nothing serves, and nothing should")
    try:
        rollout.confirm(settings.serving, champion.number, champion.digest)
    except EvergreenError as error:
        return Check("endpoint", False, str(error))
    return Check(
        "endpoint", True, f"answered by version {champion.number} ({champion.digest[:16]})"
    )


def _number(version: Version | None) -> str | None:
    return version.number if version else None


def render(checks: list[Check]) -> RenderableType:
    """A line for each check."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        word, style = MARKS[check.ok]
        table.add_row(Text(word, style=style), check.name, Text(check.reason))
    return table
