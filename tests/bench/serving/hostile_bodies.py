"""Bodies that a client should not send, each family from a seeded generator."""

import json
import random
from collections.abc import Callable
from typing import Any

DEEPEST = 100_000
LARGE = 3 * 1024 * 1024

Row = dict[str, Any]
Build = Callable[[random.Random, Row], bytes]


def _with(row: Row, field: str, text: str) -> bytes:
    """A row in which one field is some text that need not be JSON."""
    parts = [f"{json.dumps(k)}: {text if k == field else json.dumps(v)}" for k, v in row.items()]
    return f"{{{', '.join(parts)}}}".encode("utf-8", "surrogatepass")


def _any_value(random: random.Random, depth: int = 3) -> Any:
    kinds = [None, True, -1, 0, 2**53 + 1, 10**30, 1.5, -0.0, 1e308, "", "x", "\x00", "2024-01-01"]
    if depth and random.random() < 0.4:
        values = [_any_value(random, depth - 1) for _ in range(random.randint(0, 3))]
        return values if random.random() < 0.5 else {str(v)[:5]: v for v in values}
    return random.choice(kinds)


def _nonfinite(random: random.Random, row: Row) -> bytes:
    words = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e309", "nan", "inf", "+inf"]
    body = _with(row, random.choice(list(row)), random.choice(words))
    return b"[" + body + b"]" if random.random() < 0.3 else body


def _numbers(random: random.Random, row: Row) -> bytes:
    digits = "".join(random.choices("0123456789", k=random.choice([1, 20, 400, 5000])))
    forms = ["-", "0", "1.", ".", "+", "0x", "-0.", "1e-", "1E+", "1_0", "--"]
    return _with(row, random.choice(list(row)), random.choice(forms) + digits)


def _depth(random: random.Random, row: Row) -> bytes:
    n = random.choice([10, 500, 1000, 5000, DEEPEST])
    opened, closed = random.choice([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    text = opened * n + ("1" + closed * n if random.random() < 0.7 else "")
    return text.encode() if random.random() < 0.5 else _with(row, random.choice(list(row)), text)


def _huge(random: random.Random, row: Row) -> bytes:
    kind, n = random.randrange(5), random.choice([300, 10_000, 1_500_000])
    if kind == 0:
        return json.dumps({**row, "shop": "x" * n}).encode()
    if kind == 1:
        return json.dumps({**row, "key": "x" * n}).encode()
    if kind == 2:
        return json.dumps([row] * random.choice([1000, 1001, 5000])).encode()
    if kind == 3:
        return json.dumps({**row, **{f"f{i}": i for i in range(n // 100)}}).encode()
    return b" " * LARGE


def _types(random: random.Random, row: Row) -> bytes:
    kind, field = random.randrange(4), random.choice(list(row))
    if kind == 0:
        return json.dumps(_any_value(random)).encode()
    if kind == 1:
        return json.dumps({k: v for k, v in row.items() if k != field}).encode()
    if kind == 2:
        return json.dumps({**row, str(_any_value(random, 0)): 1}).encode()
    return json.dumps([row, {**row, field: _any_value(random)}][random.randrange(2) :]).encode()


def _times(random: random.Random, row: Row) -> bytes:
    times = [
        "0000-01-01T00:00:00", "9999-12-31T23:59:59.999999", "2024-02-30T00:00:00", "now", "",
        "2024-04-01T09:00:00Z", "2024-04-01T09:00:00+99:99", "2024-04-01T24:00:00", "1711962000",
        "2024-04-01T09:00:60", "2024-04-01 09:00:00", "2024-04-01T09:00:00.1234567890123",
        "-2024-04-01T00:00:00", "２０２４-04-01T00:00:00", "0001-01-01T00:00:00",
    ]  # fmt: skip
    text = random.choice(times)
    return json.dumps({**row, "ordered_at": text[: random.randint(1, 40)]}).encode()


def _duplicates(random: random.Random, row: Row) -> bytes:
    again = "".join(
        f", {json.dumps(k)}: {json.dumps(_any_value(random, 0))}"
        for k in row
        if random.random() < 0.5
    )
    return json.dumps(row)[:-1].encode() + again.encode() + b"}"


def _encodings(random: random.Random, row: Row) -> bytes:
    text = json.dumps({**row, "shop": "nörd\u2028😀"}, ensure_ascii=False)
    wild = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x00",
        b"\x1b",
        b"\x80",
    ]
    kind = random.randrange(4)
    if kind == 0:
        at = random.randrange(len(text))
        return text[:at].encode() + random.choice(wild) + text[at:].encode()
    if kind == 1:
        return text.encode(random.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"]))
    if kind == 2:
        marks = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00"]
        return random.choice(marks) + text.encode()
    escapes = [
        r'"\ud800"',
        r'"\udc00\ud800"',
        r'"\u0000"',
        r'"\uZZZZ"',
        r'"\x41"',
        '"\n"',
        '"\ud800"',
    ]
    return _with(row, random.choice(list(row)), random.choice(escapes))


def _truncated(random: random.Random, row: Row) -> bytes:
    text = json.dumps([row] * 3 if random.random() < 0.5 else row).encode()
    return text[: random.randrange(len(text))]


def _mutated(random: random.Random, row: Row) -> bytes:
    data = bytearray(json.dumps([row, row] if random.random() < 0.3 else row).encode())
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(data))
        kind = random.randrange(3)
        if kind == 0:
            data[at] = random.randrange(256)
        elif kind == 1:
            data.insert(at, random.randrange(256))
        else:
            del data[at]
    return bytes(data)


def _noise(random: random.Random, row: Row) -> bytes:
    return random.randbytes(random.choice([0, 1, 10, 1000, 60_000]))


BODIES: dict[str, Build] = {
    "NaN, Infinity, 1e400": _nonfinite,
    "numbers that are none": _numbers,
    "depth to 100,000": _depth,
    "huge": _huge,
    "wrong type, missing, extra": _types,
    "times": _times,
    "duplicate keys": _duplicates,
    "bad UTF-8, BOM, surrogates": _encodings,
    "truncated": _truncated,
    "mutated bytes": _mutated,
    "noise": _noise,
}
