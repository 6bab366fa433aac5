"""Whichever candidate is best in its own past is taken, calibrated if that helps, and served."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bento.predictor import Predictor
from data.periods import Period, span
from data.task import BINARY
from models import calibrate, evaluate, evidence, gates, rolling
from models.artifact import to_rows
from models.candidates import BASE_RATE, CHALLENGER, HIST_GRADIENT_BOOSTING, LOGISTIC, XGBOOST
from models.evidence import Case
from models.gates_behaviour import disturbed
from tests.planted import PROBLEM, outcomes


def changed(params, **sections):
    updates = {name: getattr(params, name).model_copy(update=values)
               for name, values in sections.items()}  # fmt: skip
    return params.model_copy(update=updates)


@pytest.fixture(scope="module")
def comparing(params):
    """Five training periods are enough: one to select on, two to calibrate on."""
    return changed(
        params,
        rolling={"selection_periods": 1, "minimum_periods": 2},
        calibration={"periods": 2},
        train={"out_of_fold_blocks": 2},
        xgboost={"n_estimators": 30},
    )


def judged(gate, made, params, problem, of):
    """One gate's verdict on a model."""
    trained, artifact = made.trained, made.artifact
    seen = evidence.gather(problem, of, params, trained.windows.as_of)
    case = Case(problem, artifact, None, seen, trained.holdout, trained.holdout_scores,
                params.gates, artifact.threshold, 1, trained.calibration)  # fmt: skip
    return gates.GATES[gate](case)


def noise(batch):
    found = outcomes(batch)
    drawn = np.random.default_rng(int(batch["key"].iloc[0][6:8])).integers(0, 2, len(found))
    return found.assign(label=pd.Series(drawn, dtype=float).where(found["label"].notna()))


def linear(batch):
    """A world that a line describes, and gaps in the weight that say something."""
    odds = (batch["queue"] - 12) / 3 + (batch["size"] == "large") + batch["kilos"].isna()
    drawn = np.random.default_rng(int(batch["key"].iloc[0][6:8])).random(len(batch))
    label = pd.Series(drawn < 1 / (1 + np.exp(-odds))).astype(float)
    return outcomes(batch).assign(label=lambda found: label.where(found["label"].notna()))


@pytest.mark.parametrize(
    ("best", "sections", "world"),
    [
        (BASE_RATE, {"rolling": {"metric": "log_loss"}}, noise),
        (LOGISTIC, {}, linear),
        (HIST_GRADIENT_BOOSTING, {"xgboost": {"n_estimators": 2, "max_depth": 2}}, outcomes),
        (XGBOOST, {"hist_gradient_boosting": {"max_iter": 2, "max_leaf_nodes": 3}}, outcomes),
    ],
)
def test_each_candidate_wins_its_own_world_and_is_served_as_trained(
    best, sections, world, comparing, make, filled, tmp_path
):
    params = changed(comparing, **sections)
    problem = replace(PROBLEM, outcomes=world)
    of = filled(tmp_path / "raw", "2024-W01", "2024-W06", problem)
    made = make(as_of="2024-W06", params=params, problem=problem, of=of)
    trained, found = made.trained, made.artifact
    assert trained.choice.kind == best and not trained.choice.tuned
    assert trained.choice.reason.startswith(f"{best} has the best {params.rolling.metric}")
    assert found.training["choice"]["reason"] == trained.choice.reason
    assert sorted(set(trained.rolling["period"])) == ["2024-W03", "2024-W04", "2024-W05"]
    columns = disturbed(trained.holdout.columns, PROBLEM.fields, 300, seed=2)
    expected = trained.predict(found.matrix(columns))
    served = Predictor.load(made.folder).scores(to_rows(columns, found.fields))
    np.testing.assert_allclose(served, expected, atol=1e-6)
    np.testing.assert_allclose(found.score(columns), expected, atol=1e-6)
    parity = judged("serving_parity", made, params, problem, of)
    assert parity.passed, parity.reason
    shares = trained.model.importance(len(found.features))
    assert shares.sum() == pytest.approx(0 if best == BASE_RATE else 1, abs=1e-6)
    assert make(as_of="2024-W06", params=params, problem=problem, of=of).digest == made.digest


def test_an_overconfident_model_is_calibrated_and_served_so(comparing, make, params, partitions):
    """Ranking stays as it is; the log loss gate that blocks the raw model lets it through."""
    wild = {"n_estimators": 40, "max_depth": 9, "learning_rate": 1.0, "min_child_weight": 0.0,
            "reg_lambda": 0.0}  # fmt: skip
    weak = {"max_iter": 1, "max_leaf_nodes": 2}
    made = make(params=changed(comparing, xgboost=wild, hist_gradient_boosting=weak))
    trained, scores = made.trained, made.trained.holdout_scores
    assert trained.choice.kind == XGBOOST and trained.calibration.method == "platt"
    assert 0 < trained.calibration.slope < 0.8
    assert trained.calibration.periods == ("2024-W06", "2024-W07")
    label = trained.holdout.label
    loss = {name: BINARY.losses(label, scores[name]).mean() for name in (CHALLENGER, XGBOOST)}
    assert loss[CHALLENGER] < loss[XGBOOST] - 0.05
    aucs = [roc_auc_score(label, scores[name]) for name in (CHALLENGER, XGBOOST)]
    assert aucs[0] == pytest.approx(aucs[1], abs=1e-3)  # float32 ties
    verdict = judged("log_loss", made, params, PROBLEM, partitions)
    assert verdict.passed, verdict.reason


