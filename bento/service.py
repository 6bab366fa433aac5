"""The BentoML service of one packaged model.

Imported only where the bento's arguments are known: in its build and in its slot.
"""

import gc
import os
from pathlib import Path
from typing import Annotated, Any, cast

import bentoml
from bentoml.models import BentoModel
from pydantic import WithJsonSchema

from bento.contract import Contract, Decoder
from bento.endpoint import Answerer, Endpoint, Identity
from bento.prediction_log import PredictionLog
from bento.predictor import Predictor
from data.digests import verify
from data.errors import EvergreenError

ARTEFACT = "artefact"
LOG_VARIABLE = "EVERGREEN_PREDICTION_LOG"
SLOT_VARIABLE = "EVERGREEN_SLOT"

# Baked into bento.yaml when the bento is built; a missing one fails, nothing stands in for it.
ARGUMENTS = bentoml.use_arguments()
MODEL = BentoModel(ARGUMENTS.model)


def artefact() -> Path:
    """The artefact's folder inside the bento."""
    return Path(MODEL.resolve().path) / ARTEFACT


def load() -> Answerer:
    """The answerer of this process.

    Raises:
        EvergreenError: if the artefact is not whole, or the process was not told where to log.
    """
    if LOG_VARIABLE not in os.environ:
        raise EvergreenError(f"{LOG_VARIABLE} is not set: name the file for the prediction log")
    log = PredictionLog(Path(os.environ[LOG_VARIABLE]))
    slot = os.environ.get(SLOT_VARIABLE, "")
    identity = Identity(ARGUMENTS.model_version, ARGUMENTS.bento, slot)
    answerer = Answerer(Predictor.load(artefact()), log, identity)
    # What is loaded now lives as long as the process: without the freeze, each collection walks it
    # and the 99th percentile is the garbage collector's.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    return answerer


def _contract() -> Contract:
    verify(artefact())
    return Contract.load(artefact())


def _answer_schema(target: str) -> dict[str, Any]:
    kinds = {
        "request_id": "string",
        "key": "string",
        "model_version": "string",
        "digest": "string",
        "probability": "number",
        target: "boolean",
        "degraded": "boolean",
    }
    required = [name for name in kinds if name != "key"]
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    return {"type": "object", "properties": properties, "required": required}


CONTRACT = _contract()
Row = Annotated[dict[str, Any], WithJsonSchema(Decoder(CONTRACT.fields).schema())]
Answer = Annotated[dict[str, Any], WithJsonSchema(_answer_schema(CONTRACT.target))]


@bentoml.service(
    name="evergreen",
    traffic={"timeout": 5},
    metrics={"enabled": False},  # labelled by raw path: any scanner would fill the memory
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Evergreen:
    """Answers raw fields with a probability and a decision."""

    model = MODEL

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    async def predict(self, row: Row, /) -> Answer:
        """Probability and decision for one row; a list of up to 1000 rows is answered by a list.

        `bento.endpoint` answers this route before BentoML's own stack; the declaration is what the
        OpenAPI document shows.
        """
        raise EvergreenError("/predict is answered by bento.endpoint: serve through bento.server")


service = cast("bentoml.Service[Evergreen]", Evergreen)
service.add_asgi_middleware(Endpoint, load=load)
