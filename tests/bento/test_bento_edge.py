"""What is exported answers as the endpoint does, where there is nothing of Evergreen."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bento import edge
from bento.contract import Decoder, RequestError
from bento.edge_run import Model, RowError, check_golden
from bento.explain import decode
from bento.predictor import Predictor
from data.errors import EvergreenError
from tests.bento.conftest import make_columns, make_rows

# No site: an editable install cannot bring this project back in. What was loaded is told at last.
ALONE = """
import atexit, json, runpy, sys
sys.path.append(sys.argv.pop(1))
def told():
    found = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(json.dumps(sorted(found - {"__main__", "__mp_main__"})), file=sys.stderr)
atexit.register(told)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SITE = str(Path(np.__file__).parents[1])


@pytest.fixture(scope="module")
def folder(artefact, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("edge") / "out"
    assert edge.export(artefact, "7", 1e-6, place)
    return place


def run(folder: Path, *arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", ALONE, SITE, str(folder / "run.py"), *arguments]
    return subprocess.run(command, input=lines, capture_output=True, text=True, cwd=folder)


def rows_of_all_kinds() -> list[dict]:
    rows = make_rows(make_columns(400, seed=5))
    for i, row in enumerate(rows):
        row["key"] = f"order {i}"
        if i % 5 == 0:
            row["shop"] = "never seen"
        if i % 7 == 0:
            del row["weight"]
    return rows


BAD = {
    "$.price": {"price": "19.9 euro"},
    "$.kind": {"kind": "a boat"},
    "$.pieces": {"pieces": 2.5},
    "$.ordered_at": {"ordered_at": "2024-04-01T09:00:00Z"},
    "$.shop": {"shop": None},
    "$": {"colour": "red wine"},
}


def test_hundreds_of_rows_are_answered_as_by_the_predictor_without_evergreen(
    artefact, folder, tmp_path
):
    predictor, rows = Predictor.load(artefact), rows_of_all_kinds()
    decoder = Decoder(predictor.contract.fields)
    expected = predictor.scores([decode(decoder, row) for row in rows])
    lines = [json.dumps(row) for row in rows]
    for change in BAD.values():
        lines.append(json.dumps({**rows[0], **change}))
    lines.append("{not JSON")
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "", ""]))
    from_file, from_stdin = (
        run(folder, str(tmp_path / "rows.jsonl")),
        run(folder, lines="\n".join(lines)),
    )
    assert from_file.stdout == from_stdin.stdout
    assert from_file.returncode == from_stdin.returncode == 3
    assert set(json.loads(from_file.stderr)) == {"numpy", "onnxruntime"}
    found = [json.loads(line) for line in from_file.stdout.splitlines()]
    good, bad = found[: len(rows)], found[len(rows) :]
    assert good == [
        {
            "key": row["key"],
            "model_version": "7",
            "digest": predictor.digest,
            "probability": probability,
            "returned": probability >= predictor.contract.threshold,
        }
        for row, probability in zip(rows, expected, strict=True)
    ]
    assert [answer["path"] for answer in bad] == [*BAD, "$"]
    assert [answer["line"] for answer in bad] == list(range(len(rows) + 1, len(lines) + 1))
    for value in ("euro", "boat", "2.5", "09:00:00Z", "red", 'not JSON"'):
        assert not any(value in answer["error"] for answer in bad)


