"""Gates of a recalibrated model, which differs from one that was judged by its level alone.

| gates | how |
|---|---|
| same_model, shift_size, rehearsal | made for it |
| those named in `AGAIN` | judged again, on the newest period |
| all others | taken over from the base's signed report: no ranking changed |

Of several classes, moved by different steps, a ranking changes by a little.

Its loss on the newest period is no gate: the shift was learned there. The rehearsal is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from data.digests import MANIFEST
from data.task import Task
from models import gates, graphs
from models.artifact import Artifact
from models.bootstrap import block_bootstrap
from models.evidence import Case
from models.quality import calibration_points, measure
from models.recalibrate import say, size
from models.shifted import CHANGED, RECORD, Learned, moved
from models.verdict import GateReport, Verdict, of_interval

AGAIN = ("schema", "finite", "plausible_auc", "not_worse_than_champion", "serving_parity", "golden",
         "latency", "size")  # fmt: skip
ANEW = frozenset({*AGAIN, "log_loss", "git_clean"})


def judge(case: Case, base: Artifact, learned: Learned, before: Sequence[Verdict]) -> GateReport:
    """Put a recalibrated challenger through its gates.

    Args:
        case: its holdout is the newest period.
        base: the model as it was trained.
        before: what the gates said of it.
    """
    number, task = learned.shift.version, base.task
    alike = "the same but for its level" if task.classes else "which ranks the same"
    own = [
        same_model(case.challenger, base),
        shift_size(learned, task, case.params.shift_limit),
        rehearsal(case, base, learned),
    ]
    again = [gates.judged(name, case) for name in AGAIN]
    taken = [
        verdict.because(f"of version {number}, {alike}: {verdict.reason}")
        for verdict in before
        if verdict.name not in ANEW
    ]
    found = [*own, *(verdict for verdict in again if verdict is not None), *taken]
    champion = case.champion.digest if case.champion else None
    report = GateReport(case.challenger.digest, champion, tuple(found), task=base.task)
    return replace(report, **_details(case, base))


def _details(case: Case, base: Artifact) -> dict[str, Any]:
    label, task, scores = case.holdout.label, base.task, {"challenger": case.score}
    if case.champion_score is not None:
        scores["champion"] = case.champion_score
    scores["as trained"] = base.score(case.holdout.columns)
    return {
        "task": task,
        "qualities": {name: measure(label, score, task) for name, score in scores.items()},
        "curves": {name: calibration_points(label, score, task) for name, score in scores.items()},
    }


def of_report(content: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts of a gate report, as it was written; nobody's waiver is taken over."""
    found = []
    for said in content["verdicts"]:
        interval = tuple(said["interval"]) if said["interval"] else None
        found.append(Verdict(**{**said, "interval": interval, "waiver": None}))
    return found


def same_model(challenger: Artifact, base: Artifact) -> Verdict:
    """Every byte must be that of the base, but for what the shift itself changes."""
    names = {p.name for folder in (challenger.folder, base.folder) for p in folder.iterdir()}
    wrong = sorted(
        name
        for name in names - {MANIFEST, *CHANGED}
        if _bytes(challenger, name) != _bytes(base, name)
    )
    said = dict(challenger.training)
    recorded = said.pop(RECORD, {})
    graph = onnx.load(str(base.folder / "model.onnx"))
    graphs.moved(graph, np.asarray(recorded.get("shift", 0.0)), base.task)
    checks = {
        "training.json": said == dict(base.training),
        "the base": recorded.get("digest") == base.digest,
        "model.onnx": graphs.to_bytes(graph) == _bytes(challenger, "model.onnx"),
    }
    wrong += [name for name, good in checks.items() if not good]
    reason = f"{', '.join(wrong)} differ from the base's" if wrong else (
        f"{len(names) - 1} files are the base's, but for the shift"
    )  # fmt: skip
    return Verdict("same_model", not wrong, float(len(wrong)), 0.0, len(names) - 1, None, reason)


def _bytes(artifact: Artifact, name: str) -> bytes | None:
    path = artifact.folder / name
    return path.read_bytes() if path.is_file() else None


def shift_size(learned: Learned, task: Task, limit: float) -> Verdict:
    """A level that is further off than any recalibration is for a person, or a retrain."""
    shift, most = learned.shift, size(learned.shift.margin, task)
    reason = f"{say(shift.margin, task)}, up to {limit:.1f} either way is a recalibration's"
    value = most if task.classes else float(shift.margin) / task.scale
    return Verdict("shift_size", most <= limit, value, limit, shift.rows, None, reason)


def rehearsal(case: Case, base: Artifact, learned: Learned) -> Verdict:
    """The period before's shift, on the newest: it may lose what any challenger may.

    That is the mean loss beyond the champion's, at most the margin.
    """
    name, margin, held = "rehearsal", case.params.log_loss_margin, case.holdout
    if len(held) < case.params.minimum_rows or case.champion_score is None:
        reason = f"{len(held)} rows cannot be judged ({case.params.minimum_rows} are needed)"
        return Verdict(name, None, None, margin, len(held), None, reason)
    task = base.task
    score = moved(base.score(held.columns), learned.rehearsed, task)
    losses = (task.losses(held.label, p) for p in (score, case.champion_score))
    difference = np.subtract(*losses)
    interval = block_bootstrap(difference, held.day, **case.draws)
    found = of_interval(name, task.loss, interval, margin, len(held), interval.value <= margin)
    return found.because(
        f"{learned.before} would have led to {_rehearsed(learned, task)}; on "
        f"{learned.shift.period} {found.reason}"
    )


def _rehearsed(learned: Learned, task: Task) -> str:
    """The rehearsed shift as people read it; of two outcomes it is plain what it is of."""
    if task.kind == "binary":
        return f"{float(learned.rehearsed):+.3f}"
    return say(learned.rehearsed, task)
