"""Lineage as a person reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data.partitions import period_of
from flows.lineage import AnswerLineage, Lineage, SnapshotLineage, VersionLineage, partitions_digest

MARKS = {"passed": "green", "failed": "bold red", "rejected": "bold red", "unknown": "yellow"}


def render(lineage: Lineage) -> RenderableType:
    """A page for a terminal."""
    if isinstance(lineage, SnapshotLineage):
        return _snapshot(lineage)
    if isinstance(lineage, AnswerLineage):
        return _answer(lineage)
    return _version(lineage)


def _version(of: VersionLineage) -> RenderableType:
    names = f" ({', '.join(of.aliases)})" if of.aliases else ""
    changed = f", dirty: {', '.join(of.code['changed'])}" if of.code["git_dirty"] else ", clean"
    rows = {
        "model": f"{of.digest}",
        "as of": f"{of.as_of}, {of.cause}",
        "code": f"{of.code['git_sha']}{changed}",
        "data": f"{of.snapshot['tag']} (md5 {of.snapshot['md5']})",
        "partitions": f"{_files(of.partitions)}, together {partitions_digest(of)[:16]}",
        "labels": of.labels,
        "params": of.params,
        "lock": f"{of.lock}, packages {of.packages}, Python {of.python}",
        "author": of.author,
        "MLflow run": of.mlflow_run,
        "Prefect run": of.prefect_run,
        "verdict": of.verdict,
        **{f"  {name}": reason for name, reason in of.gates.items()},
        "bento": of.bento,
        "served": _served(of),
    }
    if of.rolled_back:
        rows["rolled back"] = of.rolled_back
    return Group(Text(f"version {of.version}{names}", style="bold"), _table(rows))


def _snapshot(of: SnapshotLineage) -> RenderableType:
    rows = {
        "md5": of.md5,
        "partitions": _files(of.partitions),
        "trained": _versions(of.trained, "were trained from this very snapshot"),
        "contained": _versions(of.contained, "can be made again from it"),
    }
    if of.disagrees:
        rows["disagrees"] = _versions(of.disagrees, "saw other content of a partition")
    return Group(Text(f"snapshot {of.tag}", style="bold"), _table(rows))


def _answer(of: AnswerLineage) -> RenderableType:
    said = of.answer
    rows = {
        "answered": f"{said['logged_at']:%Y-%m-%d %H:%M:%S} UTC by version {said['model_version']}"
        + (" (a smoke test)" if said["probe"] else ""),
        "event": f"{said['key'] or 'without key'}, due {said['event_time']}",
        "answer": _said(said)
        + (", degraded: the base rate, not the model" if said["degraded"] else ""),
        "row": ", ".join(f"{name} {value}" for name, value in said["row"].items()),
    }
    title = Text(f"answer {of.request_id}", style="bold")
    return Group(title, _table(rows), _version(of.model))


def _said(record: Mapping[str, Any]) -> str:
    """Score and decision, whatever the kind of outcome."""
    if "probability" in record:
        return (
            f"probability {record['probability']:.6f}, decision {str(record['decision']).lower()}"
        )
    return str(record["decision"])


def _table(rows: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value, style=MARKS.get(value.split(":")[0], "")))
    return table


def _files(partitions: Mapping[str, str]) -> str:
    """`10 files, 2013-W01 to 2013-W05`."""
    names = sorted(map(period_of, partitions))
    return f"{len(names)} files, {names[0]} to {names[-1]}" if names else "no files"


def _served(of: VersionLineage) -> str:
    spans = [f"{s.slot} from {s.since} {f'to {s.until}' if s.until else 'on'}" for s in of.served]
    return "; ".join(spans) or "never"


def _versions(numbers: Sequence[str], what: str) -> str:
    return f"versions {', '.join(numbers)} {what}" if numbers else f"no versions {what}"
