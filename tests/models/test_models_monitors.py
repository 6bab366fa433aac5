"""Quality, slices and concept drift: what is planted is found, and nothing is found in nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data.digests import canonical_json
from data.labels import Coverage
from data.reference import Reference
from data.task import BINARY
from data.verdicts import Verdict
from models import concept, estimated, levels, monitors, serving_monitors, tally
from models.monitors import Judged
from models.quality import measure
from models.serving_monitors import Counted, Replayed, Traffic

WEEKS, ROWS = 16, 1400
GROUPS = np.array(["a", "b", "c", "d"], dtype=object)


def week(random, place, change=lambda chance, group: chance):
    """Labels that follow calibrated probabilities, some days worse than others."""
    day = np.repeat(np.datetime64("2024-01-01") + 7 * place + np.arange(7), ROWS // 7)
    swing = np.repeat(random.normal(0, 0.3, 7), ROWS // 7)
    odds = random.normal(-1, 1, ROWS)
    chance, truth = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-odds - swing))
    group = random.choice(GROUPS, ROWS)
    label = (random.random(ROWS) < change(truth, group)).astype(np.int8)
    return Judged(BINARY, label, chance, day, ROWS, {"group": group})


@pytest.fixture(scope="module")
def reference():
    random = np.random.default_rng(1)
    weeks = [week(random, place) for place in range(WEEKS)]
    tallies = [tally.tally(w.label, w.score, w.slices, BINARY) for w in weeks]
    areas = [measure(w.label, w.score, BINARY).roc_auc for w in weeks]
    daily = tally.joined(tally.residuals(w.label, w.score, w.day, BINARY) for w in weeks)
    names = tuple(f"2024-W{i:02d}" for i in range(1, WEEKS + 1))
    steps = (tuple(np.linspace(0, 1, 11)), tuple(np.linspace(0, 1, 11)))
    made = Reference(names, (), (), tally.history(tallies, areas), daily, steps)
    again = Reference.from_json(json.loads(canonical_json(made.to_json())))
    assert again == made
    return made


def said(reference, params, judged, last=None):
    return (
        monitors.quality(judged, reference, params, last),
        levels.calibration(judged, reference, params.monitor, last),
    )


def test_a_tally_counts_what_pandas_counts():
    random = np.random.default_rng(2)
    judged = week(random, 0)
    found = tally.tally(judged.label, judged.score, judged.slices, BINARY)
    mine = judged.slices["group"] == "b"
    assert (found["group", "b"].rows, found["group", "b"].positives) == (
        mine.sum(),
        judged.label[mine].sum(),
    )
    loss = measure(judged.label[mine], judged.score[mine], BINARY).log_loss
    assert found["group", "b"].loss / mine.sum() == pytest.approx(loss)


def test_weeks_like_the_references_are_ok(reference, params):
    random = np.random.default_rng(3)
    found = [said(reference, params, week(random, 20 + i)) for i in range(20)]
    exceeded = [each.verdict is not Verdict.OK for pair in found for each in pair]
    assert np.mean(exceeded) < 0.2, "of a single week; an alarm takes two"
    json.dumps([each.evidence for pair in found for each in pair], allow_nan=False)


def test_a_relation_turned_round_is_worse_quality(reference, params):
    judged = week(np.random.default_rng(4), 20, lambda chance, group: 1 - chance)
    found, _ = said(reference, params, judged)
    assert found.verdict is Verdict.WARN and found.value > found.threshold
    assert monitors.quality(judged, reference, params, found).verdict is Verdict.ALARM
    assert found.evidence["turned"] and "rank worse than chance" in found.reason


def test_a_relation_that_is_gone_is_not_turned_round(reference, params):
    random = np.random.default_rng(14)
    gone = [week(random, 20 + i, lambda chance, group: 0.3) for i in range(20)]
    found = [said(reference, params, judged)[0] for judged in gone]
    assert all(f.verdict is Verdict.WARN and not f.evidence["turned"] for f in found)


def test_one_slice_that_is_worse_is_named(reference, params):
    def worse(chance, group):
        return np.where(group == "c", chance + 0.2 * (1 - chance), chance)

    judged = week(np.random.default_rng(5), 20, worse)
    _, found = said(reference, params, judged)
    assert found.verdict is Verdict.WARN and "most of all c" in found.reason
    assert found.evidence["slices"][0]["gap"] < 0, "its probabilities are too low"


def test_too_few_labels_are_unknown(reference, params):
    judged = week(np.random.default_rng(6), 20)
    half = replace(judged, due=2 * ROWS)
    assert {each.verdict for each in said(reference, params, half)} == {Verdict.UNKNOWN}
    bare = Reference((), ())
    assert {each.verdict for each in said(bare, params, judged)} == {Verdict.UNKNOWN}
    assert concept.concept_drift(None, reference.daily, 0.05, 1, BINARY).verdict is Verdict.UNKNOWN


def stream(random, weeks, change=lambda chance, group: chance):
    drawn = [week(random, 20 + i, change) for i in range(weeks)]
    return tally.joined(tally.residuals(w.label, w.score, w.day, BINARY) for w in drawn)


def test_evidence_rarely_reaches_proof_without_drift_however_often_one_looks(reference):
    random, false = np.random.default_rng(7), 0
    for _ in range(60):
        found = concept.concept_drift(reference.daily, stream(random, 12), 0.05, 1, BINARY)
        false += found.verdict is Verdict.ALARM
    assert false <= 5


@pytest.mark.parametrize(
    "change",
    [
        lambda chance, group: np.minimum(chance + 0.15, 1),
        lambda chance, group: 0.6 * chance + 0.4 * (1 - chance),
    ],
)
def test_a_changed_relation_is_proved_and_stays_so(reference, change):
    seen = stream(np.random.default_rng(8), 8, change)
    found = concept.concept_drift(reference.daily, seen, 0.05, 1, BINARY)
    assert found.verdict is Verdict.ALARM and found.value >= 20
    assert found.evidence["since"] in seen.days
    first = seen.days.index(found.evidence["since"]) + 1
    part = type(seen)(seen.days[:first], seen.rows[:first], seen.residual[:first])
    again = concept.concept_drift(reference.daily, part, 0.05, 1, BINARY)
    assert again.evidence["log_evidence"] == found.evidence["log_evidence"][:first]


def test_the_money_is_a_fair_bet_at_the_border():
    """On a mean at the border each day multiplies the money by 1 on average."""
    random, usual = np.random.default_rng(9), concept.Room(0.0, 0.0, *concept.bounds(BINARY))
    values = random.choice([-0.1, 0.1], (4000, 10))
    won = np.exp([concept.log_evidence(row, usual)[-1] for row in values])
    assert won.mean() == pytest.approx(1, abs=0.1)


def test_estimated_quality_is_a_chart_and_agrees_where_nothing_changed(reference):
    judged = week(np.random.default_rng(10), 20)
    found = estimated.estimated_quality(reference, judged.score, 300, BINARY)
    assert found.verdict is Verdict.OK
    real = measure(judged.label, judged.score, BINARY)
    assert found.value == pytest.approx(real.roc_auc, abs=0.04)
    assert found.evidence["log_loss"] == pytest.approx(real.log_loss, abs=0.05)
    few = estimated.estimated_quality(reference, judged.score[:9], 300, BINARY)
    assert few.value is None


def replayed(rows=400):
    random = np.random.default_rng(11)
    logged = random.normal(0, 1, (rows, 2)).astype(np.float32)
    logged[::7, 1] = np.nan
    keys = np.array([f"k{i}" for i in range(rows)], dtype=object)
    score = random.random(rows)
    return Replayed(("x", "y"), keys, logged, logged.copy(), score, score + 1e-8, BINARY)


def test_skew_is_exact_and_missing_equals_missing(params):
    limits = params.monitor
    assert serving_monitors.skew(replayed(), 1e-6, limits).verdict is Verdict.OK
    found = replayed()
    found.partition[3, 0] = np.nextafter(found.partition[3, 0], np.float32(9))
    one = serving_monitors.skew(found, 1e-6, limits)
    assert one.verdict is Verdict.WARN and "x in 1" in one.reason
    found.partition[:40, 1] = 5.0
    assert serving_monitors.skew(found, 1e-6, limits).verdict is Verdict.ALARM
    found = replayed()
    found.answered[9] = np.nan
    assert serving_monitors.skew(found, 1e-6, limits).verdict is Verdict.ALARM
    assert serving_monitors.skew(replayed(20), 1e-6, limits).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.OK),
        ({"degraded": 30}, Verdict.ALARM),
        ({"errors": 30}, Verdict.ALARM),
        ({"slow": 2.0}, Verdict.ALARM),
        ({"silent_days": ("2024-01-03",)}, Verdict.ALARM),
        ({"requests": None}, Verdict.UNKNOWN),
        ({"answered": 0, "silent_days": ()}, Verdict.UNKNOWN),
    ],
)
def test_the_endpoint_is_judged_by_log_and_counters(params, change, verdict):
    traffic = replace(Traffic(1000, 900, 0, (), 1200, 0, 0.01), **change)
    assert serving_monitors.endpoint(traffic, params.monitor).verdict is verdict


def test_errors_and_latency_are_those_since_the_period_before(params):
    def counted(started, requests, errors, slow):
        return {"blue": Counted(started, requests, errors, requests, {"0.1": requests - slow})}

    def said(now, last=None):
        traffic = Traffic(1000, 900, 0, ()).counting(now, last)
        found = serving_monitors.endpoint(traffic, params.monitor)
        return replace(found, evidence=json.loads(canonical_json(found.evidence)))

    first = said(counted(1.0, 1000, 30, 200))
    assert first.verdict is Verdict.ALARM and "3.0% of requests failed" in first.reason
    assert first.evidence["slow"] == "longer than was measured"
    second = said(counted(1.0, 2000, 31, 210), first)
    assert second.verdict is Verdict.OK and second.evidence["requests"] == 1000
    assert second.evidence["slow"] == 0.1, "the second thousand was fast"
    again = said(counted(2.0, 2000, 60, 0), second)
    assert again.evidence["requests"] == 2000, "another process counts from nought"
    assert said({}).verdict is Verdict.UNKNOWN


def test_labels_that_do_not_come_and_age(params):
    arrival = serving_monitors.label_arrival
    assert arrival(Coverage(100, 95, 5, 0), {}, params.monitor).verdict is Verdict.OK
    late = arrival(Coverage(100, 95, 5, 0), {"2024-W01": 0.4}, params.monitor)
    assert late.verdict is Verdict.WARN and "2024-W01" in late.reason
    assert arrival(Coverage(100, 50, 5, 0), {}, params.monitor).verdict is Verdict.ALARM
    assert arrival(Coverage(0, 0, 0, 0), {}, params.monitor).verdict is Verdict.UNKNOWN
    assert serving_monitors.model_age(12, 13).verdict is Verdict.OK
    assert serving_monitors.model_age(13, 13).verdict is Verdict.ALARM
