"""Rows in files make the model that rows in memory make, to the bit."""

from dataclasses import replace

import numpy as np
import pytest

from data import matrix
from data.params import Params
from data.periods import parse_as_of
from models import artifact, boosting
from models.candidates import CANDIDATES, XGBOOST
from models.engines import External, Given
from models.train import train
from tests.planted import PROBLEM
from tests.planted_tasks import CLASS, NUMBER

SEED = 7
AS_OF = parse_as_of("2024-W05", PROBLEM.label_delay)


def changed(params: Params, **settings) -> Params:
    content = params.model_dump()
    content["train"] |= settings
    return Params.model_validate(content)


@pytest.mark.parametrize("problem", [PROBLEM, CLASS, NUMBER], ids=["two", "class", "number"])
def test_rows_from_files_make_the_same_booster(
    problem, filled, tmp_path, params, partitions, monkeypatch
):
    """Batches that are no periods; one class has no rows and is known all the same."""
    monkeypatch.setattr(boosting, "BATCH", 333)
    of = partitions if problem is PROBLEM else filled(tmp_path, "2024-W01", "2024-W04", problem)
    past = matrix.count(problem, of, of.periods()[:4], AS_OF)
    fitted, settings = past.fit(), params.xgboost.model_dump()
    seen = past.matrix(fitted)
    if problem is CLASS:
        seen = replace(seen, label=np.where(seen.label == 2, 1, seen.label).astype(np.int8))
    task = problem.task.scaled(seen.label)
    whole = CANDIDATES[XGBOOST].train(task, fitted, seen.values, seen.label, settings, SEED)
    found = External(1000).train(XGBOOST, Given(task, fitted, seen, settings, SEED))
    one, other = (model.model.get_booster() for model in (whole, found))
    assert one.save_raw("json") == other.save_raw("json")
    np.testing.assert_array_equal(found.predict(seen.values), whole.predict(seen.values))
    assert len(set(np.round(found.margin(seen.values).ravel(), 4))) > 100


def test_a_whole_training_from_files_leaves_the_same_artefact(
    partitions, params, good, tmp_path, contents
):
    """But for the record of how it was made."""
    external = changed(params, engine="external")
    trained = train(PROBLEM, partitions, external, good.trained.windows.as_of)
    artifact.write(trained, PROBLEM, external, tmp_path / "model")
    one, other = contents(good.folder), contents(tmp_path / "model")
    differing = {name for name in one | other if one.get(name) != other.get(name)}
    assert differing == {"training.json", "manifest.json"}
    recorded = artifact.model_params(external)["train"]
    assert (
        recorded["engine"] == "external" and "engine" not in artifact.model_params(params)["train"]
    )


def test_the_others_learn_from_an_even_sample(partitions, params):
    past = matrix.count(PROBLEM, partitions, partitions.periods()[:5], AS_OF)
    seen = past.matrix(past.fit())
    values, label = seen.sample(1000)
    assert 700 < len(label) <= 1000 and len(values) == len(label)
    np.testing.assert_array_equal(values, seen.values[:: matrix.stride(len(seen), 1000)])
    given = Given(PROBLEM.task, past.fit(), seen, params.logistic.model_dump(), SEED)
    sampled = External(1000).train("logistic", given)
    alone = CANDIDATES["logistic"].train(
        PROBLEM.task, past.fit(), values, label, params.logistic.model_dump(), SEED
    )
    np.testing.assert_array_equal(sampled.predict(seen.values), alone.predict(seen.values))
    all_of_them = External(10**6).train("logistic", given)
    assert (all_of_them.predict(seen.values) != alone.predict(seen.values)).any()
