"""Who is let in, and what is cut off: a real gateway before a real slot."""

import resource
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
import requests

from bento import auth, client, gateway, haproxy, rollout, tls
from bento.contract import MAX_BODY
from bento.package import build
from bento.slots import Serving
from data.errors import EvergreenError
from tests.serving_stack import (
    CHECKOUT,
    SMOKE,
    Stack,
    answers,
    ask,
    certificate,
    golden,
    running,
    wait_for,
)

NOW = datetime(2024, 4, 1, tzinfo=UTC)
PINNED = {"x-slot": "blue"}


@pytest.fixture(scope="module")
def stack(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    store = tmp_path_factory.mktemp("store")
    package = build(
        artefact, name="parcels", version="1", store=store, checkout=CHECKOUT, seconds=2.0
    )
    with running() as stack:
        slot = rollout.deploy(stack.serving, package, *golden(artefact), **SMOKE)
        rollout.switch(stack.serving, slot)
        yield stack


def keep(serving: Serving, keys: auth.Keys) -> None:
    auth.save(serving.folder, keys)
    gateway.admit(serving)


def post(serving: Serving, row: dict, key: str | None = None) -> int:
    return client.Door(serving.url, key).call("POST", "/predict", row).status


def test_slow_and_half_open_clients_are_cut_off(stack, row):
    """300 of them while a normal client is answered; what arrives byte by byte is no exception."""
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    begun = [
        head,
        head + b"content-length: 100\r\n\r\n{",
        head + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        head + b"content-length: 200000\r\n\r\n" + b" " * 190_000,
    ]
    address = (stack.serving.bind, stack.serving.gateway_port)
    slow = [socket.create_connection(address) for _ in range(300)]
    for number, connection in enumerate(slow):
        connection.sendall(begun[number % len(begun)])
    end = time.monotonic() + haproxy.REQUEST_SECONDS - 1
    while time.monotonic() < end:
        assert post(stack.serving, row) == 200
        for connection in slow[1 :: len(begun)]:
            connection.sendall(b" ")
        time.sleep(0.1)
    for connection in slow:
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        connection.close()
    assert post(stack.serving, row) == 200


def test_one_address_cannot_take_all_connections(stack, row):
    address = (stack.serving.bind, stack.serving.gateway_port)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    idle = [socket.create_connection(address) for _ in range(haproxy.CONNECTIONS + 50)]
    try:
        with pytest.raises(EvergreenError, match="does not answer"):
            post(stack.serving, row)
        other = HTTPConnection(*address, timeout=5, source_address=("127.0.0.2", 0))
        other.request("GET", "/version")
        assert other.getresponse().status == 200
    finally:
        for connection in idle:
            connection.close()
    wait_for(lambda: answers(stack.serving))


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (413, {"data": b" " * (MAX_BODY + 1)}),
        (413, {"data": iter([b" " * 100_000] * 30)}),
        (431, {"headers": {"x-large": "a" * haproxy.MAX_HEADER_BYTES}}),
        (431, {"headers": {f"x-{n}": "a" for n in range(haproxy.MAX_HEADERS)}}),
        (431, {"headers": {f"x-{n}": "a" for n in range(3000)}}),
        (404, {"path": "/nothing/here"}),
        (405, {"method": "PUT", "path": "/healthz"}),
    ],
)
def test_every_refusal_has_one_form(stack, status, sent):
    sent = {"method": "POST", "path": "/predict", **sent}
    sent["headers"] = {"content-type": "application/json", **sent.get("headers", {})}
    with client.Door(stack.serving.url).session() as session:
        url = stack.serving.url + sent.pop("path")
        reply = session.request(url=url, timeout=10, **sent)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"error", "path"}


