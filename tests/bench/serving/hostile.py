"""Hostile requests, family by family, as bytes on the wire, and what may be answered to them."""

import json
import math
import pickle
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from bento.slots import Serving
from tests.bench.serving.hostile_bodies import BODIES, Row

JSON = "application/json"
PROXY_TEXT = "text/html"  # what HAProxy says to bytes that never become a request
PICKLES = (
    "application/vnd.bentoml+pickle",
    "application/vnd.bentoml.pickle",
    "application/x-pickle",
    "application/python-pickle",
    "application/octet-stream",
    "application/vnd.bentoml+msgpack",
    "application/vnd.bentoml.multi_part_outputs",
)
TYPES = (
    "", "text/plain", "text/html", "multipart/form-data", "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded", "application/jsonp", "application/json5", "json", "*/*",
    "application/json; charset=utf-16", "APPLICATION/JSON", "application/json;;;", "image/png",
    "application/xml", "application/x-msgpack", "application/json, text/plain", ";", "\xff",
)  # fmt: skip
METHODS = (
    "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "CONNECT", "post", "PROPFIND", "X",
    "POST2", "BREW", "A" * 200,
)  # fmt: skip
PATHS = (
    "/predict/", "//predict", "/predict/../metrics", "/%70redict", "/predict%00", "/predict?x=1",
    "/predict#x", "/PREDICT", "/predict;a", "/.git/config", "/../../etc/passwd", "/%2e%2e/", "/%ff",
    "/explain", "/task", "/predict/submit", "/schema.json", "/x" * 2000, "http://x/predict", "*",
    "/static_content/../../x", "/healthz", "/version",
)  # fmt: skip
HEADERS = (
    "content-length: 0", "content-length: 99999999999999999999", "content-length: 1e3",
    "accept: image/png", "accept-encoding: gzip;q=1, *", "expect: 100-continue",
    "x-slot: red", "x-slot: blue, green", "x-slot:", "x-slot: blue\r\nx-slot: green",
    "x_slot: blue", "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: eA==\r\n"
    "sec-websocket-version: 13", "upgrade: h2c\r\nconnection: upgrade, http2-settings",
    "authorization: Bearer x", "authorization: Basic eDp4", "authorization: \xff", "cookie: a=b; a",
    "range: bytes=0-", "if-none-match: *", "content-encoding: gzip", "content-encoding: br",
    "traceparent: 00-zz-zz-00", "traceparent: 00-" + "f" * 32 + "-" + "f" * 16 + "-01",
    "baggage: a=" + "b" * 5000, "x-forwarded-for: 127.0.0.1", "te: trailers", "x: " + "a" * 15_000,
    "payload-container: Pickle", "payload-meta: {", "args-number: 2", "batch-size: -1",
    "transfer-encoding: identity", "x-bentoml-name: x", "connection: close, x-slot", "x: \x01\x02",
)  # fmt: skip
HEADS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET\r\n\r\n", b"\x00" * 50, b"POST /predict HTTP/9.9\r\n\r\n", b"POST /predict\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nbad header: x\r\n\r\n", b"POST /predict HTTP/1.1\r\n: x\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
    b"POST /pre dict HTTP/1.1\r\nhost: x\r\n\r\n", b"POST /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\n" + b"x: a\r\n" * 3000 + b"\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request. `head` says that its head is none that HTTP knows."""

    family: str
    raw: bytes
    method: str = "POST"
    head: bool = False
    shut: bool = False


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes


def request(
    body: bytes, content_type: str = JSON, method: str = "POST", path: str = "/predict",
    extra: str = "",
) -> bytes:  # fmt: skip
    """The bytes of a request; its length is right unless `extra` says another."""
    length = "" if "content-length" in extra else f"content-length: {len(body)}\r\n"
    lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}"
    lines += f"content-type: {content_type}\r\n" + (f"{extra}\r\n" if extra else "")
    return lines.encode("latin-1") + b"\r\n" + body


