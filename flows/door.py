"""Who asks a server, by what they send along; and the door of the board."""

import base64
import binascii
from dataclasses import dataclass
from secrets import compare_digest

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows import roster, service, users
from flows.access import Role
from flows.settings import Settings
from flows.users import User

NOT_KNOWN = (
    "sign in with your name and token (HTTP Basic): an approver adds people with "
    "`evergreen users add`"
)
CHALLENGE = {"www-authenticate": 'Basic realm="evergreen", charset="UTF-8"'}


@dataclass(frozen=True)
class Doorkeeper:
    """Knows people by `NAME:TOKEN` or the token alone, and the installation's own parts."""

    settings: Settings

    @classmethod
    def of(cls, settings: Settings) -> "Doorkeeper":
        """One who hears of a team's people from now on."""
        roster.follow(settings)
        return cls(settings)

    def user(self, authorization: str) -> User | None:
        """Whose header it is; None for nobody's."""
        scheme, _, sent = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self.bearer(sent.strip())
        return self.named(_decoded(sent)) if scheme.lower() == "basic" else None

    def named(self, sent: str) -> User | None:
        """Whose `NAME:TOKEN`, or token, it is."""
        name, colon, token = sent.rpartition(":")
        if colon and not name:
            return None
        return users.find(users.load(self.settings.root), token, name)

    def bearer(self, token: str) -> User | None:
        """Whose token it is; that of the board and `status` reads, and does nothing else."""
        if compare_digest(token.encode(), service.derived(self.settings, "reading").encode()):
            return User("service", Role.VIEWER, "", "")
        return users.find(users.load(self.settings.root), token)


def _decoded(sent: str) -> str:
    try:
        return base64.b64decode(sent, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


@dataclass(frozen=True)
class BoardDoor:
    """Lets everybody in who has a token, whatever the role: the board only reads."""

    app: ASGIApp
    keeper: Doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            sent = Headers(scope=scope).get("authorization", "")
            if self.keeper.user(sent) is None:
                refused = PlainTextResponse(f"{NOT_KNOWN}\n", 401, CHALLENGE)
                return await refused(scope, receive, send)
        await self.app(scope, receive, send)
