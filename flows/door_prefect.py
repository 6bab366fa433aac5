"""The Prefect server with a door in front of its API: each person by their own token and role.

Prefect itself knows one secret for its whole API. Only the installation's own parts have it; the
door adds it to what a person may do, and stamps their name on what they start and decide. It reads
the same decoded path that Prefect routes by.
"""

import base64
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from secrets import compare_digest
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_DNS, uuid5

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import EvergreenError
from flows import access, service
from flows.access import Role
from flows.door import NOT_KNOWN, Doorkeeper
from flows.door_rules import OPERATED, RUN, needed, sent_on
from flows.settings import HOST, Settings
from flows.users import User

API = "/api"
OPEN = ("/api/health", "/api/ready")
FEEDS = ("/api/events/out", "/api/logs/out")
LARGEST = 1 << 20  # bytes of a body
STAMP = "prefect-automation-"  # headers from which Prefect takes who created a run


@dataclass(frozen=True)
class Door:
    """Prefect's own application behind it.

    Attributes:
        secret: that of the whole API.
        deployment: what Prefect knows of one, by its id.
    """

    app: ASGIApp
    secret: str
    keeper: Doorkeeper
    deployment: Callable[[str], Awaitable[Mapping[str, Any]]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "websocket":
            return await self.app(scope, self._feed(path, receive), send)
        if scope["type"] != "http" or not path.startswith(API) or path in OPEN:
            return await self.app(scope, receive, send)
        sent = Headers(scope=scope).get("authorization", "")
        if compare_digest(sent.encode(), self._basic.encode()):
            return await self.app(scope, receive, send)
        user = self.keeper.user(sent)
        if user is None:
            return await _refused(401, NOT_KNOWN)(scope, receive, send)
        method = scope["method"]
        wanted, what = needed(method, path), f"{method} {quote(path)}"  # one line in the log
        try:
            access.check(user.name, user.role, wanted, what)
            body = await self._changed(user, wanted, path, receive)
        except EvergreenError as error:
            print(f"{what}: refused, {error}", flush=True)
            return await _refused(403, str(error))(scope, receive, send)
        if wanted is not Role.VIEWER:
            print(f"{what}: {user.name}, {user.role}", flush=True)
        await self.app(_stamped(scope, user, self._basic, body), _again(receive, body), send)

    @property
    def _basic(self) -> str:
        return f"Basic {base64.b64encode(self.secret.encode()).decode()}"

    async def _changed(
        self, user: User, wanted: Role | None, path: str, receive: Receive
    ) -> bytes | None:
        """The body that goes on, where it is not the one that came; None for that."""
        if wanted is Role.VIEWER or OPERATED.fullmatch(path):
            return None
        found = RUN.fullmatch(path)
        deployment = await self.deployment(found[1]) if found else {}
        return _json(sent_on(user, path, await _object(receive), deployment))

    def _feed(self, path: str, receive: Receive) -> Receive:
        """Where a page follows what happens, its first message has the token of its person."""

        async def with_secret() -> Message:
            message = await receive()
            text = message.get("text")
            if message["type"] == "websocket.receive" and text and path in FEEDS:
                message = {**message, "text": self._signed_in(text)}
            return message

        return with_secret

    def _signed_in(self, text: str) -> str:
        try:
            said = json.loads(text)
            if said["type"] == "auth" and self.keeper.named(said["token"]) is not None:
                return json.dumps({**said, "token": self.secret})
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        return text


def _refused(status: int, said: str) -> JSONResponse:
    return JSONResponse({"detail": said, "exception_message": said}, status)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(body)).encode()


async def _object(receive: Receive) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        EvergreenError: if it is none, or too large.
    """
    parts = b""
    more = True
    while more:
        message = await receive()
        parts += message.get("body", b"")
        more = message.get("more_body", False)
        if len(parts) > LARGEST:
            raise EvergreenError(f"the body has over {LARGEST} bytes")
    try:
        found = json.loads(parts or b"{}")
    except ValueError as error:
        raise EvergreenError(f"the body is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise EvergreenError("the body is no JSON object")
    return found


def _stamped(scope: Scope, user: User, basic: str, body: bytes | None) -> Scope:
    """The request as the installation makes it, with who is behind it where Prefect keeps that."""
    kept = [pair for pair in scope["headers"] if not pair[0].lower().startswith(STAMP.encode())]
    changed = {**scope, "headers": kept}
    headers = MutableHeaders(scope=changed)
    headers["authorization"] = basic
    headers[f"{STAMP}id"] = str(uuid5(NAMESPACE_DNS, f"{user.name}.evergreen"))
    headers[f"{STAMP}name"] = base64.b64encode(user.name.encode()).decode()
    if body is not None:
        headers["content-length"] = str(len(body))
        headers["content-type"] = "application/json"
    return changed


def _again(receive: Receive, body: bytes | None) -> Receive:
    """As if `body` had been sent."""
    if body is None:
        return receive
    left = [body]

    async def once() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return once


def served(settings: Settings) -> ASGIApp:
    """Prefect's server with the door; the settings of Prefect are in the environment."""
    import httpx
    from prefect.server.api.server import create_app

    app, secret = create_app(final=True), service.prefect(settings)
    name, _, password = secret.partition(":")

    async def deployment(number: str) -> Mapping[str, Any]:
        inside = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=inside, base_url="http://door") as client:
            reply = await client.get(f"{API}/deployments/{number}", auth=(name, password))
        found = reply.json() if reply.status_code == 200 else {}
        return found if isinstance(found, dict) else {}

    return Door(app, secret, Doorkeeper.of(settings), deployment)


def main() -> None:
    import uvicorn

    settings = Settings.read(os.environ)
    port = settings.ports["prefect"]
    os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"] = HOST, str(port)
    uvicorn.run(served(settings), host=HOST, port=port, log_level="warning", timeout_keep_alive=5)


if __name__ == "__main__":
    main()
