"""Monitor `contract`: is a period's data still what it should be, or is something broken?

The door (`data.admission`) refuses broken batches; this looks at what came in, by what the model's
own past showed: each field by itself, fields together, and outcomes that are numbers. Limits leave
room for as much again as the past itself has moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data.features import Columns
from data.field_history import WITH, FieldHistory, Measures, column, measure
from data.monitor_params import Monitor
from data.reference import Reference
from data.relations import Relations, disordered, losses, repeated
from data.verdicts import Finding, Verdict

CONTRACT = "contract"
SHARE_ROOM = 0.05  # of the rows: so much more of anything is never broken
TOP_ROOM = 0.25  # of one value: a sensor that is stuck has it in far more
WORD_ROOM, PAIR_ROOM = 0.02, 0.05
RANGE_ROOM = 0.5  # of a range's width
RANGE_GROWTH = 3.0  # times the largest growth in the past
FRESH_ROOM = 0.3
CLOSED = 0.02  # of the rows: with more that was never there, a field's values are no closed set
GRID = 0.08  # the same of values between usual ones: with more, there is no grid
SPIKE_ROOM, RUN_ROOM = 0.07, 0.2  # the second where values come in runs, as in a calm night
LOOSE = 0.6  # of what a field's association may lose: values that come in runs lose less
OUTCOME_ROOM = 0.1  # nobody knows how outcomes hang together
UNLIKE = 0.002  # of rows that are another one again: in a past with more it is no news
VARIES, CONSTANT = 0.9, 0.999  # what is never one value in so many rows is broken if it is in all
SHOWN = 12
SAYS = {
    "nulls": "{} is missing in {:.0%} of rows (at most {:.0%})",
    "top": "{} has one value in {:.0%} of rows (at most {:.0%})",
    "words": "{} has new words in {:.0%} of rows (at most {:.0%})",
    "pair": "{} comes as it never did in {:.0%} of rows (at most {:.0%})",
    "range": "{} lies outside its range by {:.1f} times the width (at most {:.1f})",
    "fresh": "{} has values within its range that were never there in {:.0%} of rows "
    "(at most {:.0%})",
    "between": "{} has values between usual ones that were never there in {:.0%} of rows "
    "(at most {:.0%})",
    "spike": "{} has one value in {:.0%} more of the rows than it ever had (at most {:.0%})",
    "together": "{} goes with the other fields {:.0%} less than usual (at most {:.0%})",
    "order": "{} in {:.0%} of rows (at most {:.0%})",
    "repeated": "{} are another one again in {:.0%} (at most {:.0%})",
    "excluded": "{} is not known in {:.0%} of events (at most {:.0%})",
}


@dataclass(frozen=True)
class Held:
    """One measure of one field, or of several, held against its limit."""

    field: str
    measure: str
    value: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.value / self.limit

    def say(self) -> str:
        return SAYS[self.measure].format(self.field, self.value, self.limit)


def contract(
    reference: Reference,
    columns: Columns,
    rows: int,
    excluded: float | None,
    params: Monitor,
    outcomes: np.ndarray | None = None,
) -> Finding:
    """Whether fields, their relations and the outcomes are as before.

    Args:
        reference: of the model; an older one has no history of its fields, or no relations.
        columns: raw columns of the period, each of shape (rows,).
        excluded: share of its labelled events that never get an outcome; None if none is known.
        outcomes: those that are known, shape (n,).
    """
    if rows < params.minimum_rows or not reference.fields:
        what = f"{rows} rows are too few"
        if not reference.fields:
            what = "the model keeps no history of its fields"
        reason = f"{what}: {params.minimum_rows} rows and a history are needed"
        return Finding(CONTRACT, Verdict.UNKNOWN, None, None, rows, reason)
    held = list(_all_held(reference, columns, outcomes, params))
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
    if not reference.relations:
        reason += "; how the fields go together is not known to this model: train it again"
    evidence = {
        "broken": [each.say() for each in broken],
        "measures": [asdict(each) for each in held[:SHOWN]],
        "excluded": excluded,
    }
    return Finding(CONTRACT, verdict, worst.value, worst.limit, rows, reason, evidence)


def _all_held(
    reference: Reference, columns: Columns, outcomes: np.ndarray | None, params: Monitor
) -> Iterator[Held]:
    loose: set[str] = set()
    if reference.relations is not None:
        together = list(_together(reference.relations, columns, params.false_alarm_rate))
        firm = {each.field for each in together if each.measure == "together"
                and each.ratio <= LOOSE}  # fmt: skip
        loose = set(columns) - firm
        yield from together
    for field in reference.fields:
        room = SPIKE_ROOM if field.name in loose else RUN_ROOM
        yield from _held(field, column(field.name, columns), room)
    if reference.outcome and outcomes is not None and len(outcomes) >= params.minimum_rows:
        now = measure(outcomes, reference.outcome.known)
        yield from _one_value(reference.outcome, now, OUTCOME_ROOM)


def _together(known: Relations, columns: Columns, rate: float) -> Iterator[Held]:
    """What fields and rows show together."""
    for loss in losses(known, columns, rate):
        yield Held(loss.field, "together", loss.value, loss.limit)
    for (high, low), share in disordered(known, columns).items():
        yield Held(f"{high} is below {low}", "order", share, SHARE_ROOM)
    if known.repeated <= UNLIKE:
        yield Held("rows", "repeated", repeated(columns), known.repeated + SHARE_ROOM)


def _held(past: FieldHistory, values: np.ndarray, spike_room: float) -> Iterator[Held]:
    now = measure(values, past.known)
    yield Held(past.name, "nulls", now.nulls, _share_limit(past.nulls))
    yield from _one_value(past, now, spike_room)
    growth = _growth(past.growth)
    if past.known.words is not None:
        kind, more = ("pair", PAIR_ROOM) if WITH in past.name else ("words", WORD_ROOM)
        yield Held(past.name, kind, now.growth, growth + more)
    elif past.known.low is not None:
        yield Held(past.name, "range", now.growth, growth * RANGE_GROWTH + RANGE_ROOM)
    if past.known.values is None or not past.fresh:
        return
    if (usual := _growth(past.fresh)) <= CLOSED:
        yield Held(past.name, "fresh", now.fresh, usual + FRESH_ROOM)
    elif (usual := _growth(past.between)) <= GRID:
        yield Held(past.name, "between", now.between, usual + FRESH_ROOM)


def _one_value(past: FieldHistory, now: Measures, spike_room: float) -> Iterator[Held]:
    """Whether too much is one value: of all that is known, and of a number beside its past."""
    limit = _share_limit(past.top, TOP_ROOM)
    yield Held(past.name, "top", now.top, min(limit, CONSTANT) if max(past.top) < VARIES else limit)
    if past.spike and float(np.median(past.top)) < VARIES:
        yield Held(past.name, "spike", now.spike, _growth(past.spike) + spike_room)


def _growth(past: Sequence[float]) -> float:
    """The most that was new in a period; before the first quarter of them everything is."""
    return max(past[len(past) // 4 :])


def _share_limit(shares: Sequence[float], room: float = SHARE_ROOM) -> float:
    return min(max(shares) + max(room, max(shares) - min(shares)), 1.0)
