"""What holds for every kind of outcome."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from data.errors import EvergreenError
from data.task import BINARY, REGRESSION, Task, multiclass

CLASSES = multiclass(["low", "middle", "high"])
RANDOM = np.random.default_rng(7)


def test_losses_are_the_log_losses_of_the_field():
    label, p = RANDOM.integers(0, 2, 500).astype(np.int8), RANDOM.uniform(0.01, 0.99, 500)
    assert BINARY.losses(label, p).mean() == pytest.approx(log_loss(label, p))
    label, p = RANDOM.integers(0, 3, 500).astype(np.int8), RANDOM.dirichlet(np.ones(3), 500)
    assert CLASSES.losses(label, p).mean() == pytest.approx(log_loss(label, p, labels=[0, 1, 2]))
    value, told = RANDOM.normal(50, 4, 500), RANDOM.normal(50, 4, 500)
    task = REGRESSION.scaled(value)
    other = np.full(500, value.mean())
    found = task.losses(value, told) - task.losses(value, other)
    normal = norm(scale=task.scale)
    assert found == pytest.approx(normal.logpdf(value - other) - normal.logpdf(value - told))
    assert task.losses(value, other).mean() == pytest.approx(0.5)


def test_contrasts_reduce_a_ranking_to_those_of_two_outcomes():
    label, p = RANDOM.integers(0, 3, 500).astype(np.int8), RANDOM.dirichlet(np.ones(3), 500)
    areas = [roc_auc_score(*each) for each in CLASSES.contrasts(label, p)]
    wanted = roc_auc_score(label, p, multi_class="ovr", labels=[0, 1, 2])
    assert np.mean(areas) == pytest.approx(wanted)
    value = RANDOM.normal(size=500)
    perfect = [roc_auc_score(*each) for each in REGRESSION.contrasts(value, np.exp(value))]
    assert perfect == [1.0] * 5
    assert REGRESSION.contrasts(np.ones(5), value[:5]) == []


def test_residuals_of_right_answers_have_the_stated_variance():
    p = RANDOM.dirichlet(np.ones(3), 200_000)
    label = (RANDOM.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1).astype(np.int8)
    residuals = CLASSES.residuals(label, p)
    assert residuals.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.01)
    assert (residuals**2).mean(axis=0) == pytest.approx(CLASSES.variances(p).mean(axis=0), abs=0.01)
    assert CLASSES.constant(label) == pytest.approx(p.mean(axis=0), abs=0.01)


@pytest.mark.parametrize("task", [BINARY, CLASSES, REGRESSION])
def test_answers_keep_their_place_in_a_table(task):
    score = RANDOM.dirichlet(np.ones(3), 20) if task.classes else RANDOM.random(20)
    table = task.put("xgboost", score)
    assert np.array_equal(task.take(table, "xgboost"), score)
    assert Task.from_json(task.to_json()) == task


def test_labels_that_cannot_be_are_found():
    assert CLASSES.encoded(["high", None, "low"]) == pytest.approx([2, np.nan, 0], nan_ok=True)
    assert CLASSES.wrong(CLASSES.encoded(["high", None, "hihg", 1, 7])).tolist() == [
        False, False, True, False, True]  # fmt: skip
    assert BINARY.wrong(BINARY.encoded(["1", 0, None, 2, "yes"])).tolist() == [
        False, False, False, True, True]  # fmt: skip
    assert REGRESSION.wrong(REGRESSION.encoded([-3.5, None, np.inf])).tolist() == [
        False, False, True]  # fmt: skip


@pytest.mark.parametrize("classes", [(), ("a", "b"), ("a", "a", "b")])
def test_a_multiclass_task_needs_three_classes(classes):
    with pytest.raises(EvergreenError, match="3 to 100 different classes"):
        multiclass(classes)