def test_keys_open_what_their_scope_says(stack, row):
    serving = stack.serving
    assert post(serving, row) == 200, "keys are off"
    keys, _, predict = auth.create((), "shop", "predict", NOW)
    keys, _, admin = auth.create(keys, "ops", "admin", NOW)
    keys, _, old = auth.create(keys, "late", "admin", NOW, NOW + timedelta(days=1))
    keep(serving, keys)

    assert post(serving, row, predict) == post(serving, row, admin) == 200
    refused = requests.post(f"{serving.url}/predict", json=row, timeout=5)
    assert refused.status_code == 401 and set(refused.json()) == {"error", "path"}
    assert refused.headers["www-authenticate"].startswith("Bearer")
    for wrong in (old, predict[:-1], f"{predict}x", "x", "", "keys", keys[0].sha256):
        assert post(serving, row, wrong) == 401
    basic = {"authorization": f"Basic {predict}"}
    assert ask(serving, "/version", **basic).status == 401

    assert ask(serving, "/healthz").status == ask(serving, "/readyz").status == 200
    assert ask(serving, "/healthz", **PINNED).status == 401
    assert ask(serving, "/version", predict, **PINNED).status == 403
    assert ask(serving, "/healthz", predict, **PINNED).status == 403
    assert ask(serving, "/version", admin, **PINNED).status == 200
    for path in ("/metrics", "/explain", "/docs.json", "/", "/no", "//predict"):
        assert ask(serving, path).status == 401
        assert ask(serving, path, predict).status == 403
        assert ask(serving, path, admin).status not in (401, 403)
    raw = HTTPConnection(serving.bind, serving.gateway_port, timeout=5)
    raw.request("GET", "/%6detrics", headers={"authorization": f"Bearer {predict}"})
    assert raw.getresponse().status == 403

    assert rollout.status(serving).problem is None, "our own commands are let in"
    rollout.confirm(serving, "1", rollout.status(serving).endpoint["digest"])
    rollout.switch(serving, "blue")


def test_a_key_is_changed_without_a_gap_and_revoked_at_once(stack, row):
    serving = stack.serving
    keys, first, old = auth.create((), "shop", "predict", NOW)
    keep(serving, keys)
    keys, _, new = auth.rotate(keys, "shop", NOW)
    keep(serving, keys)
    assert post(serving, row, old) == post(serving, row, new) == 200
    with pytest.raises(EvergreenError, match=first.id):
        auth.rotate(keys, "shop", NOW)
    keys, back = auth.revoke(keys, first.id, NOW)
    keep(serving, keys)
    assert [key.id for key in back] == [first.id]
    assert (post(serving, row, old), post(serving, row, new)) == (401, 200)

    pid = int(gateway.command(serving, "show info").partition("Pid: ")[2].split()[0])
    own = auth.installation(serving.folder)
    psutil.Process(pid).kill()
    wait_for(lambda: auth.installation(serving.folder) != own and answers(serving))
    wait_for(lambda: post(serving, row, new) == 200)
    assert (post(serving, row, old), post(serving, row, own)) == (401, 401)
    assert rollout.status(serving).problem is None

    keys, _ = auth.revoke(keys, "shop", NOW)
    keep(serving, keys)
    assert (post(serving, row, new), post(serving, row)) == (401, 401), "keys stay on"
    said = gateway.command(serving, "show info")
    gateway.reload(serving)
    wait_for(lambda: gateway.command(serving, "show info").split("Pid: ")[1][:9] not in said)
    assert (post(serving, row, new), post(serving, row)) == (401, 401), "also in the next gateway"


def test_hundreds_of_keys_are_set_at_once(stack, row):
    serving, keys = stack.serving, ()
    for n in range(500):
        keys, _, secret = auth.create(keys, f"shop-{n}", "predict", NOW)
    keep(serving, keys)
    assert post(serving, row, secret) == 200
    auth.save(serving.folder, ())
    gateway.admit(serving)
    assert post(serving, row) == 200


def test_only_hashes_are_kept_and_only_for_the_owner(tmp_path):
    keys, made, secret = auth.create((), "shop", "predict", NOW, NOW + timedelta(days=1))
    auth.save(tmp_path, keys)
    auth.renew_installation(tmp_path)
    assert auth.load(tmp_path) == keys
    assert secret not in (tmp_path / auth.KEYS).read_text()
    assert len(secret) > 43 and auth.create((), "shop", "predict", NOW)[2] != secret
    for name in (auth.KEYS, auth.INSTALLATION):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert made.state(NOW) == "active" and made.state(NOW + timedelta(days=1)) == "expired"
    (tmp_path / auth.KEYS).write_text('[{"name": "shop"}]')
    with pytest.raises(EvergreenError, match="holds no keys"):
        auth.load(tmp_path)


