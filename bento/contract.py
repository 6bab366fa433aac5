"""What a request has to look like, built from the fields that the artefact declares.

Refusals name the place (`$[3].temp`) and what was expected there, never the value: values are
personal data, and an error ends up in logs.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np

from data import features
from data.errors import EvergreenError
from data.features import Feature
from data.fields import Field
from data.task import BINARY, Kind, Task

CONTRACT, REFERENCE, SCORE = "contract.json", "reference.json", "score"
KEY = "key"
KEY_LENGTH = 200
MAX_ROWS = 1000
MAX_BODY = 2 * 1024 * 1024
TOO_LARGE = f"the body is larger than {MAX_BODY} bytes: send fewer rows"
# Beyond this a float64 no longer holds every integer, and the features are computed in float64.
EXACT_INTEGER = 2**53
CUTS = tuple(i / 10 for i in range(1, 10))
EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)
NOT_A_TIME = np.iinfo(np.int64).min


class RequestError(Exception):
    """A request that is refused: HTTP status, one sentence, and the JSON path of the fault."""

    def __init__(self, status: int, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.path = path


@dataclass(frozen=True)
class Contract:
    """What the artefact says about its requests, its features and its decision.

    Attributes:
        threshold: of two outcomes: a probability from here on is a positive decision.
        base_rate: what is answered when the model cannot: rate, mean, or the rates of the classes.
        cuts: where the distribution of scores is looked at: of a regression the bins of its
            reference profile, of probabilities 0.1, 0.2 … 0.9.
    """

    problem: str
    target: str
    threshold: float | None
    base_rate: float | list[float]
    event_time: str
    fields: tuple[Field, ...]
    features: tuple[Feature, ...]
    task: Task = BINARY
    cuts: tuple[float, ...] = CUTS

    @classmethod
    def load(cls, folder: Path) -> "Contract":
        """The contract of a verified artefact.

        Raises:
            EvergreenError: if the file is not a contract, or a field is called like the request's
                own `key`.
        """
        try:
            value = json.loads((folder / CONTRACT).read_bytes())
            value["fields"] = tuple(map(Field.from_json, value["fields"]))
            value["features"] = features.from_json(value["features"])
            value["task"] = Task.of_contract(value)
            if value["task"].kind == "regression":
                value["cuts"] = _bins(folder) or (float(value["base_rate"]),)
            contract = cls(**value)
            _check_decision(contract)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvergreenError(
                f"{folder / CONTRACT} is not a contract ({error}): build the artefact again"
            ) from error
        if any(field.name == KEY for field in contract.fields):
            raise EvergreenError(
                f"a field of {contract.problem} is called {KEY!r}, which names the caller's id of "
                "an event in every request: rename the field"
            )
        event_times = [field for field in contract.fields if field.name == contract.event_time]
        if [(field.kind, field.nullable) for field in event_times] != [("timestamp", False)]:
            raise EvergreenError(
                f"the event time {contract.event_time!r} of {contract.problem} is no timestamp "
                "field that is always there: declare it as one"
            )
        return contract


def _check_decision(contract: Contract) -> None:
    """Raises TypeError or ValueError if threshold or base rate are not those of the task."""
    if contract.task.kind not in get_args(Kind):
        raise ValueError(f"there is no {contract.task.kind} task")
    if (contract.task.kind == "binary") != isinstance(contract.threshold, float | int):
        raise ValueError(f"threshold {contract.threshold} of a {contract.task.kind} task")
    rates = np.asarray(contract.base_rate, dtype=np.float64)
    if rates.shape != ((contract.task.width,) if contract.task.classes else ()):
        raise ValueError(f"{rates.size} base rates of a {contract.task.kind} task")


def _bins(folder: Path) -> tuple[float, ...]:
    """Inner edges of the reference profile's bins of the score."""
    profile = json.loads((folder / REFERENCE).read_bytes())
    return next(tuple(h["edges"]) for h in profile["histograms"] if h["name"] == SCORE)


