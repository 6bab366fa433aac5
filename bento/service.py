"""The BentoML service of one packaged model.

Imported only where the bento's arguments are known: in its build and in its slot.
"""

import gc
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import bentoml
from bentoml.models import BentoModel
from pydantic import WithJsonSchema

from bento import schemas
from bento.answerer import Answerer, Identity
from bento.contract import Contract, Decoder
from bento.endpoint import Endpoint
from bento.explain import Explainer
from bento.prediction_log import PredictionLog
from bento.predictor import Predictor
from data.digests import verify
from data.errors import EvergreenError

ARTEFACT = "artefact"
LOG_VARIABLE = "EVERGREEN_PREDICTION_LOG"
SLOT_VARIABLE = "EVERGREEN_SLOT"
EXPLAIN_VARIABLE = "EVERGREEN_EXPLAIN"
MONITOR_VARIABLE = "EVERGREEN_MONITOR_METRICS"
HANGS_VARIABLE = "EVERGREEN_MODEL_HANGS"

# Baked into bento.yaml when the bento is built; a missing one fails, nothing stands in for it.
ARGUMENTS = bentoml.use_arguments()
MODEL = BentoModel(ARGUMENTS.model)


def artefact() -> Path:
    """The artefact's folder inside the bento."""
    return Path(MODEL.resolve().path) / ARTEFACT


@cache
def load() -> Answerer:
    """The answerer of this process, the same for all who ask.

    Raises:
        EvergreenError: if the artefact is not whole, or the process was not told where to log.
    """
    if LOG_VARIABLE not in os.environ:
        raise EvergreenError(f"{LOG_VARIABLE} is not set: name the file for the prediction log")
    log = PredictionLog(Path(os.environ[LOG_VARIABLE]))
    slot = os.environ.get(SLOT_VARIABLE, "")
    identity = Identity(ARGUMENTS.model_version, ARGUMENTS.bento, slot)
    predictor = Predictor.load(artefact())
    wanted = os.environ.get(EXPLAIN_VARIABLE) == "on"
    explainer = Explainer.load(artefact(), predictor) if wanted else None
    said = os.environ.get(MONITOR_VARIABLE)
    beside = Path(said) if said else None
    answerer = Answerer(predictor, log, identity, explainer=explainer, beside=beside)
    answerer.hung(int(os.environ.get(HANGS_VARIABLE, 0)))
    # What is loaded now lives as long as the process: without the freeze, each collection walks it
    # and the 99th percentile is the garbage collector's.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    return answerer


def _contract() -> Contract:
    """The contract of the artefact that was packed.

    A manifest that was written anew fits its files, but not the digest in bento.yaml.
    """
    if (digest := verify(artefact())) != ARGUMENTS.digest:
        raise EvergreenError(
            f"{artefact()} is {digest[:16]}, but {ARGUMENTS.bento} was built from "
            f"{ARGUMENTS.digest[:16]}: release the version again"
        )
    return Contract.load(artefact())


CONTRACT = _contract()
Row = Annotated[dict[str, Any], WithJsonSchema(Decoder(CONTRACT.fields).schema())]
Answer = Annotated[dict[str, Any], WithJsonSchema(schemas.answer(CONTRACT))]
Why = Annotated[dict[str, Any], WithJsonSchema(schemas.explanation(CONTRACT))]


@bentoml.service(
    name="evergreen",
    traffic={"timeout": 5},
    metrics={"enabled": False},  # labelled by raw path: any scanner would fill the memory
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Evergreen:
    """Answers raw fields with a score and a decision."""

    model = MODEL

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    async def predict(self, row: Row, /) -> Answer:
        """Score and decision for one row; a list of up to 1000 rows is answered by a list.

        `bento.endpoint` answers this route before BentoML's own stack; the declaration is what the
        OpenAPI document shows.
        """
        raise EvergreenError("/predict is answered by bento.endpoint: serve through bento.server")

    @bentoml.api(route="/explain")  # type: ignore[untyped-decorator]
    async def explain(self, row: Row, /) -> Why:
        """What each raw field adds to one row's score, against typical events.

        The base and all contributions add up to the log-odds of what is answered, or to the number.
        Answered where the server was
        started with EVERGREEN_EXPLAIN=on.
        """
        raise EvergreenError("/explain is answered by bento.endpoint: serve through bento.server")


service = cast("bentoml.Service[Evergreen]", Evergreen)
service.add_asgi_middleware(Endpoint, load=load)
