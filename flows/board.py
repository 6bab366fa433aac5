"""The board: one page on loopback that shows the overview, and pages kept in this home.

It only reads. Nothing is fetched from anywhere else: the policy sent along forbids it.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from data.errors import EvergreenError
from flows import board_view
from flows.door import BoardDoor, Doorkeeper
from flows.overview import PAGES, Overview, chart, gather, version_page
from flows.settings import HOST, Settings

FRESH = 5.0  # seconds for which an overview is shown again
HERE = Path(__file__).parent
SAFE = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
POLICY = f"default-src 'none'; style-src 'self'; img-src 'self' data:; {NOTHING_ELSE}"
# Pages that are whole in themselves bring their style along; no script of theirs is run.
KEPT = f"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; {NOTHING_ELSE}"


@dataclass
class Board:
    """The overview of one home, gathered at most once in `FRESH` seconds whoever asks."""

    settings: Settings
    look: Callable[[Settings, datetime], Overview] = gather
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: Overview | None = None
    _at: float = 0.0

    def overview(self) -> Overview:
        with self._lock:
            if self._seen is None or time.monotonic() - self._at > FRESH:
                self._seen = self.look(self.settings, datetime.now(UTC))
                self._at = time.monotonic()
            return self._seen

    def page(self, request: Request) -> Response:
        if "json" in request.query_params:
            return self.json(request)
        text = _template().render(board_view.content(self.overview()))
        return _html(text, POLICY)

    def json(self, _: Request) -> Response:
        return JSONResponse(self.overview().to_json(), headers=SAFE)

    def report(self, request: Request) -> Response:
        """The page of a period's report."""
        name = request.path_params["name"]
        if not re.fullmatch(r"[\w.-]+\.html", name):
            return _missing()
        return _kept(self.settings.home / "reports" / name)

    def of_version(self, request: Request) -> Response:
        """The gate report or the card of a version."""
        number, page = request.path_params["number"], request.path_params["page"]
        if page not in PAGES.values():
            return _missing()
        try:
            path = version_page(self.settings, number, page)
        except EvergreenError as error:
            return PlainTextResponse(f"{error}\n", 503, SAFE)
        return _kept(path) if path else _missing()

    def chart(self, _: Request) -> Response:
        return _kept(chart(self.settings))


def app(board: Board) -> Starlette:
    """Every route; a name other than this machine's is refused (no page elsewhere may ask)."""
    routes = [
        Route("/", board.page),
        Route("/overview.json", board.json),
        Route("/reports/{name}", board.report),
        Route("/versions/{number}/{page}", board.of_version),
        Route("/chart.png", board.chart),
        Route("/board.css", lambda _: FileResponse(HERE / "board.css", headers=SAFE)),
        Route("/healthz", lambda _: PlainTextResponse("ok\n", headers=SAFE)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


@lru_cache(maxsize=1)
def _template() -> Template:
    pages = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("board.html.j2")


def _html(text: str, policy: str) -> Response:
    headers = {**SAFE, "content-security-policy": policy}
    return Response(text, media_type="text/html", headers=headers)


def _kept(path: Path) -> Response:
    if not path.is_file():
        return _missing()
    return FileResponse(path, headers={**SAFE, "content-security-policy": KEPT})


def _missing() -> Response:
    return PlainTextResponse("there is no such page here; the board is at /\n", 404, SAFE)


def served() -> Starlette:
    """The board of this home, for uvicorn."""
    settings = Settings.read(os.environ)
    made = app(Board(settings))
    if settings.sign_in:
        made.add_middleware(BoardDoor, keeper=Doorkeeper.of(settings))
    return made
