"""The process of one slot: hosts a bento's service in a single uvicorn worker.

It runs from the bento's own sources (the working directory), so what serves is what was packed.
"""

import argparse
import os
import socket
from functools import partial
from pathlib import Path

import uvicorn


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
    from bento.service import load as answerer
    from bento.wire import Protocol

    # is_main=False would deserialize code that a request carries.
    app = service.to_asgi(is_main=True)
    # The service has this as its middleware, too; out here BentoML's others are not in the way.
    endpoint = Endpoint(app, answerer, AccessLog(int(os.environ.get(VARIABLE, ONE_IN))))
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an unpacked bento on one port.")
    parser.add_argument("--bento", type=Path, required=True, help="the unpacked bento")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    serve(arguments.bento.resolve(), arguments.host, arguments.port)


if __name__ == "__main__":
    main()
