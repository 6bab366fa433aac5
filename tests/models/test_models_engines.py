"""Rows in files make the model of rows in memory, to the bit; rows with workers one as good."""

import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bento.score_folder import score_files
from bento.score_spread import score_spread
from bento.scorer import Scorer
from data import features, matrix, spread, windows
from data.errors import EvergreenError
from data.params import Params
from data.periods import parse_as_of
from models import artifact, boosting
from models.candidates import CANDIDATES, XGBOOST
from models.cluster import Cluster
from models.engines import Dask, External, Given
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


@pytest.fixture(scope="module")
def client():
    """Two workers, each a process."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1",
               "dashboard_address": None, "silence_logs": logging.CRITICAL}  # fmt: skip
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def test_workers_make_the_encoders_and_the_rows_of_one_machine(client, partitions):
    """To the bit: what only XGBoost puts together differs."""
    alone = matrix.count(PROBLEM, partitions, partitions.periods()[:5], AS_OF)
    engine = Dask(Cluster(client), 1000)
    past = engine.count(PROBLEM, partitions, partitions.periods()[:5], AS_OF)
    assert past == alone and past.fit() == alone.fit()
    some = alone.periods[1:4]
    here, there = alone.matrix(alone.fit(some), some), engine.rows(past, past.fit(some), some)
    assert len(here) == len(there)
    for one, other in zip(here.sample(300), there.sample(300), strict=True):
        np.testing.assert_array_equal(one, other)
    whole = there.whole()
    assert whole.sums() == here.sums() and whole.periods == here.periods
    np.testing.assert_array_equal(there.label, here.label)


def test_a_training_by_workers_is_as_good_as_one_in_memory(client, partitions, params, good):
    """No further from it than one with another seed is: the tolerance of docs/scaling.md."""
    address, as_of = client.scheduler.address, good.trained.windows.as_of
    dask = changed(params, engine="dask", out_of_fold_blocks=2)
    found = train(PROBLEM, partitions, dask, as_of, cluster=address)
    label, one = good.trained.holdout.label, good.trained.holdout_scores
    other = found.holdout_scores
    for name in ("base_rate", "logistic", "hist_gradient_boosting"):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert found.features == good.trained.features
    seeds = [one[XGBOOST], *(of_seed(partitions, params, good, seed) for seed in (1, 2))]
    usual = max(np.abs(seeds[0] - seed).mean() for seed in seeds[1:])
    assert 0 < np.abs(one[XGBOOST] - other[XGBOOST]).mean() < 1.5 * usual
    areas = [roc_auc_score(label, score) for score in (*seeds, other[XGBOOST])]
    assert min(areas) > 0.8 and abs(areas[0] - areas[-1]) < 0.01 + np.ptp(areas[:-1])


def of_seed(partitions, params, good, seed) -> np.ndarray:
    """What one machine answers to the holdout with another seed."""
    trained, settings = good.trained, params.xgboost.model_dump()
    rows = windows.load(partitions, PROBLEM, list(trained.windows.train), trained.windows.as_of)
    seen, held = (
        features.transform(trained.features, each.columns) for each in (rows, trained.holdout)
    )
    model = CANDIDATES[XGBOOST].train(
        PROBLEM.task, trained.features, seen, rows.label, settings, seed
    )
    return model.predict(held)


def test_without_a_row_of_one_class_workers_train_like_one_machine(
    client, filled, tmp_path, params
):
    of = filled(tmp_path, "2024-W01", "2024-W04", CLASS)
    engine = Dask(Cluster(client), 1000)
    past = engine.count(CLASS, of, of.periods(), AS_OF)
    labels = {p: np.where(v == 2, 1, v).astype(np.int8) for p, v in engine.cluster.labels.items()}
    seen = replace(engine.rows(past, past.fit()), labels=labels)
    given = Given(CLASS.task, past.fit(), seen, params.xgboost.model_dump(), SEED)
    found, again = (engine.train(XGBOOST, given).predict(seen.whole().values) for _ in range(2))
    np.testing.assert_array_equal(found, again, err_msg="the same workers make the same model")
    assert found.shape == (len(seen), 3) and found[:, 2].max() < 0.9


def test_workers_score_a_folder_as_one_machine_does(client, partitions, good, tmp_path, contents):
    files = [partitions.folder / f"2024-W{week:02d}.parquet" for week in (9, 10, 11)]
    here = score_files(Scorer.load(good.folder, "7"), files, tmp_path / "here")
    said = []
    there = score_spread(client, good.folder, "7", files, tmp_path / "there",
                         progress=lambda *done: said.append(done))  # fmt: skip
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert replace(there, path=here.path) == here and here.counts.rows == 1500
    assert said == [(500, 1500), (1000, 1500), (1500, 1500)]
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(EvergreenError, match=r"broken\.parquet cannot be read as parquet"):
        score_spread(client, good.folder, "7", [tmp_path / "broken.parquet"], tmp_path / "out")


def test_a_worker_that_is_killed_in_a_training_does_not_end_it(client, partitions, params, capsys):
    engine = Dask(Cluster(client), 1000)
    past = engine.count(PROBLEM, partitions, partitions.periods()[:5], AS_OF)
    settings = params.xgboost.model_dump() | {"n_estimators": 1500}
    given = Given(PROBLEM.task, past.fit(), engine.rows(past, past.fit()), settings, SEED)
    victim = client.run(os.getpid)[spread.workers(client)[1]]

    def training() -> bool:
        return any("fn-" in str(key) for keys in client.processing().values() for key in keys)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(engine.train, XGBOOST, given)
        while not training() and not waiting.done():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        model = waiting.result(timeout=120)
    assert "training lost the worker tcp://127.0.0.1" in capsys.readouterr().out
    seen = past.matrix(past.fit())
    assert roc_auc_score(seen.label, model.predict(seen.values)) > 0.9


def test_no_scheduler_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(spread, "LIMIT", "1s")
    with (
        pytest.raises(
            EvergreenError, match="EVERGREEN_DASK: no Dask scheduler answers at tcp://127"
        ),
        spread.opened("tcp://127.0.0.1:9"),
    ):
        pass
