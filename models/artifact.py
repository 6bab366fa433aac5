"""The model on disk: plain files, no pickle, sealed by a manifest whose digest is the version.

| file | what |
|---|---|
| model.onnx | what serves |
| model.json | the XGBoost model it was made from |
| contract.json | fields, fitted features, target, threshold, base rate |
| reference.json | what the training data looked like |
| golden.json | raw rows with the probabilities that every copy must answer |
| training.json | windows, rows, parameters, sha256 of each partition |
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxmltools
import onnxruntime
import pandas as pd
from onnxmltools.convert.common.data_types import FloatTensorType
from xgboost import XGBClassifier

from data import digests, features
from data.contracts import KEY
from data.features import Columns, Feature
from data.fields import Field
from data.params import Params
from data.problem import Problem
from data.reference import Reference
from data.windows import Labelled, Windows

GOLDEN_ROWS = 200


@dataclass(frozen=True)
class Trained:
    """A trained model, what it saw, and how every candidate scores the untouched holdout."""

    windows: Windows
    features: tuple[Feature, ...]
    model: XGBClassifier
    base_rate: float
    threshold: float
    reference: Reference
    fingerprint: Mapping[str, str]
    train_rows: int
    missing_labels: int
    holdout: Labelled
    holdout_scores: Mapping[str, np.ndarray]

    def holdout_table(self) -> pd.DataFrame:
        """One row per holdout event: key, day, label and each candidate's probability."""
        held = self.holdout
        return pd.DataFrame(
            {KEY: held.keys, "day": held.day, "label": held.label, **self.holdout_scores}
        )


@dataclass(frozen=True)
class Artifact:
    """A verified artefact, loaded for scoring the way training does."""

    digest: str
    folder: Path
    fields: tuple[Field, ...]
    features: tuple[Feature, ...]
    target: str
    threshold: float
    base_rate: float
    reference: Reference
    training: Mapping[str, Any]
    model: XGBClassifier

    def matrix(self, columns: Columns) -> np.ndarray:
        """The features of raw columns, shape (n, features)."""
        return features.transform(self.features, columns)

    def score(self, columns: Columns) -> np.ndarray:
        """Probability of the target for raw columns, shape (n,)."""
        return self.model.predict_proba(self.matrix(columns))[:, 1].astype(np.float64)


def write(trained: Trained, problem: Problem, params: Params, folder: Path) -> str:
    """Write and seal the artefact; equal data, code and parameters give an equal digest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trained.model.save_model(folder / "model.json")
    (folder / "model.onnx").write_bytes(to_onnx(trained.model, len(trained.features)))
    contents = {
        "contract": {
            "problem": problem.name,
            "event_time": problem.event_time,
            "target": problem.target,
            "threshold": trained.threshold,
            "base_rate": trained.base_rate,
            "fields": [field.to_json() for field in problem.fields],
            "features": features.to_json(trained.features),
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
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(digests.canonical_json(content))
    return digests.seal(folder)


def model_params(params: Params) -> dict[str, Any]:
    """The parameters that shape the model.

    `as_of` is a window's own and may be overridden; the label coverage decides only whether there
    is a model.
    """
    chosen = params.model_dump(include={"train", "xgboost", "decision", "monitor"})
    del chosen["train"]["as_of"], chosen["train"]["minimum_label_coverage"]
    return chosen


def to_onnx(model: XGBClassifier, width: int) -> bytes:
    """The model as ONNX with one float32 input of shape (n, width)."""
    graph = onnxmltools.convert_xgboost(
        model, name="model", initial_types=[("features", FloatTensorType([None, width]))]
    )
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def _golden(trained: Trained, problem: Problem) -> dict[str, Any]:
    """Evenly spaced holdout rows in the form of a request, with their probabilities."""
    size = len(trained.holdout)
    places = np.unique(np.linspace(0, size - 1, min(GOLDEN_ROWS, size)).astype(int))
    mask = np.isin(np.arange(size), places)
    sample = trained.holdout.take(mask)
    scores = trained.model.predict_proba(features.transform(trained.features, sample.columns))
    return {
        "rows": to_requests(sample.columns, problem.fields),
        "probabilities": scores[:, 1].astype(float).tolist(),
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
    model = XGBClassifier(n_jobs=1)
    model.load_model(folder / "model.json")
    return Artifact(
        digest=digest,
        folder=folder,
        fields=tuple(Field.from_json(field) for field in contract["fields"]),
        features=features.from_json(contract["features"]),
        target=contract["target"],
        threshold=contract["threshold"],
        base_rate=contract["base_rate"],
        reference=Reference.from_json(json.loads((folder / "reference.json").read_text())),
        training=json.loads((folder / "training.json").read_text()),
        model=model,
    )


def serve_scores(artifact: Artifact, rows: list[dict[str, Any]]) -> np.ndarray:
    """Probabilities (n,) the way the server computes them: row by row, through ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        str(artifact.folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    encode = features.row_function(artifact.features)
    matrix = np.asarray([encode(row) for row in rows], dtype=np.float32)
    probabilities = session.run(["probabilities"], {session.get_inputs()[0].name: matrix})[0]
    return np.asarray(probabilities)[:, 1].astype(np.float64)
