"""`/predict`, `/explain`, `/version` and `/metrics`, answered by the BentoML service's middleware.

BentoML's request path costs several times what a prediction costs, and its metrics are labelled by
raw path; health checks and the OpenAPI document stay its own.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry

from bento.contract import KEY, Decoder, RequestError
from bento.explain import Explainer
from bento.metrics import Metrics
from bento.prediction_log import PredictionLog, Record, now
from bento.predictor import Predictor

MAX_BODY = 2 * 1024 * 1024
AT_ONCE = 32 * 1024  # the gateway keeps a body of this size until it is whole
BODY_SECONDS = 4.0  # less than BentoML's own limit, which would call it a fault of the server
SLOT_HEADER = b"x-slot"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Who answers: the version in the registry, the bento, and the slot it runs in."""

    model_version: str
    bento: str
    slot: str


class Answerer:
    """From the bytes of a request to the bytes of its answer, logged in between."""

    def __init__(
        self,
        predictor: Predictor,
        log: PredictionLog,
        identity: Identity,
        registry: CollectorRegistry = REGISTRY,
        explainer: Explainer | None = None,
    ) -> None:
        self._predictor = predictor
        self._log = log
        self._identity = identity
        self._explainer = explainer
        self._decoder = Decoder(predictor.contract.fields)
        self._vocabularies = predictor.vocabularies()
        self.metrics = Metrics(identity.model_version, self._vocabularies, registry)

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

    def answer(self, body: bytes, probe: bool = False) -> bytes:
        """The answer to a request; one object for one, a list for a list.

        Raises:
            RequestError: if the request breaks the contract, or (503) its record cannot be written.
        """
        structs, many = self._decoder.decode(body)
        rows = [msgspec.structs.asdict(struct) for struct in structs]
        keys = [row.pop(KEY) for row in rows]
        scores = self._predictor.score(rows)
        request_id = uuid.uuid4().hex
        ids = [f"{request_id}-{i}" for i in range(len(rows))] if many else [request_id]
        records = [
            self._record(*parts, scores.degraded, probe)
            for parts in zip(ids, keys, rows, scores.probabilities, strict=True)
        ]
        try:
            self._log.append(records)
        except OSError as error:
            logger.error("the prediction log cannot be written: %s", error)
            raise RequestError(503, "the prediction cannot be logged") from None
        self._count(records, scores.degraded)
        answers = [self._answer(record) for record in records]
        return orjson.dumps(answers if many else answers[0])

    def explain(self, body: bytes) -> bytes:
        """Why one row gets its probability; nothing is logged, for nothing was decided.

        Raises:
            RequestError: 404 where explanations are off, 422 for a list, 503 if the model fails, or
                as for `answer`.
        """
        if self._explainer is None:
            raise RequestError(404, "explanations are off: start with EVERGREEN_EXPLAIN=on")
        (struct, *_), many = self._decoder.decode(body)
        if many:
            raise RequestError(422, "expected one row as an object, got a list")
        row = msgspec.structs.asdict(struct)
        key, contract = row.pop(KEY), self._predictor.contract
        try:
            found = self._explainer.explain(row)
        except Exception as error:
            logger.error("an explanation failed: %s", type(error).__name__)
            raise RequestError(503, "the model cannot be asked") from None
        return orjson.dumps(
            {
                **({} if key is None else {KEY: key}),
                "model_version": self._identity.model_version,
                "digest": self._predictor.digest,
                contract.target: found.probability >= contract.threshold,
                **found.to_json(),
            }
        )

    def _record(
        self,
        request_id: str,
        key: str | None,
        row: dict[str, Any],
        probability: float,
        degraded: bool,
        probe: bool,
    ) -> Record:
        contract = self._predictor.contract
        return Record(
            logged_at=now(),
            request_id=request_id,
            key=key,
            event_time=row[contract.event_time],
            model_version=self._identity.model_version,
            digest=self._predictor.digest,
            probability=probability,
            decision=probability >= contract.threshold,
            degraded=degraded,
            probe=probe,
            row=row,
        )

    def _answer(self, record: Record) -> dict[str, Any]:
        return {
            "request_id": record.request_id,
            **({} if record.key is None else {KEY: record.key}),
            "model_version": record.model_version,
            "digest": record.digest,
            "probability": record.probability,
            self._predictor.contract.target: record.decision,
            "degraded": record.degraded,
        }

    def _count(self, records: list[Record], degraded: bool) -> None:
        self.metrics.rows.inc(len(records))
        if degraded:
            self.metrics.degraded.inc(len(records))
        for record in records:
            self.metrics.scores.observe(record.probability)
            for name, vocabulary in self._vocabularies.items():
                value = record.row[name]
                if value is not None and value not in vocabulary:
                    self.metrics.unseen[name].inc()


