"""What a model goes by is found, and a model that goes by something else is held back."""

from dataclasses import replace

import numpy as np
import pytest

from data.features import Numeric
from data.fields import Field
from data.task import BINARY
from models import importance
from models.bootstrap import Interval
from models.importance import FieldImportance, measure, shares, shift
from tests.planted import PROBLEM, outcomes, prepare


@pytest.fixture(scope="module")
def found(good, params):
    return measure(good.artifact, good.trained.holdout, params)


def fields(**losses: float) -> list[FieldImportance]:
    return [FieldImportance(name, Interval(v, v - 0.01, v + 0.01)) for name, v in losses.items()]


def test_the_planted_causes_come_first_with_intervals_above_zero(found, good):
    assert {one.field for one in found[:3]} == {"kilos", "sent_at", "route"}
    assert {one.field for one in found} == {field.name for field in PROBLEM.fields}
    for one in found[:3]:
        assert one.loss.low > 0.02
    for one in found:
        assert one.loss.low <= one.loss.value <= one.loss.high
    assert sum(shares(found).values()) == pytest.approx(1)
    assert [one.loss.value for one in found] == sorted(
        (one.loss.value for one in found), reverse=True
    )


def test_the_same_rows_and_seed_give_the_same_importance(found, good, params):
    assert measure(good.artifact, good.trained.holdout, params) == found


def test_a_retrain_on_the_same_world_passes(good, make, params):
    later = make(as_of="2024-W10")
    held = later.trained.holdout
    own, before = (measure(m.artifact, held, params) for m in (later, good))
    verdict = shift(own, before, len(held), params.importance)
    assert verdict.passed and 0 <= verdict.value < 0.2


def test_a_model_that_hangs_on_one_new_field_is_blocked(good, make, filled, params, tmp_path):
    """A field that knows the outcome, too weakly for ingest to refuse it."""

    def leaking(batch):
        late = outcomes(batch)["label"].fillna(0).to_numpy()
        noise = np.random.default_rng(len(batch)).normal(0, 0.75, len(batch))
        return prepare(batch).assign(hint=(late + noise).clip(-5, 5))

    problem = replace(
        PROBLEM,
        fields=(*PROBLEM.fields, Field("hint", "number", "leaks", minimum=-5, maximum=5)),
        features=(*PROBLEM.features, Numeric("hint", "hint")),
        prepare=leaking,
    )
    leaky = make(problem=problem, of=filled(tmp_path / "raw", "2024-W01", "2024-W08", problem))
    held = leaky.trained.holdout
    own, before = (measure(m.artifact, held, params) for m in (leaky, good))
    verdict = shift(own, before, len(held), params.importance)
    assert verdict.passed is False and verdict.value > 0.5
    assert "most for hint: 0% ->" in verdict.reason


@pytest.mark.parametrize(
    ("own", "before", "moved"),
    [
        (fields(a=0.3, b=0.1), fields(a=0.3, b=0.1), 0.0),
        (fields(a=0.3, b=0.1), fields(a=0.6, b=0.2), 0.0),
        (fields(a=0.3, b=0.1, c=-0.2), fields(a=0.3, b=0.1), 0.0),
        (fields(a=0.75, b=0.25), fields(a=0.25, b=0.75), 0.5),
        (fields(a=1.0), fields(b=1.0), 1.0),
    ],
)
def test_the_distance_is_the_part_of_the_importance_that_moved(own, before, moved, params):
    for one, other in ((own, before), (before, own)):
        verdict = shift(one, other, 500, params.importance)
        assert verdict.value == pytest.approx(moved)
        assert verdict.passed == (moved <= params.importance.maximum_shift)


def test_nothing_to_compare_is_unknown_and_no_champion_is_fine(params):
    nothing = fields(a=-0.1, b=0.0)
    assert shift(nothing, fields(a=1.0), 500, params.importance).passed is None
    assert shift(fields(a=1.0), nothing, 500, params.importance).passed is None
    first = shift(fields(a=1.0), None, 500, params.importance)
    assert first.passed and "no champion" in first.reason


def test_the_picture_and_the_record_name_every_field(found):
    text = importance.to_json(found)
    labels = [
        label.get_text() for label in importance.figure(found, BINARY).axes[0].get_yticklabels()
    ]
    assert labels == [one.field for one in reversed(found)]
    assert all(f'"field": "{name}"' in text for name in labels)
