"""Monitor `contract`: is a period's data still what it should be, or is something broken?

The door (`data.admission`) refuses broken batches; this looks at what came in, by what the model's
own past showed. Limits leave room for as much again as the past itself has moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from data.features import Columns
from data.field_history import FieldHistory, measure
from data.monitor_params import Monitor
from data.verdicts import Finding, Verdict

CONTRACT = "contract"
SHARE_ROOM = 0.05  # of the rows: so much more of anything is never broken
TOP_ROOM = 0.25  # of one value: a sensor that is stuck has it in far more
WORD_ROOM = 0.02
RANGE_ROOM = 0.5  # of a range's width
RANGE_GROWTH = 3.0  # times the largest growth in the past
VARIES, CONSTANT = 0.9, 0.999  # what is never one value in so many rows is broken if it is in all
SHOWN = 12


@dataclass(frozen=True)
class Held:
    """One measure of one field, held against its limit."""

    field: str
    measure: str
    value: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.value / self.limit

    def say(self) -> str:
        what = {
            "nulls": "is missing in {:.0%} of rows (at most {:.0%})",
            "top": "has one value in {:.0%} of rows (at most {:.0%})",
            "words": "has new words in {:.0%} of rows (at most {:.0%})",
            "range": "lies outside its range by {:.1f} times the width (at most {:.1f})",
            "excluded": "is not known in {:.0%} of events (at most {:.0%})",
        }[self.measure]
        return f"{self.field} {what.format(self.value, self.limit)}"


def contract(
    history: Sequence[FieldHistory],
    columns: Columns,
    rows: int,
    excluded: float | None,
    params: Monitor,
) -> Finding:
    """Whether nulls, constants, new words, ranges and missing outcomes are as before.

    Args:
        history: of the fields in the reference; empty for a model that has none.
        columns: raw columns of the period, each of shape (rows,).
        excluded: share of its labelled events that never get an outcome; None if none is known.
    """
    if rows < params.minimum_rows or not history:
        what = f"{rows} rows are too few" if history else "the model keeps no history of its fields"
        reason = f"{what}: {params.minimum_rows} rows and a history are needed"
        return Finding(CONTRACT, Verdict.UNKNOWN, None, None, rows, reason)
    held = [each for field in history for each in _held(field, columns)]
    if excluded is not None:
        held.append(Held("the outcome", "excluded", excluded, params.excluded_share_limit or 1e-9))
    held.sort(key=lambda each: -each.ratio)
    worst, broken = held[0], [each for each in held if each.ratio > 1]
    if broken:
        verdict, reason = Verdict.ALARM, "; ".join(each.say() for each in broken[:4])
    elif excluded is None:
        verdict, reason = Verdict.UNKNOWN, "the fields are as before, but no outcome is known"
    else:
        verdict, reason = (
            Verdict.OK,
            f"every field is as before; nearest to its limit: {worst.say()}",
        )
    evidence = {
        "broken": [each.say() for each in broken],
        "measures": [asdict(each) for each in held[:SHOWN]],
        "excluded": excluded,
    }
    return Finding(CONTRACT, verdict, worst.value, worst.limit, rows, reason, evidence)


def _held(past: FieldHistory, columns: Columns) -> Iterator[Held]:
    now = measure(columns[past.name], past.known)
    yield Held(past.name, "nulls", now.nulls, _share_limit(past.nulls))
    limit = _share_limit(past.top, TOP_ROOM)
    yield Held(past.name, "top", now.top, min(limit, CONSTANT) if max(past.top) < VARIES else limit)
    growth = max(past.growth[len(past.growth) // 4 :])  # before that everything is new
    if past.known.words is not None:
        yield Held(past.name, "words", now.growth, growth + WORD_ROOM)
    elif past.known.low is not None:
        yield Held(past.name, "range", now.growth, growth * RANGE_GROWTH + RANGE_ROOM)


def _share_limit(shares: Sequence[float], room: float = SHARE_ROOM) -> float:
    return min(max(shares) + max(room, max(shares) - min(shares)), 1.0)