MOMENTS = (
    "2024-04-01T09:00:00", "2024-04-01 09:00:00", "2024-04-01t09:00:00.5", "2024-04-01T09:00",
    "2024-04-01T08:59:59.9999995", "2024-04-01T08:59:59.9999994", "2024-04-01T08:59:59.",
    "2024-04-01", "2024-4-1T09:00:00", "2024-02-30T09:00:00", "0000-01-01T00:00:00",
    "2024-04-01T24:00:00", "2024-04-01T09:00:60", "2024-04-01T09:00:00+02:00",
    " 2024-04-01T09:00:00",
    "9999-12-31T23:59:59.9999999", "2024-04-01T09:00:00,5", "２024-04-01T09:00:00", 1711962000,
)  # fmt: skip
VALUES = (
    "null", "true", "1", "0", "-0.0", "1.0", "2.5", "-1", "500", "500.0000001", "9", "10", "1e2",
    "1e-400", "1e400", "NaN", "Infinity", "9007199254740993", "1" + "0" * 400, '""', '"toy"',
    '"Toy"',
    '"\\ud800"', '"\\u0000"', '"' + "k" * 200 + '"', '"' + "é" * 201 + '"', "[]", "{}", "[1]", "01",
    *(json.dumps(moment) for moment in MOMENTS),
)  # fmt: skip


def decoded(decoder: Decoder, line: str) -> dict | RequestError:
    """What the endpoint makes of a line."""
    try:
        (struct,), _ = decoder.decode(line.encode())
    except RequestError as error:
        return error
    return msgspec.structs.asdict(struct)


@pytest.mark.parametrize(
    "name", ["ordered_at", "shop", "kind", "price", "weight", "pieces", "key", "other"]
)
def test_what_a_request_may_hold_a_line_may_hold_and_nothing_else(artefact, folder, row, name):
    """Every kind of value in every field: taken by both and answered alike, or refused by both."""
    predictor, model = Predictor.load(artefact), Model(folder)
    decoder = Decoder(predictor.contract.fields)
    taken = 0
    for value in VALUES:
        line = json.dumps({**row, name: "HERE"}).replace('"HERE"', value)
        expected = decoded(decoder, line)
        if isinstance(expected, RequestError):
            with pytest.raises(RowError) as refused:
                model.row(line)
            assert expected.status == 400 or refused.value.path == expected.path, value
            continue
        found = model.row(line)
        taken += 1
        assert found == expected, value
        (answer,) = model.answers([line])
        assert answer["probability"] == predictor.scores([found])[0]
    assert (taken > 0) == (name != "other")


def test_a_missing_field_and_another_kind_of_json_are_refused(folder, row):
    model = Model(folder)
    for line in ("[]", "3", json.dumps([row]), json.dumps({**row, "shop": 1}), "{}", "[" * 10**5):
        (answer,) = model.answers([line])
        assert set(answer) == {"error", "path"}
    del row["price"]
    assert model.answers([json.dumps(row)]) == [
        {"error": "the field 'price' is missing", "path": "$"}
    ]


def test_the_check_says_what_is_whole_and_names_what_is_not(artefact, folder, tmp_path):
    done = run(folder, "--check")
    assert done.returncode == 0
    assert "3 files as exported, 20 golden rows right, largest difference 0.0e+00" in done.stdout
    for name in ("model.onnx", "run.py", "edge.json"):
        place = tmp_path / name.replace(".", "-")
        edge.export(artefact, "7", 1e-6, place)
        content = (place / name).read_bytes()
        (place / name).write_bytes(
            content.replace(b"0.4", b"0.5", 1) if name == "edge.json" else content + b"\n"
        )
        done = run(place, "--check")
        assert done.returncode == 1
        assert f"error: {place / name} is not as it was exported" in done.stderr
        (place / name).unlink()
        if name != "run.py":
            assert run(place, lines="{}").returncode == 1


def test_golden_rows_that_come_out_otherwise_are_named(folder):
    model = Model(folder)
    model.about["golden"]["probabilities"][3] += 1e-5
    with pytest.raises(EvergreenError, match="golden row 3 gets"):
        check_golden(model)


def test_an_export_is_the_same_every_time_and_replaces_nothing(
    artefact, second_artefact, folder, tmp_path
):
    again = tmp_path / "again"
    again.mkdir()
    assert edge.export(artefact, "7", 1e-6, again)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
    assert not edge.export(artefact, "7", 1e-6, again)
    with pytest.raises(EvergreenError, match="holds something else"):
        edge.export(second_artefact, "8", 1e-6, again)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]