@pytest.mark.parametrize("name", ["", "Shop", "a b", "installation", "0123456789ab", "x" * 64])
def test_a_bad_name_is_refused(name):
    with pytest.raises(EvergreenError, match="no name for a key"):
        auth.create((), name, "predict", NOW)


def test_nobody_outside_is_served_without_a_key(tmp_path):
    serving = Serving(tmp_path, 1, 2, 3, Path("/tmp/x"), bind="0.0.0.0")
    with pytest.raises(EvergreenError, match="no active key"):
        gateway.check_public(serving, NOW)
    keys, *_ = auth.create((), "shop", "predict", NOW, NOW + timedelta(days=1))
    auth.save(tmp_path, keys)
    gateway.check_public(serving, NOW)
    with pytest.raises(EvergreenError, match="no active key"):
        gateway.check_public(serving, NOW + timedelta(days=2))
    gateway.check_public(replace(serving, bind="127.0.0.1"), NOW + timedelta(days=2))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway with TLS and a low limit; nothing serves behind it."""
    today = datetime.now(UTC)
    pem = certificate(tmp_path_factory.mktemp("tls") / "server's $1.pem", today, 30)
    with running(certificate=pem, rate_limit=20) as stack:
        yield stack.serving


def test_tls_takes_exactly_the_certificate_that_is_named(guarded, tmp_path):
    tls.check(guarded.certificate, datetime.now(UTC))
    assert guarded.url.startswith("https://")
    assert guarded.door.get("/version").status == 503
    other = certificate(tmp_path / "other.pem", datetime.now(UTC), 30)
    with pytest.raises(EvergreenError, match=r"does not show the certificate in .*other.pem"):
        replace(guarded, certificate=other).door.get("/version")
    plain = client.Door(guarded.url.replace("https", "http"))
    with pytest.raises(EvergreenError, match="does not answer"):
        plain.get("/version")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    connection = socket.create_connection((guarded.bind, guarded.gateway_port))
    with connection, pytest.raises(ssl.SSLError):
        old.wrap_socket(connection)


def over_the_limit(serving: Serving, key: str | None) -> requests.Response:
    """The first refusal of a client that does not pause."""
    with client.Door(serving.url, key, serving.certificate).session() as session:
        for _ in range(10_000):
            reply = session.get(f"{serving.url}/version", timeout=5)
            if reply.status_code == 429:
                return reply
    raise AssertionError("no limit was met")


def test_each_address_and_each_key_has_a_limit_of_its_own(guarded):
    reply = over_the_limit(guarded, None)
    assert reply.headers["retry-after"] == "1" and set(reply.json()) == {"error", "path"}
    wait_for(lambda: ask(guarded, "/version").status == 503)

    keys, _, busy = auth.create((), "busy", "predict", NOW)
    keys, _, calm = auth.create(keys, "calm", "predict", NOW)
    keep(guarded, keys)
    over_the_limit(guarded, busy)
    assert ask(guarded, "/version", calm).status == 503
    wait_for(lambda: ask(guarded, "/version", busy).status == 503)
    over_the_limit(guarded, "a guess")
    for _ in range(60):
        assert guarded.door.get("/version").status == 503, "our own commands have none"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text("no PEM"), "is not a PEM"),
        (lambda path: path.write_bytes(path.read_bytes().partition(b"-----BEGIN PR")[0]), "not a"),
        (lambda path: certificate(path, NOW - timedelta(days=9), 8), "is not now"),
        (lambda path: certificate(path, NOW + timedelta(days=1), 8), "is not now"),
        (lambda path: certificate(path, NOW, 8, other_key=True), "does not belong"),
    ],
)
def test_a_certificate_that_cannot_serve_is_named(tmp_path, spoil, said):
    path = certificate(tmp_path / "server.pem", NOW, 30)
    tls.check(path, NOW)
    spoil(path)
    with pytest.raises(EvergreenError, match=f"{path}.*{said}"):
        tls.check(path, NOW)
