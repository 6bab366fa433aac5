"""The model on disk: plain files, no pickle, sealed by a manifest whose digest is the version.

| file | what |
|---|---|
| model.onnx | what serves |
| model.json | the XGBoost model it was made from; other kinds of model are model.onnx alone |
| contract.json | fields, fitted features, target, task, threshold, base rate |
| reference.json | what the training data looked like |
| golden.json | raw rows with the answers that every copy must give |
| training.json | windows, rows, parameters, choice, study, calibration, sha256 of each partition;
|  | of a recalibrated one, see `models.shifted`, its base and its shift |

skops would keep scikit-learn's objects, but its bytes hold memory addresses and the time: no digest
could be an identity.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from data import digests, features
from data.contracts import KEY
from data.errors import EvergreenError
from data.features import Columns, Feature
from data.fields import Field
from data.params import Params
from data.problem import Problem
from data.reference import Reference
from data.task import BINARY, Task
from data.windows import Labelled, Windows
from models import graphs
from models.calibrate import Calibration
from models.fitted import Boosted, Fitted
from models.graphs import Shift
from models.rolling import Choice
from models.tune import Study, Trial

GOLDEN_ROWS = 200
PARITY = 1e-6


@dataclass(frozen=True)
class Trained:
    """A trained model, what it saw, and how every candidate scores the untouched holdout.

    Attributes:
        choice: which candidate `model` is, and why.
        study: of its settings, if there was one; `trials` are for the record.
        calibration: of the model's probabilities.
        holdout_scores: column -> probabilities (n,) of every candidate with its defaults, and of
            the `challenger`: the chosen model, calibrated.
        rolling: rows of the rolling-origin evaluation, see `models.rolling.scores`.
    """

    task: Task
    windows: Windows
    features: tuple[Feature, ...]
    choice: Choice
    study: Study | None
    trials: tuple[Trial, ...]
    model: Fitted
    calibration: Calibration
    base_rate: float | list[float]
    threshold: float | None
    reference: Reference
    fingerprint: Mapping[str, str]
    train_rows: int
    missing_labels: int
    holdout: Labelled
    holdout_scores: Mapping[str, np.ndarray]
    rolling: pd.DataFrame

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated answers for features (n, width)."""
        return self.calibration.predict(self.model, matrix, self.task)

    def holdout_table(self) -> pd.DataFrame:
        """One row per holdout event: key, day, label and each candidate's answer (`Task.put`)."""
        held = self.holdout
        table = pd.DataFrame({KEY: held.keys, "day": held.day, "label": held.label})
        columns = [self.task.put(name, score) for name, score in self.holdout_scores.items()]
        return table.assign(**{name: values for each in columns for name, values in each.items()})


@dataclass(frozen=True)
class Artifact:
    """A verified artefact, loaded for scoring the way training does."""

    digest: str
    folder: Path
    fields: tuple[Field, ...]
    features: tuple[Feature, ...]
    task: Task
    target: str
    threshold: float | None
    base_rate: float | list[float]
    reference: Reference
    training: Mapping[str, Any]
    predict: Callable[[np.ndarray], np.ndarray]

    def matrix(self, columns: Columns) -> np.ndarray:
        """The features of raw columns, shape (n, features)."""
        return features.transform(self.features, columns)

    def score(self, columns: Columns) -> np.ndarray:
        """Answers to rows of raw columns."""
        return self.predict(self.matrix(columns))


def write(trained: Trained, problem: Problem, params: Params, folder: Path) -> str:
    """Write and seal the artefact; equal data, code and parameters give an equal digest.

    Raises:
        EvergreenError: if the ONNX form answers otherwise than the model that it was made from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trained.model.save(folder)
    (folder / "model.onnx").write_bytes(to_onnx(trained))
    _refuse_other_answers(trained, folder)
    contents = {
        "contract": {
            "problem": problem.name,
            "event_time": problem.event_time,
            "target": problem.target,
            "threshold": trained.threshold,
            "base_rate": trained.base_rate,
            "fields": [field.to_json() for field in problem.fields],
            "features": features.to_json(trained.features),
            **({} if trained.task == BINARY else {"task": trained.task.to_json()}),
        },
        "reference": trained.reference.to_json(),
        "golden": _golden(trained, problem),
        "training": {
            "as_of": trained.windows.as_of.isoformat(),
            "train": [period.name for period in trained.windows.train],
            "holdout": [period.name for period in trained.windows.holdout],
            "train_rows": trained.train_rows,
            "missing_labels": trained.missing_labels,
            "partitions": dict(trained.fingerprint),
            "params": model_params(params),
            "choice": trained.choice.to_json(),
            "study": trained.study.to_json() if trained.study else None,
            "calibration": trained.calibration.to_json(),
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(digests.canonical_json(content))
    return digests.seal(folder)


def model_params(params: Params) -> dict[str, Any]:
    """The parameters that shape the model.

    `as_of` is a window's own and may be overridden; the label coverage decides only whether there
    is a model, and the monitor's limits only what is said of one.
    """
    sections = {"train", "candidates", "rolling", "calibration", "tune", "decision"}
    chosen = params.model_dump(include=sections | set(params.candidates))
    chosen["monitor"] = {"bins": params.monitor.bins}
    del chosen["train"]["as_of"], chosen["train"]["minimum_label_coverage"]
    if params.train.engine == "memory":
        del chosen["train"]["engine"], chosen["train"]["sample_rows"]
    return chosen


def to_onnx(trained: Trained) -> bytes:
    """The calibrated model as ONNX with one float32 input of shape (n, width)."""
    width, found = len(trained.features), trained.calibration
    return graphs.to_bytes(trained.model.to_onnx(width, found.slope, np.asarray(found.shift)))


def _refuse_other_answers(trained: Trained, folder: Path) -> None:
    matrix = features.transform(trained.features, trained.holdout.columns)
    if not len(matrix):
        return
    gap = trained.task.gap(_onnx(folder, trained.task)(matrix), trained.predict(matrix))
    if not gap <= PARITY:
        raise EvergreenError(
            f"model.onnx differs from the {trained.choice.kind} model that it was made from by up "
            f"to {gap:.1e} on the holdout: look at models/graphs.py before training again"
        )


def _onnx(folder: Path, task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """Features (n, width) to answers through ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def predict(matrix: np.ndarray) -> np.ndarray:
        found = np.asarray(session.run([graphs.output(task)], {name: matrix})[0])
        return graphs.score(found, task).astype(np.float64)

    return predict


