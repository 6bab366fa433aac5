"""The gates judge numbers and several classes as they judge two outcomes."""

from dataclasses import replace

import numpy as np
import pytest

from data.params import Params
from data.task import multiclass
from models import card, gates, gates_page, importance, page
from models.card import Evidence
from models.quality import answers, margins
from models.slices import residuals
from models.yardstick import levels
from tests import bad_contracts, bad_models, bad_tasks
from tests.bad_models import World
from tests.planted_tasks import CLASS, NUMBER


@pytest.fixture(scope="module", params=[NUMBER, CLASS], ids=["number", "class"])
def world(request, filled, params, tmp_path_factory) -> World:
    problem, content = request.param, params.model_dump()
    if problem is NUMBER:
        content["candidates"] = ["base_rate", "ridge", "xgboost"]
    of = filled(tmp_path_factory.mktemp("tasks") / "raw", "2024-W01", "2024-W08", problem)
    return World.of(problem, of, Params.model_validate(content), "2024-W08")


@pytest.fixture(scope="module")
def report(world) -> gates.GateReport:
    return world.judge(world.good)


def test_a_good_model_passes_alone_and_against_a_champion(world, report):
    assert report.passed, report.reason
    champion = world.made(world.fit(world.values, world.label, n_estimators=40))
    against = world.judge(world.good, champion)
    assert against.passed, against.reason
    assert [verdict.name for verdict in against.verdicts] == list(gates.GATES)


def test_a_retrain_that_is_as_good_passes(world):
    found = world.judge(bad_contracts.same_quality(world, bad_contracts.FEWER_DAYS, 5), world.good)
    assert found.passed, found.reason


