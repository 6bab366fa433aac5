"""How a request enters the process and how its answer leaves it.

A prediction that is here as a whole, head and body in one read, goes straight to the endpoint:
uvicorn's way through ASGI takes a task, five turns of the event loop and as long as the model
needs. Whatever comes in parts, or is anything else, goes uvicorn's way.

An answer leaves in one write. Uvicorn writes head and body one after the other, and a process that
is killed in between leaves half an answer behind, which a gateway can neither send on nor ask for
again from another server.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bento.endpoint import Endpoint


class WholeWrites:
    """A transport that hands on at once what was written within one turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def write_whole(self, data: bytes) -> None:
        """Write what needs no more to come, after all that is held back."""
        self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is held back; nothing if it has gone already."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Whole:
    """A prediction that came as a whole, and its answer; to uvicorn a cycle like its own."""

    message_event = asyncio.Event()  # uvicorn sets it; here nobody waits

    def __init__(self, protocol: "Protocol", keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.disconnected = self.response_complete = False

    def __call__(self, status: int, answer: bytes) -> None:
        """Answer, and let the next request of the connection have its turn."""
        self.response_complete = True
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        protocol.whole_writes.write_whole(self._bytes(status, answer))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def tell_now(self, status: int, answer: bytes) -> None:
        """Answer past uvicorn and the event loop, as far as the socket takes it at once."""
        self.keep_alive = False
        with suppress(OSError):
            connection = self._protocol.transport.get_extra_info("socket")
            os.write(connection.fileno(), self._bytes(status, answer))

    def _bytes(self, status: int, answer: bytes) -> bytes:
        head = STATUS_LINE[status]
        for name, value in self._protocol.server_state.default_headers:
            head += b"%b: %b\r\n" % (name, value)
        if not self.keep_alive:
            head += b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(answer)
        return head + b"content-type: application/json\r\n" + length + answer


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 with whole writes, and a short way for whole predictions."""

    def __init__(self, *args: Any, endpoint: Endpoint, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._endpoint = endpoint
        self._held: list[bytes] | None = None  # the body of what may be a whole prediction

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.whole_writes = WholeWrites(transport, self.loop)
        super().connection_made(self.whole_writes)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held is not None and not self.transport.is_closing():
            body = self._let_go(self._held)
            super().on_headers_complete()
            super().on_body(body)

    def on_headers_complete(self) -> None:
        if (
            self.url == b"/predict"
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
        ):
            self._held = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        if self._held is None:
            super().on_message_complete()
            return
        body = self._let_go(self._held)
        parser = self.parser
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        self.cycle = whole = Whole(self, keep_alive)  # type: ignore[assignment]
        self._endpoint.predict(self.headers, body, whole)

    def _let_go(self, held: list[bytes]) -> bytes:
        """The body that was held, which is uvicorn's matter or the endpoint's from now on."""
        self._held = None
        return b"".join(held)
