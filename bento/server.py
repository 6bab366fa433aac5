"""The process of one slot: hosts a bento's service in a single uvicorn worker.

It runs from the bento's own sources (the working directory), so what serves is what was packed.
"""

import argparse
import logging
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from bento.endpoint import Endpoint

logger = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: until the model is loaded, clients are refused at
    once rather than left hanging."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


def serve(bento: Path, host: str, port: int) -> None:
    """Serve until SIGTERM; requests on the way then have ten seconds to finish."""
    bound = bind(host, port)
    from _bentoml_impl.loader import load

    service = load(str(bento))
    from bento.access_log import ONE_IN, VARIABLE, AccessLog
    from bento.endpoint import Endpoint
    from bento.service import ARGUMENTS
    from bento.service import load as answerer
    from bento.watchdog import Watchdog
    from bento.wire import Protocol

    # is_main=False would deserialize code that a request carries.
    app = service.to_asgi(is_main=True)
    # The service has this as its middleware, too; out here BentoML's others are not in the way.
    endpoint = Endpoint(app, answerer, AccessLog(int(os.environ.get(VARIABLE, ONE_IN))))
    seconds = float(ARGUMENTS.model_seconds)
    answerer().watch(Watchdog(seconds, partial(begin_anew, endpoint, seconds)))
    config = uvicorn.Config(
        endpoint,
        http=partial(Protocol, endpoint=endpoint),  # type: ignore[arg-type]
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run(sockets=[bound])


def begin_anew(endpoint: "Endpoint", seconds: float) -> None:
    """Answer what hangs with the base rate, and become a fresh process; does not return.

    It keeps its id and its place, whoever watches over it, and leaves the model alone at first.
    """
    from bento.service import HANGS_VARIABLE

    logger.error("the model gave no answer for %g s: this process begins anew", seconds)
    times = int(os.environ.get(HANGS_VARIABLE, 0)) + 1
    try:
        endpoint.fall_back()
    finally:
        environment = {**os.environ, HANGS_VARIABLE: str(times)}
        os.execve(sys.executable, sys.orig_argv, environment)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an unpacked bento on one port.")
    parser.add_argument("--bento", type=Path, required=True, help="the unpacked bento")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    serve(arguments.bento.resolve(), arguments.host, arguments.port)


if __name__ == "__main__":
    main()
