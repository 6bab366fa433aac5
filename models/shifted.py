"""A recalibrated model: an artefact like that of the model as it was trained, but for its level.

The shift is learned on the newest matured period and always counts from the margins of the model
as it was trained, so that one recalibration takes the place of another. It is a bet that the next
period is like the newest; whether that bet is a good one is rehearsed: a shift learned in the same
way one period earlier is judged on the newest, which it has not seen.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from data import digests, windows
from data.errors import EvergreenError, stop_on_error
from data.labels import check_coverage
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.problem import Problem, load_problem
from data.task import Task
from data.windows import Labelled
from models import artifact, graphs
from models.artifact import Artifact
from models.quality import answers, margins
from models.recalibrate import learn, say

RECORD = "recalibration"
CHANGED = ("model.onnx", "golden.json", "training.json")


@dataclass(frozen=True)
class Shift:
    """What a recalibration adds to the margins of a trained model, and where it comes from.

    Attributes:
        version, digest: of the model as it was trained.
        value: added to its margins: log odds, of several classes one number each, or the outcome's
            unit.
        shrink: the share of the period's gap in level that `value` is.
        period, rows: what it was learned on; `partitions` holds the sha256 of each of its files.
    """

    version: str
    digest: str
    value: float | tuple[float, ...]
    shrink: float
    as_of: str
    period: str
    rows: int
    partitions: Mapping[str, str]

    @property
    def margin(self) -> np.ndarray:
        """The value, shape () or (classes,)."""
        return np.asarray(self.value, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        return {"shift": content.pop("value"), **content}

    def message(self, task: Task) -> str:
        return (
            f"recalibrated from version {self.version} ({self.digest[:16]}): "
            f"{say(self.margin, task)}, {self.shrink:.0%} of the gap on {self.rows} rows of "
            f"{self.period}"
        )


@dataclass(frozen=True)
class Learned:
    """A shift, the period that it was learned on, and its rehearsal.

    Attributes:
        rows: of the newest period.
        rehearsed: the shift that the period before it leads to.
        before: name of that period.
    """

    shift: Shift
    rows: Labelled
    rehearsed: np.ndarray
    before: str


def find(
    base: Artifact,
    version: str,
    problem: Problem,
    partitions: Partitions,
    params: Params,
    as_of: datetime,
) -> Learned:
    """Learn the shift of the newest period whose labels have matured by `as_of`.

    Args:
        base: the model as it was trained; `version` is its number.

    Raises:
        EvergreenError: if `base` is recalibrated itself, nothing newer than what it was judged on
            has matured, the newest period has no rows, or one outcome or class only.
    """
    if RECORD in base.training:
        raise EvergreenError(f"version {version} is recalibrated: start from the one it came from")
    newest, judged = windows.last_complete(problem, as_of), base.training["holdout"][-1]
    if newest <= Period.parse(judged):
        raise EvergreenError(
            f"version {version} was judged on {judged}, and no newer period's labels have matured "
            f"by {as_of:%Y-%m-%d %H:%M}: choose a later as_of"
        )
    parts = []
    for period in (newest.previous(), newest):
        check_coverage(partitions, period, as_of, params.train.minimum_label_coverage)
        parts.append(windows.load(partitions, problem, [period], as_of))
    rows = parts[-1]
    differ = base.task.kind == "regression" or base.task.learnable(rows.label)
    if not len(rows) or not differ:
        raise EvergreenError(
            f"all {len(rows)} labels of {newest} are the same: their level says nothing"
        )
    shrink = params.governor.recalibration_shrink
    rehearsed, value = (
        learn(part.label, margins(base.score(part.columns), base.task), shrink, base.task)
        for part in parts
    )
    files = windows.fingerprint(partitions, [newest], as_of)
    if base.task.classes and not value.any():
        raise EvergreenError(
            f"the {len(rows)} labels of {newest} are too few of each class to tell their level"
        )
    told = tuple(value.tolist()) if base.task.classes else float(value)
    shift = Shift(version, base.digest, told, shrink, as_of.isoformat(), newest.name, len(rows),
                  files)  # fmt: skip
    return Learned(shift, rows, rehearsed, newest.previous().name)


def write(base: Artifact, shift: Shift, folder: Path) -> str:
    """Write and seal the recalibrated artefact; equal base and shift give an equal digest."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns(digests.MANIFEST))
    graph = onnx.load(str(base.folder / "model.onnx"))
    graphs.moved(graph, shift.margin, base.task)
    (folder / "model.onnx").write_bytes(graphs.to_bytes(graph))
    golden = json.loads((base.folder / "golden.json").read_text())
    answered = np.array(golden["probabilities"])
    golden["probabilities"] = moved(answered, shift.margin, base.task).tolist()
    (folder / "golden.json").write_text(digests.canonical_json(golden))
    training = {**base.training, RECORD: shift.to_json()}
    (folder / "training.json").write_text(digests.canonical_json(training))
    return digests.seal(folder)


def moved(score: np.ndarray, shift: np.ndarray, task: Task) -> np.ndarray:
    """Answers with `shift` added to their margins."""
    return answers(margins(score, task) + shift, task)


def main() -> None:
    """Recalibrate a trained artefact as of params.yaml."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--base", type=Path, required=True, help="the trained artefact")
    parser.add_argument("--version", required=True, help="its number in the registry")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem = load_problem(params.problem)
    as_of = parse_as_of(params.train.as_of, problem.label_delay)
    base, raw = artifact.load(arguments.base), Partitions(arguments.raw)
    shift = find(base, arguments.version, problem, raw, params, as_of).shift
    digest = write(base, shift, arguments.out / "model")
    print(f"model {digest}: {shift.message(base.task)}")


if __name__ == "__main__":
    stop_on_error(main)
