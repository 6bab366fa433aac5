"""Gates on the artefact itself: its contract, its numbers, its answers, its speed, its size."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime

from data import features
from data.features import Feature
from data.task import Task
from data.windows import Labelled
from models import graphs
from models.artifact import Artifact, serve_scores, to_rows
from models.evidence import Case
from models.gates_behaviour import disturbed
from models.verdict import Verdict

STATE = ("vocabulary", "overall", "rates")
THRESHOLDS = "nodes_values"
FILES = frozenset({"contract.json", "golden.json", "model.onnx", "reference.json", "training.json"})


def schema(case: Case) -> Verdict:
    """The artefact's contract must be the problem's, its decision that of the costs."""
    own, problem, task = case.challenger, case.problem, case.task
    contract = json.loads((own.folder / "contract.json").read_text())
    checks = {
        "fields": [f.to_json() for f in own.fields] == [f.to_json() for f in problem.fields],
        "features": [_spec(f) for f in own.features] == [_spec(f) for f in problem.features],
        "target": (own.target, replace(own.task, scale=task.scale)) == (problem.target, task),
        "problem": contract.get("problem") == problem.name,
        "event_time": contract.get("event_time") == problem.event_time,
        "threshold": own.threshold == (case.decision if task.kind == "binary" else None),
        "base_rate": _is_answer(np.asarray(own.base_rate), task),
        "files": {p.name for p in own.folder.iterdir()} >= FILES,
        "model input": _width(own) == len(own.features),
    }
    wrong = [name for name, good in checks.items() if not good]
    reason = f"{', '.join(wrong)} differ from the problem's" if wrong else (
        f"{len(own.fields)} fields and {len(own.features)} features are the problem's"
    )  # fmt: skip
    return Verdict("schema", not wrong, float(len(wrong)), 0.0, len(checks), None, reason)


def _is_answer(value: np.ndarray, task: Task) -> bool:
    """Whether this can be the answer without any feature, see `Task.constant`."""
    if task.kind == "binary":
        return 0 < float(value) < 1
    return not _wrong(value[None], task)


def _spec(feature: Feature) -> Feature:
    """A feature without what it learned."""
    names = {f.name for f in dataclass_fields(feature)} & set(STATE)
    blank: dict[str, Any] = {n: 0.0 if n == "overall" else () for n in names}
    return replace(feature, **blank)


def _width(artifact: Artifact) -> int | None:
    (entry,) = _graph(artifact).graph.input
    sizes = entry.type.tensor_type.shape.dim
    return int(sizes[1].dim_value) if len(sizes) == 2 else None


def _graph(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(str(artifact.folder / "model.onnx"))


def finite(case: Case) -> Verdict:
    """Every weight of the served graph is a number, and every answer one of the task.

    That is a probability; several which add up to 1; or a finite number.
    """
    bad = sum(int((~np.isfinite(values)).sum()) for values in _weights(_graph(case.challenger)))
    rows = to_rows(_first(case.holdout, case.params.parity_rows).columns, case.challenger.fields)
    answers = np.concatenate([case.score, serve_scores(case.challenger, rows)])
    outside, what = _wrong(answers, case.task), "number" if case.task.kind == "regression" else (
        "probability"
    )  # fmt: skip
    reason = f"{bad} weights are no number, {outside} of {len(answers)} answers no {what}"
    return Verdict(
        "finite", not bad + outside, float(bad + outside), 0.0, len(answers), None, reason
    )


def _wrong(answers: np.ndarray, task: Task) -> int:
    """How many of these cannot be answers; a NaN is none."""
    if answers.shape[1:] != ((task.width,) if task.classes else ()):
        return len(answers)
    if task.kind == "regression":
        return int((~np.isfinite(answers)).sum())
    good = (answers >= 0) & (answers <= 1)
    if task.classes:
        good = good.all(axis=1) & (np.abs(answers.sum(axis=1) - 1) < 1e-4)
    return int((~good).sum())


def _weights(model: onnx.ModelProto) -> Iterator[np.ndarray]:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f":
            yield values
    for node in model.graph.node:
        for attribute in node.attribute:
            values = np.asarray([*attribute.floats, attribute.f], dtype=np.float64)
            # a split at infinity tells missing values from all others
            yield values[~np.isinf(values)] if attribute.name == THRESHOLDS else values


def serving_parity(case: Case) -> Verdict:
    """The serving path must equal training's on rows with nulls and unseen categories.

    The largest difference of an answer (`Task.gap`) must be at most the tolerance.
    """
    own, most = case.challenger, case.params.parity_tolerance
    rows = disturbed(case.holdout.columns, own.fields, case.params.parity_rows, case.seed)
    return _parity("serving_parity", own, to_rows(rows, own.fields), own.score(rows), most)


def golden(case: Case) -> Verdict:
    """The frozen rows that travel with the artefact must be answered as frozen, as served."""
    own, most = case.challenger, case.params.parity_tolerance
    frozen = json.loads((own.folder / "golden.json").read_text())
    rows, expected = frozen["rows"], np.asarray(frozen["probabilities"], dtype=np.float64)
    if not len(rows) == len(expected) > 0:
        reason = f"{len(rows)} rows, {len(expected)} answers: there must be as many, and some"
        return Verdict("golden", None, None, most, len(rows), None, reason)
    moments = [field.name for field in own.fields if field.kind == "timestamp"]
    for row in rows:
        row.update({n: datetime.fromisoformat(row[n]) for n in moments if row[n] is not None})
    return _parity("golden", own, rows, expected, most)


def _parity(
    name: str, own: Artifact, rows: list[dict[str, Any]], expected: np.ndarray, most: float
) -> Verdict:
    served = serve_scores(own, rows)
    gap = own.task.gap(served, expected) if np.isfinite(served).all() else float("inf")
    reason = f"largest difference {gap:.1e} over {len(expected)} rows"
    return Verdict(name, gap <= most, gap, most, len(expected), None, reason)


def latency(case: Case, clock: Callable[[], float] = perf_counter) -> Verdict:
    """One row as the server answers it, within the budget and not many times the champion's.

    The least of five calls a row, the middle of all rows, so that a busy machine weighs little; the
    champion is timed in turn with the challenger. Its multiple counts above the floor only.
    """
    budget, ratio = case.params.latency_budget, case.params.latency_ratio
    models = [case.challenger, *([case.champion] if case.champion else [])]
    rows = _first(case.holdout, 60)
    calls = [(_server(model), to_rows(rows.columns, model.fields)) for model in models]
    times = np.full((len(calls), len(rows)), np.inf)
    for _ in range(5):
        for place in range(len(rows)):
            for model, (answer, given) in enumerate(calls):
                start = clock()
                answer(given[place])
                times[model, place] = min(times[model, place], clock() - start)
    own, *other = np.median(times, axis=1) * 1e6
    allowed = min([budget, *(max(ratio * there, case.params.latency_floor) for there in other)])
    compared = f", the champion's {other[0]:.0f}" if other else ""
    reason = f"{own:.0f} µs a row{compared}; up to {allowed:.0f} is allowed"
    return Verdict(
        "latency", bool(own <= allowed), float(own), float(allowed), len(rows), None, reason
    )


def _server(artifact: Artifact) -> Callable[[dict[str, Any]], Any]:
    """What answers one row: encoded, then through ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(artifact.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    encode, name = features.row_function(artifact.features), session.get_inputs()[0].name
    output = graphs.output(artifact.task)

    def answer(row: dict[str, Any]) -> Any:
        return session.run([output], {name: np.asarray([encode(row)], dtype=np.float32)})

    return answer


def size(case: Case) -> Verdict:
    """Bytes of the whole artefact, within the budget and not many times the champion's.

    The champion's multiple counts above the floor only.
    """
    budget, ratio = case.params.size_budget, case.params.size_ratio
    own, *other = (_megabytes(a) for a in (case.challenger, case.champion) if a)
    allowed = min([budget, *(max(ratio * there, case.params.size_floor) for there in other)])
    compared = f", the champion's {other[0]:.1f}" if other else ""
    reason = f"{own:.1f} MB{compared}; up to {allowed:.1f} is allowed"
    return Verdict("size", own <= allowed, own, allowed, len(FILES), None, reason)


def _megabytes(artifact: Artifact) -> float:
    return sum(p.stat().st_size for p in artifact.folder.rglob("*") if p.is_file()) / 1e6


def _first(rows: Labelled, size: int) -> Labelled:
    return rows.take(np.arange(len(rows)) < size)


def git_clean(commit: str, changed: Sequence[str]) -> Verdict:
    """A model whose code no commit holds cannot be made again, so it must not serve.

    Args:
        commit: the checkout's commit, or `none`.
        changed: files that shape a model and are not as the commit has them.
    """
    passed = not changed and commit != "none"
    reason = f"git_clean: code and parameters are those of commit {commit[:12]}"
    if not passed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        files = ", ".join(changed[:3]) + more or "the code"
        reason = f"git_clean: no commit holds {files} as trained: commit or stash, then train again"
    return Verdict("git_clean", passed, float(len(changed)), 0.0, len(changed), None, reason)
