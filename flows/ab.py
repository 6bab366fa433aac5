"""An A/B test: another version has a fixed share of the traffic until a person ends it.

The gateway assigns clients by their header, so that each stays with its version; its state file
holds the test, so that it survives a restart.
"""

import json
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bento import experiment, haproxy, predictions, rollout, target
from bento.target import Experiment, Release, State
from data.digests import write_atomically
from data.errors import EvergreenError
from data.task import BINARY, Task
from flows import approval, progressive
from flows.owner import act
from flows.project import Project
from flows.release import must_have_passed, slot_for
from models import ab, artifact
from models.ab import Comparison
from models.ledger import Kind


def start(project: Project, number: str, share: int | None = None, by: str | None = None) -> str:
    """Deploy a version beside the champion and give it a share; what was done.

    Raises:
        EvergreenError: if it did not pass its gates, is not approved, fails its smoke test or the
            shadow, is the champion, or something shares the traffic already.
    """
    version, serving = project.registry.get(number), project.settings.serving
    version.refuse_if_dirty()
    must_have_passed(project, version)
    approval.ask(project, version, by)
    percent = share or project.params.release.ab.share
    with rollout.one_release(serving):
        progressive.clear(project, by)
        state = target.load(serving)
        if state.active is None:
            raise EvergreenError("nothing serves, so there is nothing to compare with")
        slot = rollout.slot_of(state, number, version.digest) or slot_for(project, version)
        if slot == state.active:
            raise EvergreenError(f"version {number} has all traffic: name another one")
        progressive.shadowed(project, version, slot, by)
        experiment.begin(serving, "ab", slot, percent)
        done = act(project.settings, f"{percent} % of the traffic", by)
        project.registry.record(Kind.AB_STARTED, version, done)
    stays = f"clients that send {haproxy.CLIENT_HEADER} stay with theirs"
    return f"version {number} has {percent} % of the traffic; {stays}"


def report(project: Project) -> dict[str, Any]:
    """The comparison so far; the last one that was kept if no test is on.

    Raises:
        EvergreenError: if there never was one.
    """
    state = target.load(project.settings.serving)
    tried = state.experiment
    if tried is not None and tried.kind == "ab":
        return {"running": True, **_compared(project, state, tried).to_json()}
    try:
        kept: dict[str, Any] = json.loads(_path(project).read_text())
    except FileNotFoundError as error:
        said = "no A/B test is on: `evergreen ab start VERSION` starts one"
        raise EvergreenError(said) from error
    return kept


def stop(project: Project, reason: str, by: str | None = None) -> dict[str, Any]:
    """All traffic back to the champion, at once; then the report, which is kept.

    Raises:
        EvergreenError: if no A/B test is on.
    """
    serving = project.settings.serving
    state = target.load(serving)
    tried = state.experiment
    if tried is None or tried.kind != "ab" or experiment.end(serving, tried) is None:
        raise EvergreenError("no A/B test is on: nothing was ended")
    found = {"running": False, **_compared(project, state, tried).to_json()}
    path = _path(project)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found, indent=1))
    version = project.registry.get(_held(state, tried)[1].version)
    said = act(project.settings, f"{reason}: {found['reason']}", by)
    project.registry.record(Kind.AB_ENDED, version, said)
    return found


def _compared(project: Project, state: State, tried: Experiment) -> Comparison:
    since, folder = datetime.fromisoformat(tried.since), project.settings.serving.folder
    logged = list(predictions.read(folder, since=since))
    labels = progressive.labels_of(project, logged)
    held = _held(state, tried)
    task = _task(project, held[0].version)
    a, b = (
        (release.version, _rows(task, [r for r in logged if r["digest"] == release.digest], labels))
        for release in held
    )
    limits = project.params.release.ab
    return ab.compare(
        a,
        b,
        minimum_labels=limits.minimum_labels,
        confidence=limits.confidence,
        samples=project.params.gates.bootstrap_samples,
        task=task,
    )


def _task(project: Project, number: str) -> Task:
    """What is predicted, at the scale of this version's training."""
    task = project.problem.task
    if task.kind != "regression":
        return task
    return artifact.load(project.registry.folder(project.registry.get(number))).task


def _held(state: State, tried: Experiment) -> tuple[Release, Release]:
    """A and B.

    Raises:
        EvergreenError: if a slot of the test is empty.
    """
    a = state.slots[state.active] if state.active else None
    b = state.slots[tried.slot]
    if a is None or b is None:
        raise EvergreenError("a slot of the A/B test is empty: `evergreen verify` says more")
    return a, b


def _rows(task: Task, logged: list[dict[str, Any]], labels: dict[str, float]) -> pd.DataFrame:
    same = ("event_time", *ab.columns(task), "degraded")
    values = [
        (
            record["request_id"].partition("-")[0],
            *(record[name] for name in same),
            labels.get(record["key"], float("nan")),
        )
        for record in logged
    ]
    return pd.DataFrame(values, columns=["request", *same, "label"])


def _path(project: Project) -> Any:
    return project.settings.home / "releases" / "ab.json"


def render(found: dict[str, Any]) -> RenderableType:
    """The report as a person reads it."""
    a, b = found["a"], found["b"]
    table = Table("", f"A: version {a['version']}", f"B: version {b['version']}", "B minus A")
    for name in ("requests", "rows", "labelled"):
        table.add_row(name, f"{a[name]:,}", f"{b[name]:,}", "")
    for name in sorted(set(a["figures"]) | set(b["figures"])):
        cells = [_cell(side.get(name)) for side in (a["figures"], b["figures"])]
        table.add_row(name, *cells, _cell(found["differences"].get(name)))
    aucs = [f"{side['roc_auc']:.3f}" if side["roc_auc"] is not None else "-" for side in (a, b)]
    table.add_row(found.get("ranking", BINARY.ranking), *aucs, "")
    word = "so far" if found["running"] else "ended"
    note = f"{found['confidence']:.0%} intervals over bootstrapped {found['unit']}s"
    return Group(table, Text(f"{word}: {found['reason']}"), Text(note))


def _cell(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "-"
    return f"{interval['value']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"
