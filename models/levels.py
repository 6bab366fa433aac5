"""Monitor `calibration`: are the answers too high or too low, of everything or of slices?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.conformal import limit
from data.monitor_params import Monitor
from data.reference import Reference
from data.verdicts import Finding, Verdict, twice
from models.monitors import Judged, no_history
from models.tally import CLASS, EVERYTHING, Slice, Tally, tallies, tally

CALIBRATION = "calibration"
SLICE_ROWS = 100
SHOWN = 12


def calibration(
    judged: Judged, reference: Reference, params: Monitor, last: Finding | None
) -> Finding:
    """Whether answers are too high or too low: of everything, or of slices beyond that.

    The gap is in log odds, or in standard deviations of a number. That of everything (of several
    classes: of each one) swings with the periods, and its limit with it; what the values of a slice
    add to it does not, and is counted in standard errors.
    """
    if (unknown := judged.too_few(CALIBRATION, params)) is not None:
        return unknown
    if not reference.slices:
        return no_history(CALIBRATION, len(judged))
    task, rate = judged.task, params.false_alarm_rate
    now = tally(judged.label, judged.score, judged.slices, task)
    past = past_tallies(reference)
    level, scores = _level(past, now), slice_scores(past, now)
    held = {EVERYTHING[0]: (level.value, limit(level.moves, rate))}
    history = slice_history(past)
    held |= {n: (v, limit(history[n], rate)) for n, v in spreads(scores).items() if n in history}
    name = max(held, key=lambda each: held[each][0] / max(held[each][1].value, 1e-9))
    value, usual = held[name]
    of = f" of {level.of[1]}" if level.of != EVERYTHING else ""
    reason = f"{task.answers}{of} are off by {level.gap:+.2f} {task.unit}, "
    reason += held[EVERYTHING[0]][1].say()
    shown, whole = sorted(scores, key=lambda each: -abs(scores[each])), now[EVERYTHING].bias
    if name != EVERYTHING[0]:
        worst = next(each for each in shown if each[0] == name)
        reason += f"; values of {name} by {value:.2f} standard errors beyond that, {usual.say()}"
        reason += f"; most of all {worst[1]}, by {now[worst].bias - whole:+.2f}"
    evidence = {
        "gap": level.gap,
        **_means(judged, level),
        "past": list(level.past),
        "resolved": usual.resolved,
        "held": {n: {"value": v, "threshold": u.value} for n, (v, u) in held.items()},
        "slices": [
            {"slice": s[0], "value": s[1], "rows": now[s].rows, "standard_errors": scores[s],
             "gap": now[s].bias - whole}
            for s in shown[:SHOWN]
        ],
    }  # fmt: skip
    said = Finding(CALIBRATION, Verdict.OK, value, usual.value, len(judged), reason, evidence)
    return twice(said, value > usual.value, last)


@dataclass(frozen=True)
class Level:
    """By how much the answers are off as a whole.

    Attributes:
        of: the slice that it is seen in: everything, or the class that is furthest off.
        gap: of that, and what it was in each period of the reference.
        value: the furthest that any class, or everything, is from its median; moves: the same in
            each period of the reference.
    """

    of: Slice
    gap: float
    past: tuple[float, ...]
    value: float
    moves: list[float]


def _level(past: Mapping[Slice, Sequence[Tally]], now: Mapping[Slice, Tally]) -> Level:
    """Of everything; where there are several classes, of those whose level can be told."""
    classes = [s for s in now if s[0] == CLASS and s in past and now[s].certain]
    kept = classes or [EVERYTHING]
    gaps = np.array([[each.bias for each in past[name]] for name in kept])
    moves = np.abs(gaps - np.median(gaps, axis=1, keepdims=True))
    own = np.array([now[name].bias for name in kept])
    off = np.abs(own - np.median(gaps, axis=1))
    worst = int(np.abs(own).argmax())
    return Level(
        kept[worst],
        float(own[worst]),
        tuple(gaps[worst].tolist()),
        float(off.max()),
        moves.max(axis=0).tolist(),
    )


def _means(judged: Judged, level: Level) -> dict[str, Any]:
    """Outcome and answer on the whole, as a page shows them."""
    task = judged.task
    if task.kind == "binary":
        return {
            "positive_rate": float(judged.label.mean()),
            "mean_probability": float(judged.score.mean()),
        }
    if task.kind == "regression":
        means = {"mean": judged.label.mean(), "mean_prediction": judged.score.mean()}
        return {"unit": task.unit, **{name: float(value) for name, value in means.items()}}
    observed, told = task.constant(judged.label), judged.score.mean(axis=0)
    named = {"furthest": level.of[1]} if level.of != EVERYTHING else {}
    return {
        **named,
        "classes": {
            name: {"rate": float(rate), "mean_probability": float(mean)}
            for name, rate, mean in zip(task.classes, observed, told, strict=True)
        },
    }


def past_tallies(reference: Reference) -> dict[Slice, list[Tally]]:
    """Every slice's sums in every period."""
    return {(each.slice, each.value): tallies(each) for each in reference.slices}


def slice_scores(
    past: Mapping[Slice, Sequence[Tally]], now: Mapping[Slice, Tally]
) -> dict[Slice, float]:
    """How far each slice's gap beyond the whole's is from what it was, in standard errors.

    The error is that of the sums, and what the gap itself moves from period to period.
    """
    found = {}
    for name, tally_now in now.items():
        if (
            name == EVERYTHING
            or name[0] == CLASS
            or name not in past
            or tally_now.rows < SLICE_ROWS
        ):
            continue
        before = [
            (each.bias - whole.bias, 1 / each.variance)
            for each, whole in zip(past[name], past[EVERYTHING], strict=True)
            if each.rows >= SLICE_ROWS and each.variance
        ]
        if len(before) < 2 or not tally_now.variance:
            continue
        gaps, errors = np.array(before).T
        moves = max(float(gaps.var(ddof=1) - errors.mean()), 0.0)
        spread = moves + float(gaps.var(ddof=1)) / len(gaps) + 1 / tally_now.variance
        gap = tally_now.bias - now[EVERYTHING].bias
        found[name] = float((gap - gaps.mean()) / np.sqrt(spread))
    return found


def spreads(scores: Mapping[Slice, float]) -> dict[str, float]:
    """How far the values of each slice are off together: the root mean square of their scores."""
    found: dict[str, list[float]] = {}
    for (name, _), score in scores.items():
        found.setdefault(name, []).append(score)
    return {name: float(np.sqrt(np.mean(np.square(each)))) for name, each in found.items()}


def slice_history(past: Mapping[Slice, Sequence[Tally]]) -> dict[str, list[float]]:
    """The same for each period of the reference against the others."""
    found: dict[str, list[float]] = {}
    for place in range(len(past[EVERYTHING])):
        others = {name: [*each[:place], *each[place + 1 :]] for name, each in past.items()}
        scores = slice_scores(others, {name: each[place] for name, each in past.items()})
        for name, value in spreads(scores).items():
            found.setdefault(name, []).append(value)
    return found
