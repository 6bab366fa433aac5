"""A small part of `make bench-hostile`, and what of it ends up in a log."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bento import auth, gateway
from bento.client import Door
from bento.prediction_log import FILE
from bento.slots import Serving
from tests.bench.serving.bench_hostile import Tally, from_bytes, from_schema, served
from tests.bench.serving.hostile import Case, request, send
from tests.serving_stack import ask

PLANTED = "nobody-else-knows-4711"


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Serving, dict]]:
    with served() as world:
        yield world


def test_hostile_requests_are_refused_in_good_order(world):
    serving, row = world
    tally, trap = Tally(), serving.folder / "trap"
    from_schema(serving, 15, 7, tally)
    from_bytes(serving, row, 25, 7, tally, trap)
    assert tally.faults == []
    assert tally.total > 400 and not trap.exists()
    seen = set().union(*tally.statuses.values())
    assert {"200", "400", "404", "405", "413", "415", "422"} <= seen


def test_neither_keys_nor_values_are_in_any_log(world):
    serving, row = world
    keys, _, secret = auth.create((), "shop", "admin", datetime(2024, 4, 1, tzinfo=UTC))
    auth.save(serving.folder, keys)
    gateway.admit(serving)
    bearer = f"authorization: Bearer {secret}"
    planted = {**row, "key": PLANTED, "shop": PLANTED}
    assert Door(serving.url, secret).call("POST", "/predict", [planted, planted]).status == 200
    assert Door(serving.url, secret).call("POST", "/explain", planted).status == 200
    for body in (
        json.dumps(planted)[:-1],
        json.dumps({**planted, PLANTED: 1}),
        json.dumps({**planted, "price": PLANTED}),
        json.dumps({**planted, "kind": PLANTED}),
        json.dumps({**planted, "price": float("nan")}),
        PLANTED,
    ):
        for extra in (bearer, "authorization: Bearer x"):
            for kind in ("application/json", PLANTED, "application/vnd.bentoml+pickle"):
                raw = request(body.encode(), kind, extra=extra)
                assert send(serving, Case("", raw)).status >= 400
    raw = request(b"{}", path=f"/{PLANTED}?{PLANTED}", extra=f"{bearer}\r\n{PLANTED}: {PLANTED}")
    assert send(serving, Case("", raw)).status == 404
    send(serving, Case("", f"GET {PLANTED} {secret}\r\n\r\n".encode()))
    assert ask(serving, "/version", PLANTED).status == 401

    own = auth.installation(serving.folder)
    files = [path for path in serving.folder.rglob("*") if path.is_file()]
    found = {
        word: {p.name for p in files if word.encode() in p.read_bytes()}
        for word in (PLANTED, secret, own)
    }
    assert found == {PLANTED: {FILE}, secret: set(), own: {"installation.key"}}
    assert any(path.suffix == ".log" and path.stat().st_size for path in files)
