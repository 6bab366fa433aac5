"""Numbers and classes are trained, calibrated, written and read like two outcomes."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.special import softmax

from bento.engines import TOLERANCE
from bento.predictor import Predictor
from data import features
from data.errors import EvergreenError
from data.features import Numeric
from data.params import Params
from data.task import BINARY, REGRESSION, multiclass
from models import artifact, calibrate, evaluate, evidence, figures, gates, graphs
from models.candidates import CANDIDATES, CHALLENGER
from models.evidence import Case
from models.quality import answers, at_level, level_shift, margins, measure
from models.yardstick import Noise
from tests.planted_tasks import CLASS, NUMBER

KINDS = {"hours": "ridge", "speed": "logistic"}
RANDOM = np.random.default_rng(3)


def params_of(params: Params, problem, **changes) -> Params:
    content = params.model_dump()
    content["candidates"] = [KINDS.get(problem.name, "logistic") if name == "logistic" else name
                             for name in content["candidates"]]  # fmt: skip
    for section, values in changes.items():
        content[section] = {**content[section], **values} if isinstance(values, dict) else values
    return Params.model_validate(content)


@pytest.fixture(scope="module", params=[NUMBER, CLASS], ids=["number", "class"])
def problem(request):
    return request.param


@pytest.fixture(scope="module")
def raw(filled, tmp_path_factory, problem):
    return filled(tmp_path_factory.mktemp("raw") / "raw", "2024-W01", "2024-W08", problem)


@pytest.fixture(scope="module")
def made(make, raw, problem, params):
    chosen = params_of(params, problem, rolling={"minimum_periods": 2}, calibration={"periods": 2})
    return make(problem=problem, of=raw, params=chosen)


def test_the_signal_is_found(made, problem):
    trained, task = made.trained, made.trained.task
    label, scores = trained.holdout.label, trained.holdout_scores
    found = {name: measure(label, score, task) for name, score in scores.items()}
    base, taken = found["base_rate"], found[CHALLENGER]
    assert base.roc_auc == 0.5 and taken.roc_auc > 0.75 > found[KINDS[problem.name]].roc_auc
    assert taken.log_loss < 0.8 * base.log_loss
    if task.kind == "regression":
        assert base.log_loss == pytest.approx(0.5, abs=0.06) and taken.r2 > 0.5
        assert task.scale == pytest.approx(6.6, abs=0.5)
    assert made.artifact.task == task and made.artifact.threshold is None
    assert np.mean(made.artifact.base_rate) == pytest.approx(
        1 / 3 if task.classes else trained.holdout.label.mean(), rel=0.05)  # fmt: skip


def test_every_candidate_serves_what_it_was_trained_to(made, raw, problem, params, make):
    task, held = made.trained.task, made.trained.holdout
    matrix = features.transform(made.artifact.features, held.columns)
    for name in params_of(params, problem).candidates:
        others = [n for n in params_of(params, problem).candidates if n != name]
        chosen = params_of(params, problem, candidates=[*others, name])
        own = make(problem=problem, of=raw, params=chosen)
        assert own.trained.choice.kind == name
        rows = artifact.to_rows(held.columns, own.artifact.fields)
        served = artifact.serve_scores(own.artifact, rows)
        assert task.gap(served, own.trained.predict(matrix)) < artifact.PARITY
        assert task.gap(own.artifact.score(held.columns), served) < artifact.PARITY
        endpoint = Predictor.load(own.folder)
        assert endpoint.contract.task == task
        assert np.array_equal(endpoint.scores(rows), served)
        assert task.gap(endpoint.run_many(matrix), served) < TOLERANCE


def test_a_calibrated_model_is_written_with_its_calibration(made, params, tmp_path, problem):
    trained, task = made.trained, made.trained.task
    shift = (0.5, -0.25, -0.25) if task.classes else 2.0
    moved = calibrate.Calibration("platt", 0.8, shift)
    held = trained.holdout
    matrix = features.transform(trained.features, held.columns)
    for name in ("base_rate", KINDS[problem.name], "hist_gradient_boosting", "xgboost"):
        candidate = CANDIDATES[name]
        model = candidate.train(
            task, trained.features, matrix, held.label, candidate.settings(params), 0
        )
        artifact.write(replace(trained, calibration=moved, model=model), problem, params, tmp_path)
        own = artifact.load(tmp_path)
        wanted = answers(0.8 * model.margin(matrix) + np.array(shift), task)
        served = artifact.serve_scores(own, artifact.to_rows(held.columns, own.fields))
        assert task.gap(served, wanted) < artifact.PARITY
        assert task.gap(own.score(held.columns), wanted) < artifact.PARITY
        assert task.gap(model.predict(matrix), wanted) > 100 * artifact.PARITY
        onnx_model = onnx.load(tmp_path / "model.onnx")
        graphs.moved(onnx_model, np.array(shift), task)
        (tmp_path / "model.onnx").write_bytes(graphs.to_bytes(onnx_model))
        served = artifact.serve_scores(own, artifact.to_rows(held.columns, own.fields))
        twice = answers(0.8 * model.margin(matrix) + 2 * np.array(shift), task)
        assert task.gap(served, twice) < artifact.PARITY


def test_calibration_finds_the_distortion(problem):
    task = problem.task
    if task.classes:
        true = RANDOM.normal(size=(4000, 3))
        chance = softmax(true, axis=1)
        label = (RANDOM.random((4000, 1)) > chance.cumsum(axis=1)).sum(axis=1).astype(np.int8)
        slope, shift = calibrate.line(label, 2 * true + [1.0, 0.0, -1.0], task)
        assert (slope, *np.round(shift, 1)) == pytest.approx((0.5, -0.5, 0.0, 0.5), abs=0.1)
    else:
        true = RANDOM.normal(50, 5, 4000)
        label, task = true + RANDOM.normal(size=4000), REGRESSION.scaled(true)
        assert calibrate.line(label, 2 * true + 3, task) == pytest.approx((0.5, -1.5), abs=0.2)


def test_the_gates_come_to_the_same_scale_and_calibration(make, raw, problem, params):
    """Of a model whose few trees are timid, so that a calibration helps."""
    kinds = ["base_rate", KINDS[problem.name], "xgboost"]
    chosen = params_of(params, problem, candidates=kinds, rolling={"minimum_periods": 2},
                       calibration={"periods": 2})  # fmt: skip
    timid = make(problem=problem, of=raw, params=chosen, n_estimators=5)
    trained, task = timid.trained, timid.trained.task
    seen = evidence.gather(problem, raw, chosen, trained.windows.as_of)
    assert seen.task == task and seen.features == trained.features
    due = evidence.calibration_due(trained.rolling, seen, chosen)
    assert due == trained.calibration and due.method == "platt" and due.slope > 1.1
    given = (problem, timid.artifact, None, seen, trained.holdout, trained.holdout_scores)
    case = Case(*given, chosen.gates, 0.5, 1, due, Noise())
    assert gates.judged("calibration_level", case).passed
    assert gates.judged("calibration_slope", case).value > 1.1, "before the calibration"
    other = tuple(shift + 0.1 for shift in due.shift) if task.classes else due.shift + 0.1
    found = gates.judged("calibration_level", replace(case, calibration=replace(due, shift=other)))
    assert found.passed is False and "is not the calibration" in found.reason


def test_answers_are_moved_to_the_labels_level(made):
    task, held = made.trained.task, made.trained.holdout
    score = made.trained.holdout_scores[CHALLENGER]
    margin = margins(score, task)
    off = answers(margin + np.arange(task.width) if task.classes else margin + 5, task)
    moved = at_level(held.label, off, task)
    assert moved.mean(axis=0) == pytest.approx(task.constant(held.label), rel=1e-6)
    assert level_shift(held.label, margins(moved, task), task) == pytest.approx(0, abs=1e-6)


def test_metrics_and_pictures_are_made(made, params, problem):
    trained, task = made.trained, made.trained.task
    found = evaluate.summary(trained.holdout_table(), trained.rolling, params, task)
    assert "decision" not in found and set(found["rolling"]) >= {CHALLENGER, "xgboost"}
    short = evaluate.headline(found)
    assert {"roc_auc", "roc_auc_low", "log_loss", "rolling_roc_auc"} <= set(short)
    assert ("r2" in short) == (task.kind == "regression") != ("accuracy" in short)
    periods = evaluate.by_period(trained.rolling, params, task)
    names = [feature.name for feature in trained.features]
    gains = dict(zip(names, trained.model.importance(len(names)), strict=True))
    drawn = figures.figures(trained.holdout.label, trained.holdout_scores, gains, task, periods)
    assert set(drawn) == {"roc", "precision_recall", "calibration", "importance", "rolling"}


def test_a_class_that_the_rows_do_not_have_is_known_all_the_same(params):
    task, matrix = multiclass("abcd"), RANDOM.normal(size=(300, 2)).astype(np.float32)
    label = (matrix[:, 0] > 0).astype(np.int8) * 3
    fitted = tuple(f for f in CLASS.features if f.name in ("kilos", "queue"))
    for name in ("logistic", "hist_gradient_boosting", "xgboost"):
        candidate = CANDIDATES[name]
        model = candidate.train(task, fitted, matrix, label, candidate.settings(params), 0)
        score = model.predict(matrix)
        assert score.shape == (300, 4) and score[:, 1:3].max() < 0.05
        assert (score.argmax(axis=1) == label).mean() > 0.95


def test_a_candidate_of_another_task_is_refused(make, raw, params, problem):
    wrong = "ridge" if problem.task.classes else "logistic"
    names = ["base_rate", wrong, "xgboost"]
    with pytest.raises(EvergreenError, match=f"{wrong} is none for a {problem.task.kind} problem"):
        make(problem=problem, of=raw, params=params_of(params, problem, candidates=names))


@pytest.mark.parametrize("task", [BINARY, multiclass(["a", "b", "c"]), REGRESSION])
def test_a_linear_model_of_numbers_alone_serves_what_it_was_trained_to(task, params):
    """No text makes its matrix double, so that this is for the model to do."""
    matrix = (RANDOM.normal(size=(600, 3)) * [1, 1e3, 1e-2]).astype(np.float32)
    matrix[::7, 1] = np.nan
    label = (matrix[:, 0] > 0).astype(int) + (matrix[:, 2] > 0) * (task.kind == "multiclass")
    fitted = [Numeric(name, name) for name in "xyz"]
    kind = CANDIDATES["ridge" if task.kind == "regression" else "logistic"]
    made = kind.train(task, fitted, matrix, label, kind.settings(params), 1)
    session = onnxruntime.InferenceSession(graphs.to_bytes(made.to_onnx(3, 1.0, 0.0)))
    (found,) = session.run(None, {graphs.FEATURES: matrix})
    np.testing.assert_allclose(graphs.score(found, task).squeeze(), made.predict(matrix), atol=1e-6)
