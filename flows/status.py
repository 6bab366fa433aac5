"""The overview as a person reads it in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data.verdicts import Verdict
from flows.overview import Overview
from flows.year import Report

LINES, RUNS = 5, 6
STYLES = {Verdict.WARN: "yellow", Verdict.ALARM: "bold red", Verdict.UNKNOWN: "magenta"}


def render(found: Overview) -> RenderableType:
    """What serves, what was said and decided, what comes next, and what does not fit."""
    parts: list[RenderableType] = []
    if found.up:
        parts.append(_slots(found))
    else:
        left = "; a gateway left behind still answers" if found.endpoint else ""
        parts.append(Text(f"the stack is down{left}: `evergreen up` starts it"))
    aliases = ", ".join(f"{name} {number or '-'}" for name, number in found.aliases.items())
    parts.append(Text(f"aliases: {aliases}"))
    parts += [Text(found.experiment)] if found.experiment else []
    parts += [_verdicts(found.monitor)] if found.monitor else []
    parts += [_decided(found)] if found.ledger else []
    parts += [_runs(found)] if found.runs else []
    parts += [Text(f"waits for you: {w.what}: {w.url or w.command}") for w in found.waiting]
    if found.up:
        parts += [Text(f"{name}: {address}") for name, address in found.addresses.items()]
    parts += [Text(f"unknown: {said}", style="magenta") for said in found.unknown]
    parts += [Text(f"problem: {said}", style="bold red") for said in found.problems]
    return Group(*parts)


def _slots(found: Overview) -> Table:
    shown = Table("slot", "version", "digest", "weight", "took all traffic")
    for slot, release in found.slots.items():
        if release is None:
            shown.add_row(slot, "empty", "", "", "")
            continue
        mark = " (active)" if slot == found.active else ""
        weight, since = str(found.weights[slot]), _when(release.since) if release.since else "never"
        shown.add_row(f"{slot}{mark}", release.version, release.digest[:16], weight, since)
    return shown


def _when(at: str) -> str:
    """An ISO text in UTC to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"


def _verdicts(report: Report) -> Table:
    """Every monitor's word on the newest period, and what was decided."""
    week = report.week
    decided = Text(f"{week.period}: {week.action}, {week.reason}")
    shown = Table("verdict", "monitor", "why", title=decided, title_justify="left")
    for said in report.findings:
        style = STYLES.get(said.verdict, "")
        shown.add_row(Text(said.verdict, style=style), said.monitor, Text(said.reason))
    return shown


def _decided(found: Overview) -> Table:
    shown = Table("when", "what", "by", "why", title="decided last", title_justify="left")
    for line in found.ledger[:LINES]:
        what = f"version {line.version} {line.kind.replace('_', ' ')}"
        shown.add_row(_when(line.at), what, Text(line.by), Text(line.reason))
    return shown


def _runs(found: Overview) -> Table:
    shown = Table("state", "what", "when", "run", title="runs", title_justify="left")
    for run in found.runs[:RUNS]:
        shown.add_row(run.state, run.deployment, _when(run.at), Text(run.name))
    return shown
