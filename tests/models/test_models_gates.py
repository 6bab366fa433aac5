"""Each gate blocks what it is there for; a good model, and one as good, passes all."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data.ingest import ingest
from data.partitions import Partitions
from data.periods import Period
from models import artifact, evidence, gates, gates_artifact
from models.artifact import Trained
from models.bootstrap import Interval
from models.candidates import LOGISTIC
from models.evidence import Case
from models.gates_behaviour import disturbed
from tests import bad_contracts, bad_models
from tests.bad_contracts import CONTRACTS, contract, same_quality
from tests.bad_models import World
from tests.planted import PROBLEM, ROUTES, outcomes, read


@pytest.fixture(scope="module")
def world(partitions, params) -> World:
    return World.of(PROBLEM, partitions, params, "2024-W08")


def blocked(report) -> set[str]:
    assert report.passed is not bool([v for v in report.verdicts if not v.passed])
    return {verdict.name for verdict in report.verdicts if not verdict.passed}


def judged(made, params, partitions, champion=None, problem=PROBLEM, artefact=None):
    """What the train flow does: evidence is read again as of the moment of the training."""
    trained: Trained = made.trained
    seen = evidence.gather(problem, partitions, params, trained.windows.as_of)
    return gates.judge(Case(
        problem, artefact or made.artifact, champion and champion.artifact, seen, trained.holdout,
        trained.holdout_scores, params.gates, trained.threshold, params.train.seed,
    ))  # fmt: skip


def test_a_good_challenger_passes_alone_and_against_a_champion(world):
    alone = world.judge(world.good)
    assert alone.passed, alone.reason
    assert alone.champion is None and alone.reason == f"all {len(alone.verdicts)} gates passed"
    names = [verdict.name for verdict in alone.verdicts]
    assert names == [name for name in gates.GATES if name != "not_worse_than_champion"]
    champion = world.made(world.fit(world.values, world.label, n_estimators=40))
    against = world.judge(world.good, champion)
    assert against.passed and against.champion == champion.digest, against.reason
    assert [verdict.name for verdict in against.verdicts] == list(gates.GATES)


def test_the_same_case_gives_the_same_verdicts_but_for_the_clock(world):
    first, second = (replace(report, verdicts=tuple(v for v in report.verdicts
                                                    if v.name != "latency"))
                     for report in (world.judge(world.good), world.judge(world.good)))  # fmt: skip
    assert first == second


def test_after_the_change_the_retrained_model_passes_against_the_old_one(
    good, make, params, partitions
):
    report = judged(make(as_of="2024-W14"), params, partitions, champion=good)
    assert report.passed, report.reason
    gain = next(v for v in report.verdicts if v.name == "not_worse_than_champion")
    assert gain.interval[0] > 0.03


@pytest.mark.parametrize("kind", [*bad_contracts.RETRAINS, bad_contracts.FEWER_DAYS])
def test_a_retrain_that_is_as_good_passes(kind, world):
    report = world.judge(same_quality(world, kind, 5), world.good)
    assert report.passed, report.reason


FAULTS = {
    "inverted": (bad_models.inverted, 1.0, {"beats_base_rate"}),
    "shuffled": (bad_models.shuffled, 1.0, {"beats_logistic"}),
    "shuffled by 0.8": (bad_models.shuffled, 0.8, {"not_worse_than_champion"}),
    "shuffled by 0.6": (bad_models.shuffled, 0.6, {"calibration"}),
    "weak": (bad_models.weak, 1, {"not_worse_than_yardstick"}),
    "overfit": (bad_models.overfit, 12, {"log_loss", "overfit", "slice_regression", "noise"}),
    "saw the holdout": (bad_models.seen_holdout, 4, {"holdout_untouched"}),
    "shifted": (bad_models.shifted, 0.6, {"calibration_level"}),
    "timid": (bad_models.scaled, 0.4, {"calibration_slope"}),
    "biased": (bad_models.biased, 0.8, {"slice_bias"}),
    "one slice shuffled": (bad_models.slice_noise, 1.0, {"slice_fit"}),
    "fragile": (bad_models.fragile, 0.4, {"missing_values"}),
    "another graph": (bad_models.other_graph, 59, {"serving_parity", "golden"}),
    "NaN": (bad_models.nan_weights, 5, {"finite"}),
    "slow": (bad_models.slow, 30, {"latency"}),
    "oversized": (bad_models.oversized, 40, {"size"}),
    "leak": (bad_contracts.leaky, 1.0, {"single_field_auc"}),
    "plain leak": (bad_contracts.leaky, 0.1, {"plausible_auc"}),
    "leak that counts": (bad_contracts.leaky, 0.3, {"permutation"}),
    "banned": (bad_contracts.banned, 1.0, {"banned_columns"}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_model_is_blocked_by_the_gates_that_are_there_for_it(kind, world):
    make, strength, due = FAULTS[kind]
    made = make(world, strength, 1)
    where, artefact = made if isinstance(made, tuple) else (world, made)
    case = where.prepared(artefact, world.good if where is world else None)
    assert {name for name in due if gates.judged(name, case).passed is False} == due


def test_every_gate_has_a_bad_model():
    tested = {"schema", "windows", "fitted_state", "unseen_categories"}
    tested |= {name for *_, due in FAULTS.values() for name in due}
    assert tested == set(gates.GATES)


@pytest.mark.parametrize("kind", CONTRACTS)
def test_an_artefact_with_another_contract_is_blocked(kind, world):
    found = blocked(world.judge(contract(world, CONTRACTS[kind])))
    state = kind in ("vocabulary in another order", "rate not of the training rows")
    assert ("fitted_state" if state else "schema") in found


@pytest.mark.parametrize(
    "said", [{"train": ["2024-W01"]}, {"holdout": []}, {"partitions": {}}, {"train_rows": 1}]
)
def test_an_artefact_of_other_windows_is_blocked(said, world):
    assert blocked(world.judge(bad_contracts.training(world, **said))) == {"windows"}


def test_a_model_that_goes_astray_on_an_unseen_category_is_blocked(world):
    """A route that nobody saw is taken for a certain outcome."""
    place = [feature.name for feature in world.seen.features].index("route")
    hit = np.arange(len(world.values)) % 2 == 0
    more = world.values[hit].copy()
    more[:, place] = -1.0
    values = np.vstack([world.values, *[more] * 3])
    label = np.concatenate([world.label, np.ones(3 * hit.sum(), dtype=np.int8)])
    report = world.judge(world.made(world.fit(values, label)))
    assert "unseen_categories" in blocked(report)


def test_a_model_of_noise_does_not_beat_the_base_rate(make, params, filled, tmp_path):
    random = np.random.default_rng(1)

    def noise(batch):
        found = outcomes(batch)
        drawn = pd.Series(random.integers(0, 2, len(found)), dtype=float)
        return found.assign(label=drawn.where(found["label"].notna()))

    problem = replace(PROBLEM, outcomes=noise)
    of = filled(tmp_path / "raw", "2024-W01", "2024-W08", problem)
    assert "beats_base_rate" in blocked(judged(make(problem=problem, of=of), params, of))


def test_a_model_trained_on_other_labels_than_the_partitions_is_blocked(
    make, params, partitions, tmp_path
):
    """The labels changed on the way to the training: its artefact does not hide it."""
    other = Partitions(tmp_path / "raw")

    def flipped(batch):
        found = outcomes(batch)
        return found.assign(label=1 - found["label"])

    for name in [p for p in partitions.periods() if p <= Period.parse("2024-W08")]:
        problem = replace(PROBLEM, outcomes=flipped)
        ingest(problem, other, name, read(name))
    report = judged(make(of=other), params, partitions)
    assert {"windows", "fitted_state"} <= blocked(report)


@pytest.mark.parametrize("kind", ["few rows", "one day", "one outcome"])
def test_too_little_to_judge_is_unknown_and_blocks(kind, world):
    held = world.trained.holdout
    needed = 20 if kind != "few rows" else world.params.gates.minimum_rows
    mask = {
        "few rows": np.arange(len(held)) < needed - 1,
        "one day": held.day == held.day[0],
        "one outcome": held.label == 1,
    }[kind]
    scores = {name: s[mask] for name, s in world.trained.holdout_scores.items()}
    params = world.params.gates.model_copy(update={"minimum_rows": needed})
    case = replace(world.case(world.good), holdout=held.take(mask), scores=scores, params=params)
    report = gates.judge(case)
    assert not report.passed
    unknown = {v.name: v for v in report.verdicts if v.passed is None}
    assert {"beats_base_rate", "beats_logistic", "log_loss", "overfit"} <= set(unknown)
    found = unknown["log_loss"]
    assert found.value is None and f"{mask.sum()} rows cannot be judged" in found.reason
    assert "**unknown**" in report.to_markdown() and found.reason in report.reason


def test_a_gate_that_cannot_be_computed_is_unknown_and_blocks(world):
    """The graph is gone: whatever needs it is unknown, and the report is still whole."""
    artefact = world.tampered(lambda folder: (folder / "model.onnx").write_bytes(b"nothing"))
    report = world.judge(artefact)
    unknown = {v.name for v in report.verdicts if v.passed is None}
    assert {"finite", "serving_parity", "golden", "latency"} <= unknown and not report.passed
    assert len(report.verdicts) == len(gates.GATES) - 1


def test_a_report_without_verdicts_passes_nothing():
    assert not gates.GateReport("d" * 64, None, ()).passed


def test_disturbed_rows_have_nulls_and_categories_that_nobody_saw(good):
    columns = disturbed(good.trained.holdout.columns, PROBLEM.fields, 2000, seed=1)
    unseen = np.mean(~np.isin(columns["route"].astype(str), ROUTES))
    assert 0.05 < unseen < 0.15
    assert set(columns["size"]) == {"large", "small"}
    before = np.isnan(good.trained.holdout.columns["kilos"]).mean()
    assert 0.05 < np.isnan(columns["kilos"]).mean() - before < 0.15
    assert not np.isnan(columns["queue"]).any()


def test_a_margin_is_what_the_verdict_is_measured_against(world):
    """The same challenger passes or fails with the margin around its own interval."""
    case = world.case(world.good)
    low = gates.GATES["beats_logistic"](case).interval[0]
    for by, passes in ((low - 1e-6, True), (low + 1e-6, False)):
        changed = case.params.model_copy(update={"beat_logistic_by": by})
        verdict = gates.GATES["beats_logistic"](replace(case, params=changed))
        assert verdict.passed is passes and LOGISTIC in verdict.name


def test_a_plainer_model_may_fit_less_where_the_yardstick_overfits_most(world):
    """What all held-out rows say of optimism is shared out by rows of days that were not seen."""
    case = world.prepared(world.good)
    apart, fitted = case.yardstick_apart_score, case.yardstick_past_score
    label, task = world.label, case.task
    assert task.losses(label, apart).mean() > task.losses(label, fitted).mean() + 1e-3
    found = case.slices[0]
    assert all(one.times >= 1 for one in case.slices) and found.times == 1
    for times, passes in ((1.0, False), (3.0, True)):
        fit = replace(found, fit=Interval(0.05, 0.04, 0.06), optimism=0.0, times=times)
        case.__dict__.update(slices=(fit,), optimism=0.02)
        assert gates.GATES["slice_fit"](case).passed is passes


@pytest.mark.parametrize(("slower", "passes"), [(3.0, True), (5.0, False)])
def test_latency_is_judged_by_the_clock_that_it_is_given(slower, passes, world):
    """Challenger and champion take turns, the challenger first."""
    ticks, step = [0.0], [slower, 1.0]
    calls = []

    def clock() -> float:
        calls.append(None)
        if len(calls) % 2 == 0:  # the end of a call
            ticks[0] += step[(len(calls) // 2 - 1) % 2] * 100e-6
        return ticks[0]

    verdict = gates_artifact.latency(world.case(world.good, world.good), clock)
    assert verdict.passed is passes
    assert verdict.value == pytest.approx(100 * slower)
    assert verdict.threshold == pytest.approx(100 * world.params.gates.latency_ratio)


def test_the_golden_rows_are_answered_as_frozen(world):
    def change(folder):
        path = folder / "golden.json"
        content = json.loads(path.read_text())
        content["probabilities"][7] += 1e-4
        path.write_text(json.dumps(content))

    assert blocked(world.judge(world.tampered(change))) == {"golden"}
    empty = world.tampered(
        lambda folder: (folder / "golden.json").write_text('{"rows":[],"probabilities":[]}')
    )
    assert blocked(world.judge(empty)) == {"golden"}
    assert artifact.load(world.good.folder).digest == world.good.digest