FAULTS = {
    "turned": (bad_tasks.turned, 1, {"beats_base_rate", "log_loss", "slice_regression"}),
    "shuffled": (
        bad_models.shuffled,
        1.0,
        {"beats_logistic", "not_worse_than_yardstick", "calibration"},
    ),
    "weak": (bad_models.weak, 1, {"not_worse_than_champion"}),
    "overfit": (bad_tasks.overfit, 12, {"overfit", "noise"}),
    "saw the holdout": (bad_models.seen_holdout, 4, {"holdout_untouched"}),
    "level": (bad_tasks.off_level, 0.6, {"calibration_level"}),
    "bold": (bad_tasks.bold, 2.0, {"calibration_slope"}),
    "biased": (bad_tasks.biased, 0.8, {"slice_bias"}),
    "one slice shuffled": (bad_models.slice_noise, 1.0, {"slice_fit", "slice_regression"}),
    "weight missing": (bad_tasks.gullible, "kilos", {"missing_values"}),
    "route unseen": (bad_tasks.gullible, "route", {"unseen_categories"}),
    "another graph": (bad_models.other_graph, 59, {"serving_parity", "golden"}),
    "NaN": (bad_models.nan_weights, 5, {"finite"}),
    "leak": (bad_contracts.leaky, 0.3, {"single_field_auc", "plausible_auc", "permutation"}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_model_is_blocked_by_the_gates_that_are_there_for_it(kind, world):
    make, strength, due = FAULTS[kind]
    made = make(world, strength, 1)
    where, artefact = made if isinstance(made, tuple) else (world, made)
    case = where.prepared(artefact, world.good if where is world else None)
    assert {name for name in due if gates.judged(name, case).passed is False} == due


def test_every_gate_that_knows_the_task_has_a_bad_model():
    alike = {"windows", "banned_columns", "latency", "size", "schema", "fitted_state"}
    assert set.union(alike, *(due for *_, due in FAULTS.values())) == set(gates.GATES)


def test_an_artefact_of_another_task_is_blocked(world):
    def passes(gate: str, **changes) -> bool | None:
        artefact = bad_contracts.contract(world, lambda content: content.update(changes))
        return gates.judged(gate, world.case(artefact)).passed

    task = world.trained.task
    assert passes("schema") and passes("fitted_state")
    assert passes("schema", threshold=0.5) is passes("schema", base_rate=[0.5, 0.5]) is False
    if task.classes:
        wrong = replace(task, classes=task.classes[::-1])
        assert passes("schema", task=wrong.to_json()) is False
    else:
        wrong = replace(task, scale=2 * task.scale)
        assert passes("fitted_state", task=wrong.to_json()) is False


def test_rows_without_different_outcomes_are_unknown_and_block(world):
    held = world.trained.holdout
    mask = held.label == 1 if world.trained.task.classes else np.arange(len(held)) < 299
    scores = {name: s[mask] for name, s in world.trained.holdout_scores.items()}
    found = gates.judge(replace(world.case(world.good), holdout=held.take(mask), scores=scores))
    unknown = {v.name: v.reason for v in found.verdicts if v.passed is None}
    assert {"beats_base_rate", "log_loss", "overfit", "calibration"} <= set(unknown)
    assert "different outcomes" in unknown["log_loss"] and not found.passed


def test_level_and_slope_are_found_as_they_were_planted(world):
    """The good model's answers, moved on the scale on which models add up."""
    case, task = world.prepared(world.good), world.trained.task
    margin = margins(case.past_score, task)

    def found(gate: str, moved: np.ndarray) -> float:
        case.__dict__["past_score"] = answers(moved, task)
        return gates.GATES[gate](case).value

    step, due = 0.4 * task.scale, 0.4
    if task.classes:  # what is beyond the mean of all rows
        step, due = np.array([0.6, 0.0, 0.0]), 0.6 * (1 - (world.label == 0).mean())
    moved = found("calibration_level", margin + step) - found("calibration_level", margin)
    assert moved == pytest.approx(due, abs=0.05)
    slope = found("calibration_slope", margin)
    assert found("calibration_slope", 2 * margin) == pytest.approx(slope / 2, rel=1e-2)


def test_a_class_that_few_rows_have_is_not_judged_by_its_level():
    random, task = np.random.default_rng(1), multiclass("abc")
    score = random.dirichlet([5, 5, 1], 2000)
    label = (random.random(2000) < 0.5).astype(np.int8)
    label[:10] = 2
    assert [one.outcome for one in residuals(label, score, task, 300)] == ["a", "b"]
    assert [one.outcome for one in residuals(label, score, task, 10)] == ["a", "b", "c"]
    most = "ab"[int((label == 1).sum() > (label == 0).sum())]
    assert [one.outcome for one in residuals(label, score, task, 5000)] == [most]


def test_a_class_that_no_row_has_moves_no_other_level():
    random, task = np.random.default_rng(1), multiclass("abcd")
    score = np.column_stack([random.dirichlet([5, 5, 1], 4000) * 0.999, np.full(4000, 0.001)])
    label = (random.random((4000, 1)) * 0.999 > score.cumsum(axis=1)).sum(axis=1).astype(np.int8)
    found = levels(label, margins(score, task), task, 100)
    assert list(found) == ["a", "b", "c"] and max(map(abs, found.values())) < 0.1


def test_reports_speak_of_what_the_task_has(world, report):
    trained, params = world.trained, world.params
    found = importance.measure(world.good, trained.holdout, params)
    assert {one.field for one in found[:4]} == {"kilos", "sent_at", "route", "stops"}
    made = card.build(Evidence(
        world.good, world.problem, trained.holdout, trained.holdout_scores, report, found, {},
        params,
    ))  # fmt: skip
    texts = [page.to_markdown(made), gates_page.to_html(report, "t"), report.to_markdown()]
    regression = world.trained.task.kind == "regression"
    foreign = ["ROC-AUC", "log odds", "log loss", "probabilit", "Brier"] if regression else []
    said = "\n".join(texts).replace("single_field", "")
    assert not [word for word in (*foreign, "PR-AUC", "decision for") if word in said]
    own = ["R²", "RMSE", "concordance"] if regression else ["macro F1", "early", "mean ROC-AUC"]
    assert all(word in text for word in own for text in texts[:1])
