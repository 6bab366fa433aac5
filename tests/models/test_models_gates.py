"""Each gate blocks the challenger that it is there for; a good one passes all."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data import digests
from models import artifact, gates
from models.candidates import LOGISTIC
from tests.planted import PROBLEM, outcomes, read


def judge(made, params, *, artefact=None, champion=None, rows=None):
    held, scores = made.trained.holdout, dict(made.trained.holdout_scores)
    if rows is not None:
        held, scores = held.take(rows), {name: s[rows] for name, s in scores.items()}
    return gates.judge(
        artefact or made.artifact, held.columns, held.label, held.day, scores,
        champion.artifact if champion else None, params.gates, params.train.seed,
    )  # fmt: skip


def blocked(report) -> set[str]:
    assert report.passed is not bool([v for v in report.verdicts if not v.passed])
    return {verdict.name for verdict in report.verdicts if not verdict.passed}


def test_a_good_challenger_passes_alone_and_against_a_champion(good, make, params):
    alone = judge(good, params)
    assert alone.passed and alone.champion is None
    names = [verdict.name for verdict in alone.verdicts]
    assert names == ["beats_base_rate", "beats_logistic", "log_loss", "serving_parity"]
    assert alone.reason == "all 4 gates passed"
    against = judge(good, params, champion=make(n_estimators=4, max_depth=2))
    assert against.passed and len(against.verdicts) == 5
    assert judge(good, params) == alone


def test_after_the_change_the_retrained_model_passes_against_the_old_one(good, make, params):
    report = judge(make(as_of="2024-W14"), params, champion=good)
    assert report.passed, report.reason
    gain = next(v for v in report.verdicts if v.name == "not_worse_than_champion")
    assert gain.interval[0] > 0.03


def test_a_model_of_noise_does_not_beat_the_base_rate(make, params, filled, tmp_path):
    random = np.random.default_rng(1)

    def noise(batch):
        found = outcomes(batch)
        drawn = pd.Series(random.integers(0, 2, len(found)), dtype=float)
        return found.assign(label=drawn.where(found["label"].notna()))

    problem = replace(PROBLEM, outcomes=noise)
    of = filled(tmp_path / "raw", "2024-W01", "2024-W08", problem)
    assert "beats_base_rate" in blocked(judge(make(problem=problem, of=of), params))


def test_what_is_judged_is_the_artefact_not_what_training_said_of_it(good, make, params):
    """The scores are the good model's, the artefact is one that learned a single stump."""
    weak = make(n_estimators=1, max_depth=1)
    report = judge(good, params, artefact=weak.artifact, champion=good)
    assert "not_worse_than_champion" in blocked(report)


def test_a_challenger_below_the_linear_model_is_blocked(make, params, filled, tmp_path):
    """In a world that a line describes, a stump is worse than the line."""

    def linear(period):
        batch = read(period)
        random = np.random.default_rng(int(period.name[-2:]))
        odds = (batch["queue"] - 12) / 3 + (batch["size"] == "large")
        late = random.random(len(batch)) < 1 / (1 + np.exp(-odds))
        delay = np.where(late, 5.0, 0.5)
        return batch.assign(delay_hours=np.where(batch["fate"] == "lost", np.nan, delay))

    problem = replace(PROBLEM, read=linear)
    of = filled(tmp_path / "raw", "2024-W01", "2024-W08", problem)
    report = judge(make(problem=problem, of=of, n_estimators=1, max_depth=1), params)
    assert blocked(report) == {"beats_logistic"}


def test_a_challenger_below_the_champion_is_blocked(good, make, params):
    worse = make(n_estimators=4, max_depth=2)
    assert judge(worse, params).passed, "the champion alone must be what blocks it"
    assert "not_worse_than_champion" in blocked(judge(worse, params, champion=good))


def test_an_overconfident_challenger_is_blocked(make, params):
    """It ranks better than the base rate and loses more than it."""
    wild = make(n_estimators=40, max_depth=9, learning_rate=1.0, min_child_weight=0.0,
                reg_lambda=0.0)  # fmt: skip
    found = blocked(judge(wild, params))
    assert "log_loss" in found and "beats_base_rate" not in found


def test_a_served_model_that_differs_from_the_trained_one_is_blocked(good, make, params, tmp_path):
    folder = shutil.copytree(good.folder, tmp_path / "tampered")
    other = make(n_estimators=59)
    (folder / "model.onnx").write_bytes((other.folder / "model.onnx").read_bytes())
    digests.seal(folder)
    report = judge(good, params, artefact=artifact.load(folder))
    assert blocked(report) == {"serving_parity"}
    gap = report.verdicts[-1].value
    assert params.gates.parity_tolerance < gap < 0.1


def test_a_vocabulary_in_another_order_is_blocked(good, params, tmp_path):
    """Training's and serving's path share it, so parity holds: the ranking gives it away."""
    folder = shutil.copytree(good.folder, tmp_path / "tampered")
    text = (folder / "contract.json").read_text()
    assert '"vocabulary":["coast","hills","plain","river"]' in text
    text = text.replace('["coast","hills","plain","river"]', '["hills","coast","river","plain"]')
    (folder / "contract.json").write_text(text)
    digests.seal(folder)
    report = judge(good, params, artefact=artifact.load(folder), champion=good)
    assert "not_worse_than_champion" in blocked(report)


@pytest.mark.parametrize("kind", ["few rows", "one day", "one outcome"])
def test_too_little_to_judge_is_unknown_and_blocks(kind, good, params):
    held = good.trained.holdout
    few = params.model_copy(update={"gates": params.gates.model_copy(update={"minimum_rows": 20})})
    rows, chosen = {
        "few rows": (np.arange(len(held)) < params.gates.minimum_rows - 1, params),
        "one day": (held.day == held.day[0], few),
        "one outcome": (held.label == 1, few),
    }[kind]
    report = judge(good, chosen, rows=rows)
    assert not report.passed
    unknown = [v for v in report.verdicts if v.passed is None]
    assert [v.name for v in unknown] == ["beats_base_rate", "beats_logistic", "log_loss"]
    assert all(v.value is None and f"{rows.sum()} rows cannot be judged" in v.reason
               for v in unknown)  # fmt: skip
    assert "**unknown**" in report.to_markdown() and unknown[0].reason in report.reason


def test_disturbed_rows_have_nulls_and_categories_that_nobody_saw(good, params):
    columns = gates.disturbed(good.trained.holdout.columns, PROBLEM.fields, 2000, seed=1)
    unseen = np.mean(columns["route"] == "never seen before")
    assert 0.05 < unseen < 0.15
    assert set(columns["size"]) == {"large", "small"}
    before = np.isnan(good.trained.holdout.columns["kilos"]).mean()
    assert 0.05 < np.isnan(columns["kilos"]).mean() - before < 0.15
    assert not np.isnan(columns["queue"]).any()


def test_a_margin_is_what_the_verdict_is_measured_against(good, params):
    """The same challenger passes or fails with the margin around its own interval."""
    first = next(v for v in judge(good, params).verdicts if v.name == "beats_logistic")
    for by, passes in ((first.interval[0] - 1e-6, True), (first.interval[0] + 1e-6, False)):
        changed = params.gates.model_copy(update={"beat_logistic_by": by})
        report = judge(good, params.model_copy(update={"gates": changed}))
        assert (LOGISTIC in str(blocked(report))) is not passes
