"""Answer JSON lines with an exported model: `python run.py [FILE]`, or `--check`.

Needs this file, model.onnx and edge.json beside it, numpy and onnxruntime. Each line is one row, as
the body of a request; each line of the output answers one, in order. A row that breaks the contract
is answered by `error` and the `path` of its fault, never by a value.

Exit codes: 0 all is answered, 1 an error, 3 some rows were refused.
"""

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bento.answers import gap, heard, output, parts, said, scores, valid
from data.errors import EvergreenError, stop_on_error
from data.features import from_json, row_function
from data.fields import Field
from data.task import Task

MODEL, ABOUT = "model.onnx", "edge.json"
KEY, KEY_LENGTH = "key", 200
LARGEST = 2**53  # beyond it a float64 does not hold every integer
BATCH = 256  # rows of a file at a time; what comes by a pipe is answered line by line
REFUSED = 3
MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?", re.ASCII
)  # RFC 3339 without zone


class RowError(Exception):
    """What was expected, and the JSON path of the fault."""

    def __init__(self, expected: str, path: str = "$") -> None:
        super().__init__(expected)
        self.path = path


class Model:
    """An exported model; its files are held against their sha256 before they are used."""

    def __init__(self, folder: Path) -> None:
        try:
            self.about = json.loads((folder / ABOUT).read_bytes())
            check_files(folder, self.about)
            contract = self.about["contract"]
            self._fields = {f["name"]: Field.from_json(f) for f in contract["fields"]}
            self._features = row_function(from_json(contract["features"]))
            self.task, self.target = Task.of_contract(contract), contract["target"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvergreenError(
                f"{folder / ABOUT} is no export ({error}): copy it anew"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL), options, providers=["CPUExecutionProvider"]
        )
        self._parts, self._threshold = parts(self.task, self.target), contract["threshold"]

    def row(self, line: str) -> dict[str, Any]:
        """One row in its types; missing is None.

        Raises:
            RowError: if it breaks the contract.
        """
        try:
            found = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise RowError("the line is not JSON") from None
        if not isinstance(found, dict):
            raise RowError("expected one row as an object")
        row: dict[str, Any] = {KEY: None}
        for name, value in found.items():
            if name == KEY:
                row[KEY] = None if value is None else _text(value, "$.key", KEY_LENGTH)
            elif name in self._fields:
                row[name] = _typed(value, self._fields[name])
            else:
                raise RowError("there is a field that the contract does not have")
        for name, field in self._fields.items():
            if name not in row and not field.nullable:
                raise RowError(f"the field {name!r} is missing")
            row.setdefault(name, None)
        return row

    def scores(self, rows: list[dict[str, Any]]) -> list[Any]:
        """As the endpoint has them."""
        matrix = np.array([self._features(row) for row in rows], dtype=np.float32)
        name = self._session.get_inputs()[0].name
        (found,) = self._session.run([output(self.task)], {name: matrix})
        try:
            values: list[Any] = valid(self.task, scores(self.task, found)).tolist()
        except ValueError as error:
            raise EvergreenError(f"the model gives an answer that is {error}") from error
        return values

    def answers(self, lines: list[str]) -> list[dict[str, Any]]:
        """One answer for each line, in order."""
        read: list[dict[str, Any] | RowError] = []
        for line in lines:
            try:
                read.append(self.row(line))
            except RowError as refused:
                read.append(refused)
        rows = [row for row in read if not isinstance(row, RowError)]
        found = iter(self.scores(rows) if rows else [])
        return [
            {"error": str(row), "path": row.path}
            if isinstance(row, RowError)
            else self._answered(row, next(found))
            for row in read
        ]

    def _answered(self, row: dict[str, Any], score: Any) -> dict[str, Any]:
        columns = said(self.task, self._threshold, [score])
        return {
            **({} if row[KEY] is None else {KEY: row[KEY]}),
            "model_version": self.about["model_version"],
            "digest": self.about["digest"],
            **{name: value for name, (value,) in zip(self._parts, columns, strict=True)},
        }


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _typed(value: Any, field: Field) -> Any:
    path = f"$.{field.name}"
    if value is None:
        if not field.nullable:
            raise RowError("expected a value, got null", path)
        return None
    if field.kind == "text":
        return _text(value, path, values=field.values)
    if field.kind == "timestamp":
        return _moment(value, path)
    return _number(value, field, path)


