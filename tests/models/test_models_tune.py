"""A study improves on the defaults or is not taken, and goes on after kill -9 as if nothing was."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from data import matrix
from data.errors import EvergreenError
from data.periods import Period, parse_as_of, span
from models import artifact, rolling, tune
from models.candidates import LOGISTIC, XGBOOST
from models.rolling import Fold
from models.train import Tuning, train
from tests.planted import PROBLEM

WEEKS = span(Period.parse("2024-W01"), Period.parse("2024-W06"))
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.conftest import planted_params
from tests.models.test_models_tune import Deadly, budget, folds_of
from data.partitions import Partitions
from models import tune
from models.candidates import LOGISTIC
made = [Deadly(**vars(fold)) for fold in folds_of(Partitions(Path(sys.argv[2])))]
tune.search(LOGISTIC, made, budget(planted_params(), 8), Path(sys.argv[3]))
"""


@dataclass(frozen=True)
class Deadly(Fold):
    """Kills its process in the middle of the fourth trial."""

    def predict(self, name, settings, seed):
        import os
        import signal

        calls = Deadly.__dict__.get("calls", 0) + 1
        Deadly.calls = calls
        if calls == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(name, settings, seed)


def folds_of(partitions):
    as_of = parse_as_of("2024-W06", PROBLEM.label_delay)
    past = matrix.count(PROBLEM, partitions, WEEKS[:5], as_of)
    return rolling.folds(past, WEEKS[3:5], PROBLEM.task)


def budget(params, trials, seconds=600):
    asked = params.tune.model_copy(update={"trials": trials, "seconds": seconds})
    return params.model_copy(update={"tune": asked.model_copy(update={"enabled": True})})


@pytest.fixture(scope="module")
def made(partitions):
    return folds_of(partitions)


def quiet(done, trials, said):
    pass


def test_a_study_that_was_killed_goes_on_and_ends_like_one_that_was_not(
    made, partitions, params, root, tmp_path
):
    asked, said = budget(params, 8), []
    whole = tune.search(LOGISTIC, made, asked, None, quiet)
    arguments = (str(root), str(partitions.folder), str(tmp_path))
    died = subprocess.run(
        [sys.executable, "-u", "-c", KILLED, *arguments],
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert died.returncode == -9, died.stderr
    assert died.stdout.count("trial ") >= 3 and "trial 4 of 8" not in died.stdout
    resumed = tune.search(LOGISTIC, made, asked, tmp_path, lambda *parts: said.append(parts[0]))
    assert resumed == whole
    assert said == [4, 5, 6, 7, 8]
    again = tune.search(LOGISTIC, made, asked, tmp_path, lambda *parts: said.append(parts))
    assert again == whole and len(said) == 5, "a study that is done is not made again"
    study, trials = whole
    assert (study.trials, study.stopped, len(trials)) == (8, "trials", 8)
    assert trials[0].settings == {"C": params.logistic.C}, "the defaults come first"
    assert study.value == max(trial.value for trial in trials if trial.state == "complete")


def test_other_data_is_another_study_and_more_trials_are_the_same(made, params, tmp_path):
    first, _ = tune.search(LOGISTIC, made, budget(params, 2), tmp_path, quiet)
    more, trials = tune.search(LOGISTIC, made, budget(params, 4), tmp_path, quiet)
    other, _ = tune.search(LOGISTIC, made[:1], budget(params, 2), tmp_path, quiet)
    assert first.key == more.key != other.key
    assert (first.trials, more.trials, len(trials), other.trials) == (2, 4, 4, 2)


def test_the_seconds_end_a_study_and_bad_trials_are_pruned(made, params):
    slow = [Slow(**vars(fold)) for fold in made]
    study, _ = tune.search(LOGISTIC, slow, budget(params, 1000, seconds=1), None, quiet)
    assert study.stopped == "seconds" and 1 <= study.trials < 1000
    pruned, trials = tune.search(LOGISTIC, made, budget(params, 20), None, quiet)
    assert 0 < pruned.pruned < 15
    assert {trial.state for trial in trials} == {"complete", "pruned"}


@dataclass(frozen=True)
class Slow(Fold):
    def predict(self, name, settings, seed):
        import time

        time.sleep(0.3)
        return super().predict(name, settings, seed)


def recorded(**settings):
    return tune.Study("0" * 64, XGBOOST, settings, 0.99, 5, 1, "trials")


@pytest.fixture(scope="module")
def asked(params):
    return budget(params, 4).model_copy(
        update={
            "rolling": params.rolling.model_copy(
                update={"selection_periods": 1, "minimum_periods": 2}
            ),
            "calibration": params.calibration.model_copy(update={"method": "none", "periods": 2}),
            "hist_gradient_boosting": params.hist_gradient_boosting.model_copy(
                update={"max_iter": 1, "max_leaf_nodes": 2}
            ),
            "xgboost": params.xgboost.model_copy(update={"n_estimators": 12}),
            "train": params.train.model_copy(update={"out_of_fold_blocks": 2}),
        }
    )


def test_tuned_settings_are_taken_only_if_they_beat_the_defaults_unseen(
    partitions, asked, tmp_path, capsys
):
    """The study calls both sets excellent; the periods that it did not see know better."""
    as_of = parse_as_of("2024-W06", PROBLEM.label_delay)

    def made(study):
        trained = train(PROBLEM, partitions, asked, as_of, Tuning(recorded=study))
        return trained, artifact.write(trained, PROBLEM, asked, tmp_path / "model")

    worse, _ = made(recorded(n_estimators=1, max_depth=1))
    assert not worse.choice.tuned and worse.choice.settings["n_estimators"] == 12
    assert "the defaults are taken, tuning (5 trials, 1 pruned) came to roc_auc" in (
        capsys.readouterr().out
    )
    assert "the defaults are taken" in worse.choice.reason
    better, digest = made(recorded(n_estimators=60, max_depth=5))
    assert better.choice.tuned and better.choice.settings["n_estimators"] == 60
    assert better.model.model.get_booster().num_boosted_rounds() == 60
    kept = artifact.load(tmp_path / "model").training
    (tmp_path / "study.json").write_text(artifact.digests.canonical_json(kept["study"]))
    assert made(tune.Study.load(tmp_path / "study.json"))[1] == digest


def test_the_study_is_part_of_training(partitions, asked, tmp_path, capsys):
    as_of = parse_as_of("2024-W06", PROBLEM.label_delay)
    trained = train(PROBLEM, partitions, asked, as_of, Tuning(tmp_path))
    assert trained.study.kind == XGBOOST and len(trained.trials) == 4
    assert "trial 4 of 4: " in capsys.readouterr().out
    study = tune.Study("0" * 64, LOGISTIC, {}, 0.5, 1, 0, "trials")
    with pytest.raises(EvergreenError, match="the recorded study is of logistic"):
        train(PROBLEM, partitions, asked, as_of, Tuning(recorded=study))
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(EvergreenError, match=r"none\.json is no recorded study"):
        tune.Study.load(tmp_path / "none.json")