class Endpoint:
    """The middleware. `load` is called once, when the server builds its stack, before readiness."""

    def __init__(self, app: App, load: Callable[[], Answerer]) -> None:
        self._app = app
        self._answerer = load()
        self._explaining = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path == "/predict":
            await self._predict(scope, receive, send)
        elif path == "/explain":
            await self._explain(scope, receive, send)
        elif path == "/version":
            await _respond(send, 200, self._answerer.version())
        elif path == "/metrics":
            await _respond(send, 200, self._answerer.metrics.text(), CONTENT_TYPE_LATEST)
        else:
            await self._app(scope, receive, send)

    async def _predict(self, scope: Message, receive: Receive, send: Send) -> None:
        metrics = self._answerer.metrics

        async def work(body: bytes, probe: bool) -> bytes:
            start = perf_counter()
            answer = self._answerer.answer(body, probe)
            metrics.seconds.observe(perf_counter() - start)
            return answer

        metrics.answered(await _reply(scope, receive, send, work))

    async def _explain(self, scope: Message, receive: Receive, send: Send) -> None:
        """One at a time and beside the loop: it costs as much as a thousand predictions."""

        async def work(body: bytes, _: bool) -> bytes:
            async with self._explaining:
                return await asyncio.to_thread(self._answerer.explain, body)

        await _reply(scope, receive, send, work)


Work = Callable[[bytes, bool], Awaitable[bytes]]


async def _reply(scope: Message, receive: Receive, send: Send, work: Work) -> int:
    """Answer a POST with what `work` makes of its body; the status."""
    try:
        headers = dict(scope["headers"])
        _check_head(scope, headers)
        body = await _whole_body(receive, headers)
        status, answer = 200, await work(body, SLOT_HEADER in headers)
    except RequestError as error:
        status = error.status
        answer = orjson.dumps({"error": error.message, "path": error.path})
    except TimeoutError:
        status = 408
        answer = b'{"error":"the body did not come in time","path":"$"}'
    except Exception as error:
        logger.error("a request failed: %s", type(error).__name__)
        status, answer = 500, b'{"error":"the request failed in the server","path":"$"}'
    await _respond(send, status, answer)
    return status


def _check_head(scope: Message, headers: dict[bytes, bytes]) -> None:
    if scope["method"] != "POST":
        raise RequestError(405, f"{scope['path']} takes POST")
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise RequestError(415, "the content type has to be application/json")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY:
        raise RequestError(413, f"the body is larger than {MAX_BODY} bytes: send fewer rows")


async def _whole_body(receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) <= AT_ONCE:
        return await _body(receive)
    async with asyncio.timeout(BODY_SECONDS):
        return await _body(receive)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(408, "the client left before the body was whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise RequestError(413, f"the body is larger than {MAX_BODY} bytes: send fewer rows")
        more = message.get("more_body", False)
    return b"".join(parts)


async def _respond(send: Send, status: int, body: bytes, kind: str = "application/json") -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
