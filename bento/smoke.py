"""Golden rows through the gateway: does a slot answer as the model did in training?"""

from collections.abc import Sequence
from typing import Any

from bento import answers
from bento.contract import Contract
from bento.slots import Serving, Slot
from bento.target import Release
from data.errors import EvergreenError

ROWS_PER_REQUEST = 100
Row = dict[str, Any]


def smoke_test(
    serving: Serving,
    slot: Slot,
    release: Release,
    contract: Contract,
    rows: Sequence[Row],
    expected: Sequence[Any],
    tolerance: float,
) -> None:
    """Ask the golden rows through the gateway; every answer has to be the right model's.

    Args:
        expected: their scores in training; of a large number the tolerance is relative.

    Raises:
        EvergreenError: naming the first row that is not.
    """
    for first in range(0, len(rows), ROWS_PER_REQUEST):
        part = list(rows[first : first + ROWS_PER_REQUEST])
        reply = serving.pinned(slot).call("POST", "/predict", part, {"x-slot": slot})
        if reply.status != 200 or not isinstance(reply.value, list):
            raise EvergreenError(f"golden rows are answered with {reply.status}: {reply.value}")
        for number, answer in enumerate(reply.value, start=first):
            _judge(number, answer, release, contract, expected[number], tolerance)


def _judge(
    number: int,
    answer: dict[str, Any],
    release: Release,
    contract: Contract,
    expected: Any,
    tolerance: float,
) -> None:
    if (answer["digest"], answer["model_version"]) != (release.digest, release.version):
        raise EvergreenError(
            f"golden row {number} is answered by {answer['model_version']} "
            f"({answer['digest'][:16]}), not by {release.version} ({release.digest[:16]})"
        )
    if answer["degraded"]:
        raise EvergreenError(f"golden row {number} is answered with the base rate: the model fails")
    heard, name = (
        answers.heard(contract.task, contract.target, answer),
        contract.task.answer,
    )
    if heard is None:
        raise EvergreenError(f"golden row {number} is answered without a {name}")
    if not answers.gap(contract.task, heard[0], expected) <= tolerance:
        raise EvergreenError(
            f"golden row {number} has the {name} {answers.written(heard[0])}; training gave "
            f"{answers.written(expected)}, and the difference is over {tolerance:g}"
        )
