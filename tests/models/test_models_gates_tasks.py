"""The gates judge numbers and several classes as they judge two outcomes."""

import numpy as np
import pytest

from data.params import Params
from models import card, gates, gates_page, importance, page
from models.card import Evidence
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


def blocked(report) -> set[str]:
    return {verdict.name for verdict in report.verdicts if not verdict.passed}


def test_a_good_model_passes_alone_and_against_a_champion(world, report):
    assert report.passed, report.reason
    champion = world.made(world.fit(world.values, world.label, n_estimators=40))
    against = world.judge(world.good, champion)
    assert against.passed, against.reason
    assert [verdict.name for verdict in against.verdicts] == list(gates.GATES)


@pytest.mark.parametrize("kind", bad_contracts.RETRAINS)
def test_a_retrain_that_is_as_good_passes(kind, world):
    report = world.judge(bad_contracts.same_quality(world, kind, 5), world.good)
    assert report.passed, report.reason


FAULTS = {
    "beats_base_rate": (bad_tasks.turned, 1.0),
    "beats_logistic": (bad_models.shuffled, 1.0),
    "not_worse_than_yardstick": (bad_models.weak, 1),
    "not_worse_than_champion": (bad_models.shuffled, 0.8),
    "log_loss": (bad_tasks.turned, 1.0),
    "overfit": (bad_models.overfit, 14),
    "holdout_untouched": (bad_models.seen_holdout, 4),
    "calibration": (bad_models.shuffled, 0.6),
    "calibration_level": (bad_tasks.off_level, 0.6),
    "calibration_slope": (bad_tasks.bold, 2.0),
    "slice_bias": (bad_tasks.biased, 0.8),
    "slice_fit": (bad_models.slice_noise, 1.0),
    "slice_regression": (bad_models.overfit, 14),
    "missing_values": (bad_tasks.gullible, 0.4),
    "noise": (bad_models.overfit, 14),
    "serving_parity": (bad_models.other_graph, 59),
    "golden": (bad_models.other_graph, 59),
    "finite": (bad_models.nan_weights, 5),
    "single_field_auc": (bad_contracts.leaky, 1.0),
    "plausible_auc": (bad_contracts.leaky, 0.1),
    "permutation": (bad_contracts.leaky, 0.3),
    "fitted_state": (bad_tasks.contract, {"scale": 5.0}),
    "schema": (bad_tasks.contract, {"kind": "binary", "classes": []}),
}


@pytest.mark.parametrize("gate", FAULTS)
def test_a_gate_blocks_the_bad_model_that_it_is_there_for(gate, world):
    make, strength = FAULTS[gate]
    made = make(world, strength, 1)
    where, artefact = made if isinstance(made, tuple) else (world, made)
    verdicts = where.judge(artefact, world.good if where is world else None).verdicts
    (found,) = [verdict for verdict in verdicts if verdict.name == gate]
    assert found.passed is False, found.reason