class Decoder:
    """Bytes of a request to typed rows."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.row_type = _row_type(fields)
        self._fields = fields
        self._values = attrgetter(KEY, *(field.name for field in fields))
        self._one = msgspec.json.Decoder(self.row_type)
        self._many = msgspec.json.Decoder(list[self.row_type])  # type: ignore[name-defined]

    def decode(self, body: bytes) -> tuple[list[msgspec.Struct], bool]:
        """The rows, and whether they came as a list.

        Raises:
            RequestError: 400 if the body is not JSON, 413 if it has too many rows, 422 if a row
                breaks the contract.
        """
        many = body.lstrip(b" \t\r\n")[:1] == b"["
        try:
            rows = self._many.decode(body) if many else [self._one.decode(body)]
        except msgspec.ValidationError as error:
            raise _refusal(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RequestError(400, "the body is not JSON") from None
        if not rows:
            raise RequestError(422, f"expected 1 to {MAX_ROWS} rows, got none")
        if len(rows) > MAX_ROWS:
            raise RequestError(413, f"at most {MAX_ROWS} rows are taken in one request: split it")
        return rows, many

    def columns(self, rows: Sequence[msgspec.Struct]) -> dict[str, np.ndarray]:
        """Raw columns of many rows, each of shape (n,), as features are computed from."""
        _, *values = zip(*map(self._values, rows), strict=True)
        pairs = zip(self._fields, values, strict=True)
        return {field.name: column(list(found), field) for field, found in pairs}

    def schema(self) -> dict[str, Any]:
        """The JSON schema of one row, for the OpenAPI document."""
        (schema,), definitions = msgspec.json.schema_components([self.row_type])
        return dict(definitions[schema["$ref"].rpartition("/")[2]])


def column(values: list[Any], field: Field) -> np.ndarray:
    """The decoded values of a field, with None where one is missing, as a raw column."""
    if field.kind == "text":
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    if field.kind == "timestamp":  # numpy's own conversion takes five times as long
        ticks = [NOT_A_TIME if v is None else (v - EPOCH) // MICROSECOND for v in values]
        return np.array(ticks, dtype=np.int64).view("datetime64[us]")
    return np.array(values, dtype=np.float64)


def _refusal(text: str) -> RequestError:
    """msgspec's `Expected `float`, got `str` - at `$[0].temp`` without any value in it."""
    message, _, path = text.rpartition(" - at `")
    if not message:
        message, path = text, "$`"
    if message.startswith("Invalid enum value"):
        message = "the value is not among those that the contract lists"
    return RequestError(422, message[:200], path[:-1])


def _row_type(fields: Sequence[Field]) -> type[msgspec.Struct]:
    key = (KEY, Annotated[str, msgspec.Meta(max_length=KEY_LENGTH)] | None, None)
    columns: list[Any] = [
        (field.name, _type_of(field) | None, None)
        if field.nullable
        else (field.name, _type_of(field))
        for field in fields
    ]
    return msgspec.defstruct("Row", [key, *columns], kw_only=True, forbid_unknown_fields=True)


def _type_of(field: Field) -> Any:
    note = {"description": field.doc}
    if field.kind == "text":
        base: Any = str if field.values is None else Literal[field.values]
        return Annotated[base, msgspec.Meta(extra_json_schema=note)]
    if field.kind == "timestamp":
        note["description"] += "; ISO 8601 without zone, such as 2024-05-17T09:30:00"
        return Annotated[datetime, msgspec.Meta(tz=False, extra_json_schema=note)]
    if field.kind == "number":
        meta = msgspec.Meta(ge=field.minimum, le=field.maximum, extra_json_schema=note)
        return Annotated[float, meta]
    lowest = -EXACT_INTEGER if field.minimum is None else math.ceil(field.minimum)
    highest = EXACT_INTEGER if field.maximum is None else math.floor(field.maximum)
    return Annotated[int, msgspec.Meta(ge=lowest, le=highest, extra_json_schema=note)]