def _golden(trained: Trained, problem: Problem) -> dict[str, Any]:
    """Evenly spaced holdout rows in the form of a request, with their answers."""
    size = len(trained.holdout)
    places = np.unique(np.linspace(0, size - 1, min(GOLDEN_ROWS, size)).astype(int))
    mask = np.isin(np.arange(size), places)
    sample = trained.holdout.take(mask)
    scores = trained.predict(features.transform(trained.features, sample.columns))
    return {
        "rows": to_requests(sample.columns, problem.fields),
        "probabilities": scores.tolist(),
    }


def to_rows(columns: Columns, fields: tuple[Field, ...]) -> list[dict[str, Any]]:
    """Raw columns as the rows a server decodes from a request; missing is None."""
    lists = {field.name: _plain(columns[field.name], field) for field in fields}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def to_requests(columns: Columns, fields: tuple[Field, ...]) -> list[dict[str, Any]]:
    """The same rows as JSON has them: a timestamp is ISO text."""
    moments = [field.name for field in fields if field.kind == "timestamp"]
    rows = to_rows(columns, fields)
    for row in rows:
        row.update({n: row[n].isoformat() for n in moments if row[n] is not None})
    return rows


def _plain(values: np.ndarray, field: Field) -> list[Any]:
    if field.kind == "text":
        return list(values)
    if field.kind == "timestamp":
        moments: list[datetime | None] = values.astype("datetime64[us]").tolist()
        return moments
    kind = int if field.kind == "integer" else float
    return [None if np.isnan(value) else kind(value) for value in values]


def load(folder: Path) -> Artifact:
    """Verify an artefact, then load it.

    Raises:
        EvergreenError: naming the file that is missing or differs from the manifest.
    """
    digest = digests.verify(folder)
    contract = json.loads((folder / "contract.json").read_text())
    training = json.loads((folder / "training.json").read_text())
    return Artifact(
        digest=digest,
        folder=folder,
        fields=tuple(Field.from_json(field) for field in contract["fields"]),
        features=features.from_json(contract["features"]),
        task=(task := Task.of_contract(contract)),
        target=contract["target"],
        threshold=contract["threshold"],
        base_rate=contract["base_rate"],
        reference=Reference.from_json(json.loads((folder / "reference.json").read_text())),
        training=training,
        predict=_predict(folder, training, task),
    )


def _predict(
    folder: Path, training: Mapping[str, Any], task: Task
) -> Callable[[np.ndarray], np.ndarray]:
    """Features to calibrated answers: by XGBoost itself if it made them, else by ONNX."""
    if not (folder / Boosted.FILE).exists():
        return _onnx(folder, task)
    found = training.get("calibration", {"method": "none", "periods": ()})
    calibration = Calibration.from_json(found).moved(level_shift(training))
    model = Boosted.load(folder, task)
    return lambda matrix: calibration.predict(model, matrix, task)


def level_shift(training: Mapping[str, Any]) -> Shift:
    """What a recalibration added to the margins of the model as it was trained; 0 without one."""
    shift = training.get("recalibration", {}).get("shift", 0.0)
    return np.array(shift) if isinstance(shift, list) else float(shift)


def serve_scores(artifact: Artifact, rows: list[dict[str, Any]]) -> np.ndarray:
    """Answers the way the server computes them: row by row, through ONNX Runtime."""
    encode = features.row_function(artifact.features)
    predict = _onnx(artifact.folder, artifact.task)
    return predict(np.asarray([encode(row) for row in rows], dtype=np.float32))
