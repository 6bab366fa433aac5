"""`/predict`, `/explain`, `/version`, `/readyz` and `/metrics`, answered before BentoML's stack.

BentoML's request path costs several times what a prediction costs, and its metrics are labelled by
raw path; the other health checks and the OpenAPI document stay its own. Requests that arrive in the
same turn of the event loop are answered together: one call of the model, one write to the log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from time import perf_counter
from typing import Any, Protocol

import msgspec
import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from bento.access_log import AccessLog
from bento.answerer import Answerer, Request
from bento.contract import MAX_BODY, TOO_LARGE, RequestError

BODY_SECONDS = 4.0
SLOT_HEADER = b"x-slot"

Message = MutableMapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
logger = logging.getLogger(__name__)


NOT_READY = b'{"error":"the prediction log cannot be written","path":"$"}'


Done = Callable[[bytes | Exception], None]


class Client(Protocol):
    """Who asked, and is told status and answer once."""

    def __call__(self, status: int, answer: bytes) -> None: ...

    def tell_now(self, status: int, answer: bytes) -> None:
        """From another thread, while the event loop stands; the connection ends with it."""


class _Waiting(msgspec.Struct, frozen=True):
    """A request that was read at a moment; `done` is called with its answer, or why not.

    Attributes:
        client: who can be told even while the event loop stands; None if nobody can.
    """

    request: Request
    since: float
    done: Done
    client: Client | None


class Endpoint:
    """ASGI in front of an app. `load` is called once, before the server is ready."""

    def __init__(
        self, app: App, load: Callable[[], Answerer], access: AccessLog | None = None
    ) -> None:
        self._app = app
        self._access = access or AccessLog()
        self._answerer = load()
        self._waiting: list[_Waiting] = []
        self._asked: list[_Waiting] = []
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
        elif path == "/readyz" and not self._answerer.ready():
            await _respond(send, 503, NOT_READY)
        else:
            await self._app(scope, receive, send)

    def predict(self, headers: Headers, body: bytes, client: Client) -> None:
        """Answer a POST to /predict that is here as a whole, as `__call__` would.

        It is answered in this turn of the event loop or the next.
        """
        began = perf_counter()

        def done(found: bytes | Exception) -> None:
            status, answer = (200, found) if isinstance(found, bytes) else _refusal(found)
            client(status, answer)
            self._note(status, began)

        try:
            self._join(self._answerer.read(body, _check_head(headers)), began, done, client)
        except Exception as error:
            done(error)

    async def _predict(self, scope: Message, receive: Receive, send: Send) -> None:
        async def work(body: bytes, probe: bool) -> bytes:
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            def done(found: bytes | Exception) -> None:
                if answer.done():  # its client has left
                    return
                if isinstance(found, bytes):
                    answer.set_result(found)
                else:
                    answer.set_exception(found)

            start = perf_counter()
            self._join(self._answerer.read(body, probe), start, done)
            return await answer

        began = perf_counter()
        self._note(await _reply(scope, receive, send, work), began)

    def _note(self, status: int, began: float) -> None:
        self._answerer.metrics.answered(status)
        self._access.note("/predict", status, perf_counter() - began)

    def _join(
        self, request: Request, since: float, done: Done, client: Client | None = None
    ) -> None:
        """Have a request answered with all others that come in this turn of the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        self._waiting.append(_Waiting(request, since, done, client))

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._asked = waiting
        told = False

        def tell(answers: Sequence[bytes]) -> None:
            nonlocal told
            told = True
            for each, answer in zip(waiting, answers, strict=True):
                each.done(answer)
                self._answerer.metrics.took(perf_counter() - each.since)

        try:
            self._answerer.answer([each.request for each in waiting], tell)
        except Exception as error:
            if told:
                raise
            for each in waiting:
                each.done(error)

    def fall_back(self) -> None:
        """Answer what the model is being asked without it, from another thread, while it hangs."""
        asked = [(each.request, each.client) for each in self._asked if each.client]
        answers = self._answerer.fall_back([request for request, _ in asked])
        for (_, client), answer in zip(asked, answers, strict=True):
            client.tell_now(200, answer)

    async def _explain(self, scope: Message, receive: Receive, send: Send) -> None:
        """One at a time and beside the loop: it costs as much as a thousand predictions."""

        async def work(body: bytes, _: bool) -> bytes:
            async with self._explaining:
                return await asyncio.to_thread(self._answerer.explain, body)

        began = perf_counter()
        status = await _reply(scope, receive, send, work)
        self._answerer.metrics.explained(status)
        self._access.note("/explain", status, perf_counter() - began)


Work = Callable[[bytes, bool], Awaitable[bytes]]


async def _reply(scope: Message, receive: Receive, send: Send, work: Work) -> int:
    """Answer a POST with what `work` makes of its body; the status."""
    try:
        if scope["method"] != "POST":
            raise RequestError(405, f"{scope['path']} takes POST")
        probe = _check_head(scope["headers"])
        status, answer = 200, await work(await _body(receive), probe)
    except Exception as error:
        status, answer = _refusal(error)
    await _respond(send, status, answer)
    return status


def _refusal(error: Exception) -> tuple[int, bytes]:
    """Status and answer where a request failed; only its own fault is told."""
    if isinstance(error, RequestError):
        return error.status, orjson.dumps({"error": error.message, "path": error.path})
    logger.error("a request failed: %s", type(error).__name__)
    return 500, b'{"error":"the request failed in the server","path":"$"}'


def _check_head(headers: Headers) -> bool:
    """Whether the request is pinned to a slot.

    Raises:
        RequestError: if the content type or the length is not taken.
    """
    probe, content_type, length = False, b"", b"0"
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value
        elif name == SLOT_HEADER:
            probe = True
    if content_type != b"application/json":
        content_type = content_type.partition(b";")[0].strip().lower()
        if content_type != b"application/json":
            raise RequestError(415, "the content type has to be application/json")
    if length.isdigit() and int(length) > MAX_BODY:
        raise RequestError(413, TOO_LARGE)
    return probe


async def _body(receive: Receive) -> bytes:
    """The body. The gateway sends a small one on as a whole; for what comes in parts time runs.

    Raises:
        RequestError: 413 if it is too large, 408 if it does not come in time, or its client leaves.
    """
    part, more = await _part(receive)
    if not more:
        return part
    parts, size = [part], len(part)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                part, more = await _part(receive)
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    raise RequestError(413, TOO_LARGE)
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    return b"".join(parts)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise RequestError(408, "the client left before the body was whole")
    return message.get("body", b""), message.get("more_body", False)


async def _respond(send: Send, status: int, body: bytes, kind: str = "application/json") -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
