"""The other servers of the benchmark: `uvicorn tests.bench.serving.peers:NAME`, `bentoml serve`."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import bentoml
import skops.io
from fastapi import FastAPI
from pydantic import create_model

from bento.contract import Contract
from tests.bench.serving.pipeline import TRUSTED, frame

KINDS = {"text": str, "number": float, "integer": int, "timestamp": datetime}
FOLDER = Path(os.environ["BENCH_FOLDER"])


def row_model() -> type:
    """The contract as a pydantic model."""
    parts: dict[str, Any] = {}
    for field in Contract.load(FOLDER / "artefact").fields:
        kind = KINDS[field.kind]
        parts[field.name] = (kind | None, None) if field.nullable else (kind, ...)
    return create_model("Row", **parts)


Row = row_model()
model = skops.io.load(FOLDER / "mlflow" / "model.skops", trusted=TRUSTED)


def probabilities(rows: list[Row]) -> list[float]:
    return model.predict_proba(frame([row.model_dump() for row in rows]))[:, 1].tolist()


fastapi = FastAPI()


@fastapi.post("/predict")
def predict(body: Row | list[Row]) -> list[dict[str, float]]:
    rows = body if isinstance(body, list) else [body]
    return [{"probability": value} for value in probabilities(rows)]


@bentoml.service
class Naive:
    @bentoml.api
    def predict(self, rows: list[Row]) -> list[float]:
        return probabilities(rows)