def test_a_lasting_fault_is_calibrated_away_and_a_swinging_level_is_not():
    random = np.random.default_rng(5)
    true = random.uniform(0.02, 0.98, 9000)
    period = np.repeat(["a", "b", "c"], 3000).astype(object)
    label = (random.random(9000) < true).astype(np.int8)
    odds = np.log(true / (1 - true))
    distorted = 1 / (1 + np.exp(-(2 * odds + 1)))
    found = calibrate.decide("platt", distorted, label, period, task=BINARY)
    assert found.method == "platt" and found.rows == 9000
    np.testing.assert_allclose(found.apply(2 * odds + 1, BINARY), true, atol=0.05)
    assert found.slope == pytest.approx(0.5, abs=0.1)
    swing = odds + np.repeat([-1.0, 1.5, -0.5], 3000)
    swinging = (random.random(9000) < 1 / (1 + np.exp(-swing))).astype(np.int8)
    found = calibrate.decide("platt", true, swinging, period, task=BINARY)
    assert found.method == "none" and "does not help in every period" in found.reason
    assert (found.slope, found.shift, found.periods) == (1.0, 0.0, ())


def test_a_calibration_never_turns_the_ranking_round():
    random = np.random.default_rng(6)
    odds = random.normal(0, 2, 2000)
    label = (random.random(2000) < 1 / (1 + np.exp(odds))).astype(np.int8)
    found = calibrate.fit("platt", odds, label, BINARY)
    assert found.method == "shift" and found.slope == 1
    assert found.apply(odds, BINARY).mean() == pytest.approx(label.mean(), abs=1e-6)


def test_a_short_past_is_not_compared(params):
    weeks = span(Period.parse("2024-W01"), Period.parse("2024-W20"))
    chosen = changed(params, rolling={"minimum_periods": 8})
    short = rolling.origins(weeks[:12], chosen)
    assert short.periods == () and short.reason == "12 training periods, 13 needed to compare"
    found = rolling.choose(short, pd.DataFrame(), chosen, BINARY)
    assert found.kind == XGBOOST and short.reason in found.reason
    enough = rolling.origins(weeks[:13], chosen)
    names = [[period.name for period in part] for part in (enough.selection, enough.calibration)]
    assert names == [["2024-W09", "2024-W10"], ["2024-W11", "2024-W12", "2024-W13"]]


def test_an_interval_covers_what_days_alone_would_change(params):
    """Rows repeated within their day add no certainty; more days do."""
    random = np.random.default_rng(7)

    def table(days: int, copies: int) -> pd.DataFrame:
        day, score = np.repeat(np.arange(days), 20), random.random(days * 20)
        chance = np.clip(score + np.repeat(random.normal(0, 0.2, days), 20), 0, 1)
        label = (random.random(len(score)) < chance).astype(np.int8)
        rows = pd.DataFrame({"day": day, "label": label, "challenger": score})
        return pd.concat([rows] * copies)

    def width(rows, metric):
        found = evaluate.intervals([rows], "challenger", params, BINARY)[metric]
        assert found.low <= found.value <= found.high
        return found.high - found.low

    few = table(7, 1)
    for metric in evaluate.METRICS:
        again = pd.concat([few] * 5)
        assert width(again, metric) == pytest.approx(width(few, metric), rel=1e-6)
        assert width(table(70, 1), metric) < 0.6 * width(few, metric)


def test_costs_of_decisions_counted_by_hand(params):
    label = np.array([0, 0, 1, 1, 0])
    score = np.array([0.1, 0.5, 0.5, 0.9, 0.35])
    found = evaluate.decision_costs(label, score, params.decision)  # 1 for a false alarm, 2
    assert found == pytest.approx(
        {
            "threshold": 1 / 3,
            "cost": 2 / 5,  # two false alarms from 1/3 on
            "best_threshold": 0.5,
            "best_cost": 1 / 5,
            "never_cost": 4 / 5,
            "always_cost": 3 / 5,
        }
    )


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
@pytest.mark.parametrize(("off", "taken"), [(1.9, LOGISTIC), (0.8, XGBOOST)])
def test_what_is_better_by_chance_gives_way_to_the_linear_candidate(metric, off, taken, params):
    """Of two that know about the same the boosted one is taken only where it is surely better."""
    weeks = span(Period.parse("2024-W01"), Period.parse("2024-W20"))
    asked = changed(params, rolling={"minimum_periods": 8, "metric": metric})
    asked = asked.model_copy(update={"candidates": [BASE_RATE, LOGISTIC, XGBOOST]})
    found = rolling.origins(weeks, asked)
    random, rows = np.random.default_rng(14), 300 * len(found.periods)
    odds, one, other = random.normal(0, [[1.5], [2.0], [off]], (3, rows))
    scores = {BASE_RATE: np.zeros(rows), LOGISTIC: odds + one, XGBOOST: odds + other}
    table = pd.DataFrame({
        "period": np.repeat([week.name for week in found.periods], 300),
        "day": np.arange(rows) // 50,
        "label": (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8),
        **{name: 1 / (1 + np.exp(-margin / 4)) for name, margin in scores.items()},
    })  # fmt: skip
    choice = rolling.choose(found, table, asked, BINARY)
    compared = table[table["period"].isin([week.name for week in found.selection])]
    means = {name: rolling.mean_metric(compared, name, metric, BINARY) for name in scores}
    assert max(means, key=means.__getitem__) == XGBOOST
    assert choice.kind == taken and choice.reason.startswith(
        "logistic is simpler than xgboost and within one standard error" if taken == LOGISTIC
        else f"xgboost has the best {metric}"
    )  # fmt: skip
