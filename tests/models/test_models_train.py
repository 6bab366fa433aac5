"""Training is a function of the past and the parameters; the artefact is what came of it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from data import digests, matrix
from data.errors import EvergreenError
from data.periods import parse_as_of
from data.task import BINARY
from models import artifact, train
from models.artifact import serve_scores, to_requests, to_rows
from models.candidates import (
    BASE_RATE,
    CANDIDATES,
    CHALLENGER,
    HIST_GRADIENT_BOOSTING,
    LOGISTIC,
    XGBOOST,
)
from tests.planted import PROBLEM, outcomes, read


@pytest.fixture
def copy(good, tmp_path) -> Path:
    return Path(shutil.copytree(good.folder, tmp_path / "copy"))


def test_the_same_past_gives_the_same_bytes_whatever_comes_later(
    good, make, filled, tmp_path, contents
):
    past = filled(tmp_path / "raw", "2024-W01", "2024-W08")
    again = make(of=past)
    assert again.digest == good.digest
    assert contents(again.folder) == contents(good.folder)


def test_one_label_or_one_parameter_gives_another_model(good, make, filled, tmp_path):
    def flipped(batch):
        found = outcomes(batch)
        if batch["key"].iloc[0].startswith("2024-W03"):
            row = found["label"].first_valid_index()
            found.loc[row, "label"] = 1 - found.loc[row, "label"]
        return found

    other = filled(tmp_path / "raw", "2024-W01", "2024-W08", replace(PROBLEM, outcomes=flipped))
    digests_found = {
        good.digest,
        make(of=other).digest,
        make(max_depth=3).digest,
        make(as_of="2024-W09").digest,
        make(problem=replace(PROBLEM, features=PROBLEM.features[:-1])).digest,
    }
    assert len(digests_found) == 5


def test_every_candidate_is_scored_on_the_holdout_and_the_signal_is_found(good):
    trained = good.trained
    scores, label = trained.holdout_scores, trained.holdout.label
    names = [CHALLENGER, BASE_RATE, LOGISTIC, HIST_GRADIENT_BOOSTING, XGBOOST]
    assert list(scores) == names
    np.testing.assert_array_equal(scores[CHALLENGER], scores[XGBOOST])
    assert [p.name for p in trained.windows.holdout] == ["2024-W08"]
    aucs = {name: roc_auc_score(label, values) for name, values in scores.items()}
    assert aucs[BASE_RATE] == 0.5 and aucs[XGBOOST] > 0.8 > 0.7 > aucs[LOGISTIC] > 0.5
    table = trained.holdout_table()
    assert list(table.columns) == ["key", "day", "label", *names]
    assert len(table) == len(label) > 400


def test_the_fitted_state_knows_the_training_rows_only(good, partitions):
    """The rate of a route and the base rate, counted by hand without the holdout."""
    labels = [outcomes(read(period)).assign(route=read(period)["route"])
              for period in good.trained.windows.train]  # fmt: skip
    known = [part.dropna(subset="label") for part in labels]
    rows = sum(map(len, known))
    late = sum(part["label"].sum() for part in known)
    assert good.trained.train_rows == rows
    assert good.artifact.base_rate == pytest.approx(late / rows)
    on_coast = [part[part["route"] == "coast"]["label"] for part in known]
    n, positives = sum(map(len, on_coast)), sum(part.sum() for part in on_coast)
    rate = next(f for f in good.artifact.features if f.kind == "historical_rate")
    assert dict(rate.rates)["coast"] == pytest.approx((positives + 50 * late / rows) / (n + 50))


def test_out_of_fold_scores_come_from_models_that_did_not_see_the_row(
    filled, tmp_path, params, good
):
    """With labels drawn at random, in-sample scores would still seem to know them."""
    random = np.random.default_rng(3)

    def noise(batch):
        found = outcomes(batch)
        drawn = pd.Series(random.integers(0, 2, len(batch)), dtype=float)
        return found.assign(label=drawn.where(found["label"].notna()))

    raw = filled(tmp_path / "raw", "2024-W01", "2024-W07", replace(PROBLEM, outcomes=noise))
    past = matrix.count(PROBLEM, raw, good.trained.windows.train, good.trained.windows.as_of)
    fitted, choice = past.fit(), good.trained.choice
    rows = past.matrix(fitted)
    fit = CANDIDATES[choice.kind].train
    seen = fit(BINARY, fitted, rows.values, rows.label, choice.settings, 1).predict(rows.values)
    unseen = train.out_of_fold_scores(past, choice, good.trained.calibration, params, BINARY)
    assert roc_auc_score(rows.label, seen) > 0.65
    assert abs(roc_auc_score(rows.label, unseen) - 0.5) < 0.03


LINEAR = """
import sys
import numpy as np
from data.features import Numeric
from data.task import BINARY
from models.candidates import CANDIDATES
draws = np.random.default_rng(7).normal(size=(20_000, 31))
columns = [Numeric(str(n), str(n)) for n in range(30)]
label = (draws.sum(axis=1) > 0).astype(np.int8)
settings = {"C": 0.1, "max_iter": 50}
matrix = draws[:, :30].astype(np.float32)
fitted = CANDIDATES["logistic"].train(BINARY, columns, matrix, label, settings, 1)
sys.stdout.write(fitted.pipeline["model"].coef_.tobytes().hex())
"""


def test_a_linear_model_is_the_same_on_a_machine_with_other_cores():
    found = {
        subprocess.check_output(
            [sys.executable, "-c", LINEAR], env={**os.environ, "OPENBLAS_NUM_THREADS": threads}
        )
        for threads in ("1", "2")
    }
    assert len(found) == 1 and found != {b""}


def test_one_outcome_only_is_refused(filled, tmp_path, make):
    def never(batch):
        return outcomes(batch).assign(label=lambda found: found["label"].where(
            found["label"].isna(), 0.0))  # fmt: skip

    same, despite = replace(PROBLEM, outcomes=never), ("constant label",)
    of = filled(tmp_path / "raw", "2024-W01", "2024-W08", same, despite=despite)
    with pytest.raises(EvergreenError, match="training needs outcomes of 'late' that differ"):
        make(problem=same, of=of)


def test_the_threshold_is_where_both_errors_cost_the_same(good, params):
    p, costs = good.artifact.threshold, params.decision
    cost_of_yes, cost_of_no = (1 - p) * costs.cost_false_positive, p * costs.cost_false_negative
    assert cost_of_yes == pytest.approx(cost_of_no)


def test_the_artefact_scores_as_training_did_in_both_forms(good):
    held = good.trained.holdout
    expected = good.trained.holdout_scores[CHALLENGER]
    np.testing.assert_array_equal(good.artifact.score(held.columns), expected)
    served = serve_scores(good.artifact, to_rows(held.columns, good.artifact.fields))
    np.testing.assert_allclose(served, expected, atol=1e-6)
    golden = json.loads((good.folder / "golden.json").read_text())
    requests = to_requests(held.columns, good.artifact.fields)
    assert len(golden["rows"]) == 200
    for row, probability in zip(golden["rows"], golden["probabilities"], strict=True):
        assert probability == pytest.approx(expected[requests.index(row)], abs=1e-9)


def test_the_artefact_says_what_it_was_made_from(good, partitions, params):
    training = good.artifact.training
    assert training["train"] == [f"2024-W0{i}" for i in range(1, 8)]
    assert training["holdout"] == ["2024-W08"]
    assert training["partitions"] == partitions.fingerprint(good.trained.windows.periods)
    assert training["params"]["xgboost"] == params.xgboost.model_dump()
    assert good.artifact.reference.periods == tuple(training["train"])


def test_the_artefact_is_plain_files_without_pickle(good):
    names = {path.name for path in good.folder.iterdir()}
    texts = {"contract", "reference", "golden", "training", "model", "manifest"}
    assert names == {"model.onnx", *(f"{name}.json" for name in texts)}
    for path in good.folder.glob("*.json"):
        json.loads(path.read_text())
    onnx = (good.folder / "model.onnx").read_bytes()
    assert not onnx.startswith(b"\x80") and b"TreeEnsembleClassifier" in onnx


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.json", "contract.json", "golden.json", "training.json"]
)
def test_a_flipped_byte_or_a_lost_file_is_named(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(EvergreenError, match=f"{name} differs from its manifest"):
        artifact.load(copy)
    (copy / name).unlink()
    with pytest.raises(EvergreenError, match=f"{name} is missing"):
        artifact.load(copy)


def test_an_extra_file_is_named(copy):
    (copy / "more").mkdir()
    (copy / "more" / "model.pkl").write_bytes(b"")
    with pytest.raises(EvergreenError, match=r"more/model\.pkl, which its manifest does not name"):
        digests.verify(copy)


def test_a_manifest_that_was_changed_with_its_file_has_another_digest(copy, good):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "training.json").write_text("{}")
    manifest["files"]["training.json"] = digests.sha256_file(copy / "training.json")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EvergreenError, match="its digest does not fit its entries"):
        digests.verify(copy)
    assert digests.seal(copy) != good.digest


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"files": ["a"], "digest": ""}'])
def test_a_folder_without_a_readable_manifest_is_refused(copy, text):
    (copy / "manifest.json").unlink()
    if text is not None:
        (copy / "manifest.json").write_text(text)
    with pytest.raises(EvergreenError, match=r"no readable manifest\.json"):
        artifact.load(copy)


def test_a_retrain_after_the_change_helps(good, make, partitions):
    """The planted change is one that a week of new data lets a model learn."""
    new = make(as_of="2024-W14")
    held = new.trained.holdout
    old = roc_auc_score(held.label, good.artifact.score(held.columns))
    assert roc_auc_score(held.label, new.artifact.score(held.columns)) > old + 0.05
    assert new.trained.windows.as_of == parse_as_of("2024-W14", PROBLEM.label_delay)
