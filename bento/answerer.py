"""From the bytes of a request to the bytes of its answer, logged in between."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import orjson
from prometheus_client import REGISTRY, CollectorRegistry

from bento import answers
from bento.contract import KEY, Contract, RequestError
from bento.explain import Explainer
from bento.metrics import Metrics
from bento.prediction_log import Entry, PredictionLog, logged, now, row_ids
from bento.predictor import Predictor, Scores

logger = logging.getLogger(__name__)

Tell = Callable[[Sequence[bytes]], None]


@dataclass(frozen=True)
class Identity:
    """Who answers: the version in the registry, the bento, and the slot it runs in."""

    model_version: str
    bento: str
    slot: str


class Request(msgspec.Struct, frozen=True):
    """A request that keeps to the contract.

    Attributes:
        many: it came as a list, and is answered by one.
        probe: it was pinned to a slot, so it is nobody's traffic.
    """

    rows: Sequence[Any]
    many: bool
    probe: bool


class Answerer:
    """Answers requests: decoded, scored, logged, counted, encoded."""

    def __init__(
        self,
        predictor: Predictor,
        log: PredictionLog,
        identity: Identity,
        registry: CollectorRegistry = REGISTRY,
        explainer: Explainer | None = None,
        beside: Path | None = None,
    ) -> None:
        self._predictor = predictor
        self._log = log
        self._identity = identity
        self._explainer = explainer
        self._vocabularies = {k: v | {None} for k, v in predictor.vocabularies().items()}
        contract = predictor.contract
        self._task, self._answer_type = contract.task, _answer_type(contract)
        self._encode = msgspec.json.Encoder().encode
        # Unique over processes by the first part, within one by the second.
        self._process, self._requests = os.urandom(10).hex(), count()
        about = {"digest": predictor.digest, "bento": identity.bento, "slot": identity.slot}
        self.metrics = Metrics(
            identity.model_version, contract, self._vocabularies, registry, about, beside
        )
        self._can_log = True

    def watch(self, watchdog: AbstractContextManager[Any]) -> None:
        """Have each call of the model watched."""
        self._predictor.watchdog = watchdog

    def hung(self, times: int) -> None:
        """Note that calls hung before this process began: the model is left alone for a while."""
        self.metrics.hangs = times
        if times:
            self._predictor.breaker.open(monotonic())

    def ready(self) -> bool:
        """Whether requests can be answered: by the model or the base rate, but never unlogged."""
        if not self._can_log:
            self._can_log = self._log.is_writable()
        return self._can_log

    def version(self) -> bytes:
        return orjson.dumps(
            {
                "model_version": self._identity.model_version,
                "digest": self._predictor.digest,
                "bento": self._identity.bento,
                "slot": self._identity.slot,
                "problem": self._predictor.contract.problem,
            }
        )

    def read(self, body: bytes, probe: bool = False) -> Request:
        """The request in a body.

        Raises:
            RequestError: if it breaks the contract.
        """
        rows, many = self._predictor.decoder.decode(body)
        return Request(rows, many, probe)

    def answer(self, requests: Sequence[Request], tell: Tell = lambda _: None) -> list[bytes]:
        """The answers to requests that arrived together; each is what it would be alone.

        Args:
            tell: is called with them before they are counted, for which no client has to wait.

        Raises:
            RequestError: 503 if they cannot be logged; none of them is answered then.
        """
        scores = self._predictor.score([request.rows for request in requests])
        return self._said(requests, scores, tell)

    def fall_back(self, requests: Sequence[Request]) -> list[bytes]:
        """As `answer`, without asking the model."""
        return self._said(requests, [self._predictor.fallback(each.rows) for each in requests])

    def _said(
        self, requests: Sequence[Request], scores: Sequence[Scores], tell: Tell = lambda _: None
    ) -> list[bytes]:
        entries = [
            self._entry(request, found) for request, found in zip(requests, scores, strict=True)
        ]
        try:
            self._log.append(entries)
        except OSError as error:
            self._can_log = False
            logger.error("the prediction log cannot be written: %s", error)
            raise RequestError(503, "the prediction cannot be logged") from None
        self._can_log = True
        pairs = zip(entries, scores, strict=True)
        answers = [self._encoded(entry, found.values) for entry, found in pairs]
        tell(answers)
        self.metrics.breaker_open = self._predictor.breaker.state(monotonic()) == "open"
        for request, found in zip(requests, scores, strict=True):
            self._count(request, found)
        return answers

    def explain(self, body: bytes) -> bytes:
        """Why one row gets its score; nothing is logged, for nothing was decided.

        Raises:
            RequestError: 404 where explanations are off, 422 for a list, 503 if the model fails, or
                as for `read`.
        """
        if self._explainer is None:
            raise RequestError(404, "explanations are off: start with EVERGREEN_EXPLAIN=on")
        request = self.read(body)
        if request.many:
            raise RequestError(422, "expected one row as an object, got a list")
        row = msgspec.structs.asdict(request.rows[0])
        key, contract = row.pop(KEY), self._predictor.contract
        try:
            found = self._explainer.explain(row)
        except Exception as error:
            logger.error("an explanation failed: %s", type(error).__name__)
            raise RequestError(503, "the model cannot be asked") from None
        (decided,) = answers.decisions(contract.task, contract.threshold, [found.score])
        return orjson.dumps(
            {
                **({} if key is None else {KEY: key}),
                "model_version": self._identity.model_version,
                "digest": self._predictor.digest,
                contract.target: decided,
                **found.to_json(),
            }
        )

    def _entry(self, request: Request, scores: Scores) -> Entry:
        contract = self._predictor.contract
        return Entry(
            logged_at=now(),
            request_id=f"{self._process}{next(self._requests):012x}",
            model_version=self._identity.model_version,
            digest=self._predictor.digest,
            event_time=contract.event_time,
            threshold=contract.threshold,
            degraded=scores.degraded,
            probe=request.probe,
            many=request.many,
            rows=request.rows,
            **logged(contract.task, scores.values),
        )

    def _encoded(self, entry: Entry, scores: list[Any]) -> bytes:
        ids = row_ids(entry.request_id, entry.many, len(entry.rows))
        keys = [msgspec.UNSET if row.key is None else row.key for row in entry.rows]
        who = repeat(entry.model_version), repeat(entry.digest)
        columns = answers.said(self._task, entry.threshold, scores)
        said = list(map(self._answer_type, ids, keys, *who, *columns, repeat(entry.degraded)))
        return bytes(self._encode(said if entry.many else said[0]))

    def _count(self, request: Request, scores: Scores) -> None:
        self.metrics.scored(scores.values, scores.degraded)
        for name, vocabulary in self._vocabularies.items():
            values = [getattr(row, name) for row in request.rows]
            if new := set(values) - vocabulary:
                self.metrics.unseen(name, sum(value in new for value in values))


def _answer_type(contract: Contract) -> type[msgspec.Struct]:
    """One row's answer; without the caller's key where none was given."""
    parts = [
        ("request_id", str),
        (KEY, str | msgspec.UnsetType),
        ("model_version", str),
        ("digest", str),
        *answers.parts(contract.task, contract.target).items(),
        ("degraded", bool),
    ]
    return msgspec.defstruct("Answer", parts)
