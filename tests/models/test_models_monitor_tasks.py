"""The monitors of quality for several classes and for numbers: what is planted is found."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from data import field_history, reference
from data.digests import canonical_json
from data.drift import compare
from data.fields import Field
from data.periods import Period
from data.reference import Reference
from data.soundness import contract
from data.task import REGRESSION, Task, multiclass
from data.verdicts import Finding, Verdict
from models import concept, estimated, levels, monitors, profile, recalibrate, tally
from models.governor import Action, Watched, decide
from models.monitors import Judged
from models.quality import answers, margins, measure
from models.serving_monitors import Replayed, skew

WEEKS, ROWS, SPREAD, OFFSET = 16, 1400, 20.0, 1000.0
GROUPS = np.array(["a", "b", "c", "d"], dtype=object)
CLASSES = multiclass(["red", "green", "blue"])
NUMBERS = replace(REGRESSION, scale=SPREAD)


@dataclass(frozen=True)
class Change:
    """What is planted: `level` into the outcomes' margins; `noise` in place of the signal; `group`
    is the only one that it is planted for."""

    level: float = 0.0
    noise: float = 0.0
    group: str | None = None


def week(task: Task, random, place: int, change: Change = Change()) -> Judged:
    """Outcomes that follow the answers, some days higher than others."""
    day = np.repeat(np.datetime64("2024-01-01") + 7 * place + np.arange(7), ROWS // 7)
    swing = np.repeat(random.normal(0, 0.1, 7), ROWS // 7)
    group = random.choice(GROUPS, ROWS)
    hit = np.ones(ROWS, bool) if change.group is None else group == change.group
    moved = swing + change.level * hit
    if task.classes:
        margin = random.normal(0, 1, (ROWS, 3))
        truth = answers(margin + np.outer(moved, [1, 0, 0]), task)
        truth = np.where((hit & (random.random(ROWS) < change.noise))[:, None], 1 / 3, truth)
        label = (random.random(ROWS)[:, None] > truth.cumsum(axis=1)).sum(axis=1).astype(np.int8)
        return Judged(task, label, answers(margin, task), day, ROWS, {"group": group})
    signal = random.normal(0, 0.8, ROWS)
    error = random.normal(0, 0.6, ROWS) + moved
    label = OFFSET + SPREAD * (signal * (1 - change.noise * hit) + error)
    return Judged(task, label, OFFSET + SPREAD * signal, day, ROWS, {"group": group})


@pytest.fixture(scope="module", params=[CLASSES, NUMBERS], ids=["classes", "numbers"])
def task(request) -> Task:
    return request.param


@pytest.fixture(scope="module")
def known(task) -> Reference:
    random = np.random.default_rng(1)
    weeks = [week(task, random, place) for place in range(WEEKS)]
    tallies = [tally.tally(w.label, w.score, w.slices, task) for w in weeks]
    areas = [measure(w.label, w.score, task).roc_auc for w in weeks]
    daily = tally.joined(tally.residuals(w.label, w.score, w.day, task) for w in weeks)
    names = tuple(f"2024-W{i:02d}" for i in range(1, WEEKS + 1))
    score = np.concatenate([w.score for w in weeks])
    label = np.concatenate([w.label for w in weeks])
    feature = random.normal(0, 1, (len(label), 1))
    period = np.repeat(np.array(names, dtype=object), ROWS)
    built = reference.build(["x"], feature, score, period, 10, task)
    steps = profile.steps(label, score, task)
    made = replace(built, slices=tally.history(tallies, areas), daily=daily, steps=steps)
    assert Reference.from_json(json.loads(canonical_json(made.to_json()))) == made
    return made


def said(known, params, judged, last=None):
    return (
        monitors.quality(judged, known, params, last),
        levels.calibration(judged, known, params.monitor, last),
    )


def stream(task, random, weeks, change=Change()):
    drawn = [week(task, random, 20 + i, change) for i in range(weeks)]
    return tally.joined(tally.residuals(w.label, w.score, w.day, task) for w in drawn)


def test_weeks_like_the_references_are_ok(task, known, params):
    random = np.random.default_rng(3)
    found = [said(known, params, week(task, random, 20 + i)) for i in range(20)]
    exceeded = [each.verdict is not Verdict.OK for pair in found for each in pair]
    assert np.mean(exceeded) < 0.2, "of a single week; an alarm takes two"
    json.dumps([each.evidence for pair in found for each in pair], allow_nan=False)
    gaps = [pair[1].evidence["gap"] for pair in found]
    assert max(map(abs, gaps)) < params.governor.recalibration_gap


def test_evidence_rarely_reaches_proof_without_drift_however_often_one_looks(task, known):
    random = np.random.default_rng(7)
    runs = [stream(task, random, 8) for _ in range(40)]
    found = [concept.concept_drift(known.daily, seen, 0.05, 1, task).verdict for seen in runs]
    assert found.count(Verdict.ALARM) <= 3


def test_a_relation_that_is_gone_is_worse_quality_and_proved(task, known, params):
    gone = Change(noise=0.7)
    judged = week(task, np.random.default_rng(4), 20, gone)
    found, _ = said(known, params, judged)
    assert found.verdict is Verdict.WARN and found.value > found.threshold
    assert task.loss in found.reason and task.ranking in found.reason
    assert monitors.quality(judged, known, params, found).verdict is Verdict.ALARM
    proved = concept.concept_drift(
        known.daily, stream(task, np.random.default_rng(8), 4, gone), 0.05, 1, task
    )
    assert proved.verdict is Verdict.ALARM and proved.value >= 20


def test_observations_stay_within_their_bounds(task):
    random = np.random.default_rng(5)
    sharp = week(task, random, 0).score * 5 if task.kind == "regression" else np.eye(3)[[0, 1, 2]]
    label = np.arange(len(sharp)) % 3 if task.classes else np.zeros(len(sharp))
    least, most = concept.bounds(task)
    for wrong in (label, np.roll(label, 1)):
        seen = concept.observations(wrong, sharp, task)
        assert (seen >= least).all() and (seen <= most).all()
    if task.classes:  # the least is reached
        at = np.array([[2 / 3, 1 / 6, 1 / 6]])
        assert concept.observations(np.zeros(1, int), at, task)[0] == pytest.approx(least)


def test_a_level_that_moved_is_told_in_its_unit_and_a_recalibration_moves_it_back(
    task, known, params
):
    judged = week(task, np.random.default_rng(5), 20, Change(level=0.6))
    _, found = said(known, params, judged)
    assert found.verdict is Verdict.WARN
    assert found.evidence["gap"] == pytest.approx(-0.6, abs=0.15), "answers are too low"
    decided = decide(
        [Watched(Period.parse("2024-W20"), seen(found))], Period.parse("2024-W18"), params.governor
    )
    assert decided.action is Action.RECALIBRATE and task.unit in decided.reason
    assert "log odds" not in found.reason or task.kind != "regression"
    margin = margins(judged.score, task)
    whole, half = (recalibrate.learn(judged.label, margin, by, task) for by in (1.0, 0.5))
    assert half == pytest.approx(whole / 2)
    told = answers(margin + whole, task)
    expected = task.constant(judged.label)
    assert told.mean(axis=0) == pytest.approx(expected, abs=1e-6 * task.scale)
    assert recalibrate.size(whole, task) == pytest.approx(0.6 if not task.classes else 0.4, abs=0.2)


def seen(calibration):
    """All that a decision needs, and nothing wrong but the level."""
    ok = ("contract", "skew", "label_arrival", "feature_drift", "quality")
    return (*(Finding(name, Verdict.OK, 0.0, 1.0, 900, "") for name in ok), calibration)


def told_numbers(random, place, change=Change()):
    """Outcomes in tenths, and one in twenty is nothing at all."""
    label = np.round(week(NUMBERS, random, place, change).label, 1)
    return np.where(random.random(ROWS) < 0.05, 0.0, label)


@pytest.mark.parametrize(
    ("change", "share", "action"),
    [
        (Change(), 0.0, Action.WAIT),
        (Change(level=0.6), 0.0, Action.RECALIBRATE),
        (Change(), 0.2, Action.INVESTIGATE),
        (Change(level=0.6), 0.2, Action.INVESTIGATE),
    ],
)
def test_numbers_that_stand_in_for_missing_outcomes_are_no_change_of_level(
    params, change, share, action
):
    random = np.random.default_rng(12)
    labels = [told_numbers(random, place) for place in range(WEEKS)]
    outcome = profile.outcomes("delay", labels)
    inputs = [Field("x", "number", "")]
    raw = [{"x": random.normal(0, 1, ROWS)} for _ in range(WEEKS)]
    past = Reference((), (), field_history.build(inputs, raw), outcome=outcome)
    again = Reference.from_json(json.loads(canonical_json(past.to_json())))
    assert again.outcome.known == past.outcome.known
    label = np.where(random.random(ROWS) < share, 0.0, told_numbers(random, 20, change))
    found = contract(again, raw[0], ROWS, 0.0, params.monitor, label)
    assert (found.verdict is Verdict.ALARM) is (action is Action.INVESTIGATE)
    assert found.verdict is Verdict.OK or "delay has one value in" in found.reason
    gap = float(np.median(labels[0]) - np.median(label)) / SPREAD
    off = Finding("calibration", Verdict.WARN, abs(gap), 0.3, ROWS, "", {"gap": gap})
    others = tuple(each for each in seen(off) if each.monitor != "contract")
    watched = Watched(Period.parse("2024-W20"), (found, *others))
    assert decide([watched], Period.parse("2024-W18"), params.governor).action is action


def test_a_class_that_is_absent_or_rare_is_not_taken_for_impossible():
    random = np.random.default_rng(6)
    margin = random.normal(0, 1, (2000, 3)) - np.array([0, 0, 6])
    label = (random.random(2000) < 0.4).astype(np.int8)
    shift = recalibrate.learn(label, margin, 1.0, CLASSES)
    assert shift[2] == 0 and abs(shift).max() < 1
    alone = recalibrate.learn(np.zeros(50, np.int8), margin[:50], 1.0, CLASSES)
    assert alone.tolist() == [0, 0, 0]


def test_one_slice_that_is_worse_is_named(task, known, params):
    change = Change(
        noise=0.8 if task.classes else 0.0, level=0.0 if task.classes else -0.5, group="c"
    )
    judged = week(task, np.random.default_rng(5), 20, change)
    _, found = said(known, params, judged)
    assert found.verdict is Verdict.WARN and "most of all c" in found.reason
    assert found.evidence["slices"][0]["gap"] > 0, "it is answered too high, or too surely"


def test_too_few_labels_are_unknown(task, known, params):
    judged = week(task, np.random.default_rng(6), 20)
    half = replace(judged, due=2 * ROWS)
    assert {each.verdict for each in said(known, params, half)} == {Verdict.UNKNOWN}
    withheld = Judged(task, *[np.empty(0)] * 3, ROWS, why="no labels have arrived")
    assert {each.verdict for each in said(known, params, withheld)} == {Verdict.UNKNOWN}
    assert {each.verdict for each in said(Reference((), ()), params, judged)} == {Verdict.UNKNOWN}


def test_scores_that_shift_warn_and_of_classes_the_one_is_named(task, known):
    random = np.random.default_rng(9)
    feature = random.normal(0, 1, (ROWS, 1))
    quiet = compare(known, feature, week(task, random, 20).score, 200)
    by = np.array([2.0, 0, 0]) if task.classes else np.array(2 * SPREAD)
    moved = answers(margins(week(task, random, 20).score, task) + by, task)
    found = compare(known, feature, moved, 200)
    assert found.columns == quiet.columns, "features are no scores"
    assert found.score_finding().verdict is Verdict.WARN
    assert ("score.red" in found.score_finding().reason) is bool(task.classes)


def test_scores_like_the_references_warn_as_rarely_as_promised(task):
    warned = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        scores = np.concatenate([week(task, random, i).score for i in range(WEEKS)])
        feature = random.normal(0, 1, (len(scores), 1))
        period = np.repeat(np.arange(WEEKS), ROWS)
        past = reference.build(["x"], feature, scores, period, 10, task)
        new = [compare(past, feature[:ROWS], week(task, random, 20).score, 200) for _ in range(8)]
        warned += [report.score_finding().verdict is Verdict.WARN for report in new]
    assert np.mean(warned) < 0.12


def test_estimated_quality_agrees_where_nothing_changed(task, known):
    judged = week(task, np.random.default_rng(10), 20)
    found = estimated.estimated_quality(known, judged.score, 300, task)
    real = measure(judged.label, judged.score, task)
    assert found.verdict is Verdict.OK
    assert found.evidence["log_loss"] == pytest.approx(real.log_loss, abs=0.05)
    if task.classes:
        assert found.value == pytest.approx(real.roc_auc, abs=0.04)
    bare = estimated.estimated_quality(Reference((), ()), judged.score, 300, task)
    assert bare.verdict is Verdict.UNKNOWN


def test_skew_counts_in_the_answers_own_size(task, params):
    judged = week(task, np.random.default_rng(11), 20)
    keys = np.array([f"k{i}" for i in range(ROWS)], dtype=object)
    matrix = np.zeros((ROWS, 1), np.float32)
    found = Replayed(("x",), keys, matrix, matrix, judged.score, judged.score, task)
    assert skew(found, 1e-6, params.monitor).verdict is Verdict.OK
    other = judged.score.copy()
    other[7] += 1e-4 * (np.abs(other[7]) + task.scale)
    wrong = skew(replace(found, answered=other), 1e-6, params.monitor)
    assert wrong.verdict is Verdict.ALARM and "1 of 1400 answers" in wrong.reason
    assert "such as k7" in wrong.reason
