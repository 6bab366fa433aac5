"""Models of numbers and classes are recalibrated like those of two outcomes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from data.errors import EvergreenError
from data.params import Params
from data.periods import Period, parse_as_of
from data.windows import load
from models import artifact, gates_shifted, recalibrate, shifted
from models.artifact import serve_scores, to_rows
from models.evidence import Case
from models.quality import level_shift, margins
from models.yardstick import Noise, Seen
from tests.planted_tasks import CLASS, NUMBER

W10 = parse_as_of("2024-W10", NUMBER.label_delay)
LINEAR = {"hours": "ridge", "speed": "logistic"}


@pytest.fixture(scope="module", params=[NUMBER, CLASS], ids=["number", "class"])
def problem(request):
    return request.param


@pytest.fixture(scope="module")
def raw(filled, tmp_path_factory, problem):
    return filled(tmp_path_factory.mktemp("raw") / "raw", "2024-W01", "2024-W10", problem)


@pytest.fixture(scope="module")
def made(make, raw, problem, params):
    kinds = ["base_rate", LINEAR[problem.name], "xgboost"]
    chosen = Params.model_validate({**params.model_dump(), "candidates": kinds})
    return make(problem=problem, of=raw, params=chosen, n_estimators=25)


@pytest.fixture(scope="module")
def base(made) -> artifact.Artifact:
    return made.artifact


@pytest.fixture(scope="module")
def learned(base, raw, problem, params) -> shifted.Learned:
    return shifted.find(base, "1", problem, raw, params, W10)


def test_a_profile_says_how_the_answers_did(base):
    found, task = base.reference, base.task
    names = [histogram.name for histogram in found.histograms]
    assert names == [*(f.name for f in base.features), *task.columns("score")]
    whole, *others = found.slices
    assert (whole.slice, len(whole.constant)) == ("all", len(found.periods))
    assert min(whole.roc_auc) > 0.6
    by_class = {each.value for each in others if each.slice == "one class"}
    assert by_class == set(task.classes)
    assert (len(found.steps[0]) > 1) is (task.kind == "regression")


def test_a_recalibration_moves_the_level_as_far_as_it_was_learned(
    base, learned, raw, problem, params, tmp_path
):
    task, rows = base.task, learned.rows
    digest = shifted.write(base, learned.shift, tmp_path / "one")
    assert digest == shifted.write(base, learned.shift, tmp_path / "two") != base.digest
    moved = artifact.load(tmp_path / "one")
    expected = shifted.moved(base.score(rows.columns), learned.shift.margin, task)
    assert task.gap(moved.score(rows.columns), expected) <= artifact.PARITY
    served = serve_scores(moved, to_rows(rows.columns, moved.fields))
    assert task.gap(served, expected) <= artifact.PARITY
    before, after = (level_shift(rows.label, margins(model.score(rows.columns), task), task)
                     for model in (base, moved))  # fmt: skip
    shrink = params.governor.recalibration_shrink
    assert after == pytest.approx((1 - shrink) * before, abs=1e-4 * task.scale)
    assert gates_shifted.same_model(moved, base).passed
    with pytest.raises(EvergreenError, match="version 2 is recalibrated"):
        shifted.find(moved, "2", problem, raw, params, W10)


def test_a_sound_recalibration_passes_its_gates(made, base, learned, problem, params, tmp_path):
    shifted.write(base, learned.shift, tmp_path / "made")
    rows, moved = learned.rows, artifact.load(tmp_path / "made")
    seen = Seen(made.trained.windows, rows, len(rows), base.task, base.features, {})
    case = Case(problem, moved, base, seen, rows, {}, params.gates, 0.5, 1, chance=Noise())
    report = gates_shifted.judge(case, base, learned, ())
    assert report.passed and report.task == base.task, report.reason
    names = {verdict.name for verdict in report.verdicts}
    assert {"same_model", "shift_size", "rehearsal", "serving_parity", "golden"} <= names
    (rehearsed,) = (v for v in report.verdicts if v.name == "rehearsal")
    assert base.task.loss in rehearsed.reason
    far = np.array([1.5, -3, 1.5]) if base.task.classes else np.array(2 * base.task.scale)
    lost = gates_shifted.rehearsal(case, base, replace(learned, rehearsed=far))
    assert lost.passed is False


def test_a_shift_is_judged_in_log_odds_or_standard_deviations(base, learned):
    task = base.task
    assert gates_shifted.shift_size(learned, task, 1.5).passed
    value = np.array([3.2, -1.6, -1.6]) if task.classes else np.array(1.6 * task.scale)
    told = tuple(value.tolist()) if task.classes else float(value)
    shift = SimpleNamespace(margin=value, rows=480, value=told)
    found = gates_shifted.shift_size(SimpleNamespace(shift=shift), task, 1.5)
    assert found.passed is False and found.value > 1.5
    said = "log odds of early +3.200" if task.classes else "standard deviations +1.600"
    assert said in found.reason and recalibrate.say(value, task) in found.reason


def test_labels_that_are_all_the_same_teach_nothing_but_a_number(base, raw, problem):
    rows = load(raw, problem, [Period.parse("2024-W10")], W10)
    label = np.full(len(rows), rows.label[0])
    shift = recalibrate.learn(label, margins(base.score(rows.columns), base.task), 0.5, base.task)
    assert shift.any() == (base.task.kind == "regression")