def _text(
    value: Any, path: str, longest: int | None = None, values: tuple[str, ...] | None = None
) -> str:
    if not isinstance(value, str):
        raise RowError("expected text", path)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError("expected text of whole characters", path) from None
    if longest is not None and len(value) > longest:
        raise RowError(f"expected at most {longest} characters", path)
    if values is not None and value not in values:
        raise RowError("the value is not among those that the contract lists", path)
    return value


def _number(value: Any, field: Field, path: str) -> float | int:
    whole = field.kind == "integer"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise RowError("expected an integer" if whole else "expected a number", path)
    lowest = -LARGEST if whole and field.minimum is None else field.minimum
    highest = LARGEST if whole and field.maximum is None else field.maximum
    try:
        number = value if whole else float(value)
        if number in (math.inf, -math.inf):
            raise OverflowError
    except OverflowError:
        raise RowError("expected a finite number", path) from None
    if lowest is not None and number < lowest:
        raise RowError(f"expected at least {lowest:g}", path)
    if highest is not None and number > highest:
        raise RowError(f"expected at most {highest:g}", path)
    return number


def _moment(value: Any, path: str) -> datetime:
    """A timestamp; what is below a microsecond is rounded."""
    parts = MOMENT.fullmatch(value) if isinstance(value, str) else None
    try:
        if parts is None:
            raise ValueError
        day, time, below = parts.groups()
        micros = math.floor(int(below) * 10**6 / 10 ** len(below) + 0.5) if below else 0
        return datetime.fromisoformat(f"{day}T{time}") + timedelta(microseconds=micros)
    except (ValueError, OverflowError):
        raise RowError("expected a timestamp without zone: 2024-05-17T09:30:00", path) from None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seal(about: dict[str, Any]) -> str:
    """sha256 of what is said in edge.json, but for the seal itself."""
    content = {name: value for name, value in about.items() if name != "seal"}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def check_files(folder: Path, about: dict[str, Any]) -> None:
    """Raises EvergreenError naming the file that is missing or not as it was exported."""
    if about["seal"] != seal(about):
        raise EvergreenError(f"{folder / ABOUT} is not as it was exported: copy it anew")
    for name, expected in about["files"].items():
        try:
            found = sha256((folder / name).read_bytes())
        except OSError as error:
            raise EvergreenError(f"{folder / name} cannot be read ({error.strerror})") from error
        if found != expected:
            raise EvergreenError(f"{folder / name} is not as it was exported: copy it anew")


def check_golden(model: Model) -> str:
    """What the check found; raises EvergreenError naming the first golden row that differs."""
    golden, task = model.about["golden"], model.task
    answers = model.answers([json.dumps(row) for row in golden["rows"]])
    largest = 0.0
    for number, (answer, expected) in enumerate(zip(answers, golden["probabilities"], strict=True)):
        told = heard(task, model.target, answer)
        apart = gap(task, told[0], expected) if told else math.inf
        if not apart <= golden["tolerance"]:
            raise EvergreenError(
                f"golden row {number} gets {answer}, not the {task.answer} {expected}: this "
                "machine's onnxruntime computes otherwise"
            )
        largest = max(largest, apart)
    about = model.about
    return (
        f"version {about['model_version']} ({about['digest'][:16]}): {len(about['files']) + 1} "
        f"files as exported, {len(answers)} golden rows right, largest difference {largest:.1e}"
    )


def batches(lines: Iterable[str], size: int) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines, from 1; empty ones are left out."""
    numbered = ((n, line) for n, line in enumerate(lines, start=1) if line.strip())
    while batch := list(islice(numbered, size)):
        yield batch


def run(model: Model, lines: Iterable[str], size: int) -> int:
    """Print the answers to all lines; how many were refused."""
    refused = 0
    for batch in batches(lines, size):
        for (number, _), answer in zip(
            batch, model.answers([line for _, line in batch]), strict=True
        ):
            if "error" in answer:
                refused += 1
                answer = {"line": number, **answer}
            print(json.dumps(answer))
        sys.stdout.flush()
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer JSON lines with an exported model.")
    parser.add_argument("file", nargs="?", type=Path, help="one row a line; default: stdin")
    parser.add_argument("--check", action="store_true", help="check the files and golden rows")
    arguments = parser.parse_args()
    model = Model(Path(__file__).resolve().parent)
    if arguments.check:
        print(check_golden(model))
        return
    if arguments.file:
        with arguments.file.open(encoding="utf-8") as lines:
            refused = run(model, lines, BATCH)
    else:
        refused = run(model, sys.stdin, 1)
    if refused:
        sys.exit(REFUSED)


if __name__ == "__main__":
    stop_on_error(main)
