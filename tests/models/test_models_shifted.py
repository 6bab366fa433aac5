"""A recalibrated artefact is its base with another level, whatever kind of model it is."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data import digests
from data.errors import EvergreenError
from data.periods import Period, parse_as_of
from data.task import BINARY
from data.windows import load
from models import artifact, gates_shifted, shifted
from models.artifact import serve_scores, to_rows
from models.evidence import Case
from models.quality import log_odds
from models.yardstick import Noise, Seen
from tests.planted import PROBLEM

W10, DELAY = parse_as_of("2024-W10", PROBLEM.label_delay), PROBLEM.label_delay
SHIFT = 0.37


def of(base, value: float = SHIFT) -> shifted.Shift:
    return shifted.Shift("1", base.digest, value, 0.5, W10.isoformat(), "2024-W10", 480, {})


@pytest.fixture(scope="module")
def learned(good, partitions, params) -> shifted.Learned:
    return shifted.find(good.artifact, "1", PROBLEM, partitions, params, W10)


@pytest.fixture
def made(good, learned, tmp_path) -> artifact.Artifact:
    shifted.write(good.artifact, learned.shift, tmp_path / "made")
    return artifact.load(tmp_path / "made")


@pytest.mark.parametrize("kind", ["base_rate", "logistic", "hist_gradient_boosting", "xgboost"])
def test_every_kind_of_model_is_served_with_its_level_moved(
    kind, make, params, partitions, tmp_path
):
    names = [n for n in ("base_rate", "logistic", "xgboost") if n != kind]
    wanted = params.model_copy(update={"candidates": [*names, kind]})
    base = make(params=wanted).artifact
    assert base.training["choice"]["kind"] == kind
    digest = shifted.write(base, of(base), tmp_path / "one")
    assert digest != base.digest == artifact.load(base.folder).digest
    assert digest == shifted.write(base, of(base), tmp_path / "two")
    moved = artifact.load(tmp_path / "one")
    rows = load(partitions, PROBLEM, [Period.parse("2024-W09")], W10)
    expected = shifted.moved(base.score(rows.columns), np.asarray(SHIFT), BINARY)
    assert np.abs(moved.score(rows.columns) - expected).max() <= 1e-6
    served = serve_scores(moved, to_rows(rows.columns, moved.fields))
    assert np.abs(served - expected).max() <= 1e-6
    assert moved.training["calibration"] == base.training["calibration"]
    assert moved.training["recalibration"]["digest"] == base.digest
    with pytest.raises(EvergreenError, match="version 2 is recalibrated: start from the one"):
        shifted.find(moved, "2", PROBLEM, partitions, params, W10)


def test_the_shift_is_that_of_the_newest_period_from_the_model_as_it_was_trained(
    good, learned, partitions, params
):
    rows = load(partitions, PROBLEM, [Period.parse("2024-W10")], W10)
    odds = log_odds(good.artifact.score(rows.columns))
    assert (learned.shift.period, learned.shift.rows) == ("2024-W10", len(rows))
    before = BINARY.losses(rows.label, good.artifact.score(rows.columns)).mean()
    after = BINARY.losses(rows.label, 1 / (1 + np.exp(-odds - learned.shift.value))).mean()
    assert after < before
    assert learned.shift.partitions
    assert {name[:8] for name in learned.shift.partitions} == {"2024-W10"}
    late = parse_as_of("2024-W08", DELAY)
    with pytest.raises(EvergreenError, match="judged on 2024-W08, and no newer"):
        shifted.find(good.artifact, "1", PROBLEM, partitions, params, late)


def case(good, made, learned, params) -> Case:
    rows = learned.rows
    own = good.artifact
    seen = Seen(good.trained.windows, rows, len(rows), own.task, own.features, {})
    return Case(PROBLEM, made, good.artifact, seen, rows, {}, params.gates,
                good.artifact.threshold, 1, chance=Noise())  # fmt: skip


def test_a_sound_recalibration_passes_and_takes_over_what_was_said_of_its_model(
    good, made, learned, params
):
    before = gates_shifted.of_report({"verdicts": [
        {"name": "overfit", "passed": False, "value": 0.2, "threshold": 0.1, "n": 9,
         "interval": [0.1, 0.3], "reason": "far", "waiver": "somebody"},
        {"name": "log_loss", "passed": False, "value": 1.0, "threshold": 0.1, "n": 9,
         "interval": None, "reason": "of another week", "waiver": None},
    ]})  # fmt: skip
    report = gates_shifted.judge(case(good, made, learned, params), good.artifact, learned, before)
    failed = {verdict.name for verdict in report.verdicts if not verdict.passed}
    assert failed == {"overfit"}, "a waiver is for one version and is not taken over"
    assert "of version 1, which ranks the same: far" in report.reason
    names = [verdict.name for verdict in report.verdicts]
    assert {"same_model", "shift_size", "rehearsal", "serving_parity", "golden"} <= set(names)
    sound = gates_shifted.judge(case(good, made, learned, params), good.artifact, learned, ())
    assert sound.passed, sound.reason


@pytest.mark.parametrize("name", ["reference.json", "contract.json", "model.onnx", "training.json"])
def test_anything_but_the_level_is_seen(name, good, made, learned, params, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(made.folder, other)
    if name == "model.onnx":
        shutil.copy(good.folder / name, other / name)
    else:
        content = json.loads((other / name).read_text())
        content["train_rows" if name == "training.json" else "more"] = 1
        (other / name).write_text(digests.canonical_json(content))
    digests.seal(other)
    found = gates_shifted.same_model(artifact.load(other), good.artifact)
    assert found.passed is False and name in found.reason
    assert gates_shifted.same_model(made, good.artifact).passed


def test_a_level_that_is_far_off_and_a_bet_that_lost_are_refused(good, made, learned, params):
    far = replace(learned, shift=replace(learned.shift, value=-1.6))
    assert gates_shifted.shift_size(far, BINARY, 1.5).passed is False
    assert gates_shifted.shift_size(learned, BINARY, 1.5).passed
    judged = case(good, made, learned, params)
    assert gates_shifted.rehearsal(judged, good.artifact, learned).passed
    lost = gates_shifted.rehearsal(
        judged, good.artifact, replace(learned, rehearsed=np.asarray(1.5))
    )
    assert lost.passed is False and "2024-W09 would have led to +1.500" in lost.reason
    few = replace(judged, params=params.gates.model_copy(update={"minimum_rows": 10**6}))
    assert gates_shifted.rehearsal(few, good.artifact, learned).passed is None