def chunked(body: bytes, size: int) -> bytes:
    parts = (body[first : first + size] for first in range(0, len(body), size))
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    head += f"content-type: {JSON}\r\nconnection: close\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self._path,))


def cases(row: Row, each: int, seed: int, trap: Path) -> Iterator[Case]:
    """About `each` cases of every family, always the same for a seed.

    Args:
        trap: a file that is there only after a pickle was loaded.
    """
    wild = random.Random(seed)
    good = json.dumps(row).encode()
    for family, build in BODIES.items():
        for number in range(each if family != "huge" else max(each // 10, 10)):
            body = build(wild, row)
            path = "/explain" if number % 10 == 9 else "/predict"
            spread = number % 7 == 6
            yield Case(family, chunked(body, 4096) if spread else request(body, path=path))
    for _ in range(each):
        body = pickle.dumps(Trap(trap), protocol=wild.randrange(6))
        kind, extra = wild.choice(PICKLES), wild.choice(["", "payload-container: Pickle"])
        yield Case(
            "pickle", request(body, kind, path=wild.choice(["/predict", "/explain"]), extra=extra)
        )
        yield Case("content types", request(good, wild.choice(TYPES)))
        method = wild.choice(METHODS)
        path = wild.choice(["/predict", "/explain", "/version", "/healthz", "/docs.json", "/x"])
        yield Case("methods", request(good, method=method, path=path), method, method == "CONNECT")
        path = wild.choice(PATHS)
        yield Case("paths", request(good, path=path), head="#" in path)
        extra = "\r\n".join(wild.sample(HEADERS, wild.randint(1, 3)))
        yield Case("headers", request(good, extra=extra), head=not _is_http(extra))
        cut = request(good)[: wild.randrange(20, len(request(good)) - 1)]
        yield Case("half-open, then shut", cut, shut=True, head=b"\r\n\r\n" not in cut)
    for _ in range(max(each // 10, len(HEADS))):
        yield Case("no HTTP", wild.choice(HEADS), head=True)


def _is_http(extra: str) -> bool:
    odd = ("99999999999999999999", "1e3", "\x01", "identity", "websocket")
    return not any(word in extra for word in odd)


def send(serving: Serving, case: Case, timeout: float = 20) -> Answer | None:
    """The answer; None if the connection was closed without one."""
    with socket.create_connection((serving.bind, serving.gateway_port), timeout) as connection:
        try:
            connection.sendall(case.raw)
            if case.shut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before it was sent as a whole: the answer is there
        reply = HTTPResponse(connection, method=case.method)
        try:
            reply.begin()
            return Answer(reply.status, reply.getheader("content-type", ""), reply.read())
        except (OSError, HTTPException):
            return None


def fault(case: Case, answer: Answer | None) -> str | None:
    """What must not be: no answer, one of 5xx, or a body that is not strict JSON."""
    if answer is None:
        return None if case.shut else "no answer"
    if answer.status >= 500:
        return f"{answer.status}"
    if case.head and answer.kind == PROXY_TEXT:
        return None if answer.status in (400, 408, 422) else f"{answer.status} as text"
    if not answer.body.strip():
        bare = case.method == "HEAD" or answer.status == 200
        return None if bare else f"{answer.status} without a body"
    if answer.status == 200 and not answer.kind.startswith(JSON):
        return None if answer.kind.startswith(("text/", "image/", "application/")) else "odd kind"
    try:
        value = json.loads(answer.body, parse_constant=_refuse)
    except ValueError:
        return f"{answer.status} with a body that is not JSON: {answer.body[:80]!r}"
    if answer.status >= 400 and not (isinstance(value, dict) and {"error", "path"} <= set(value)):
        return f"{answer.status} in another form: {answer.body[:80]!r}"
    found = value if isinstance(value, list) else [value]
    for one in found:
        if "probability" in one and not (
            0 <= one["probability"] <= 1 and math.isfinite(one["probability"])
        ):
            return f"probability {one['probability']}"
    return None


def _refuse(word: str) -> Any:
    raise ValueError(word)
