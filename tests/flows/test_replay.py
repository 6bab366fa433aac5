"""A season of the planted problem under several policies, through the real functions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from scipy.special import expit

from data.errors import EvergreenError
from data.params import Params
from data.periods import Period, parse_as_of
from data.reference import Reference
from data.verdicts import Finding, Verdict
from flows.project import Project
from flows.replay import Asked, keep, run_replay
from flows.replay_view import page
from flows.settings import PORTS, Settings
from models import lives, policies, replay, replayed
from models.candidates import CANDIDATES
from models.fits import Fits, Task
from models.governor import Action
from models.learned import Profiles
from models.overseer import MONITORS, Overseer
from models.quality import Quality
from models.replayed import Prices
from models.scene import Lived, Scene
from models.train import train
from tests.conftest import fill
from tests.planted import PROBLEM

ASKED = Asked(
    policies=("every-2", "every-2+level", "alarm", "ours"),
    starts=("2024-W01", "2024-W06"),
    first=4,
    ingested=True,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory, params) -> Project:
    checkout = tmp_path_factory.mktemp("replay")
    fill(checkout / "data" / "raw", "2024-W01", "2024-W14")
    small = params.xgboost.model_copy(update={"n_estimators": 20, "max_depth": 3})
    governor = params.governor.model_copy(update={"cooldown_periods": 1, "maximum_age_periods": 4})
    changed = params.model_copy(update={"xgboost": small, "governor": governor})
    return Project(Settings(checkout, checkout / "var", PORTS), changed, PROBLEM)


@pytest.fixture(scope="module")
def content(project):
    return run_replay(project, ASKED, Progress(disable=True))


def by_name(content) -> dict[str, dict]:
    return {line["policy"]: line for line in content["policies"]}


def test_every_policy_does_what_its_name_says(content):
    found = by_name(content)
    assert list(found) == ["never", "always", *ASKED.policies]
    assert content["decisions"] == 8
    assert {name: line["retrains"] for name, line in found.items() if "-" in name} == {
        "every-2": 4, "every-2+level": 4}  # fmt: skip
    assert (found["never"]["retrains"], found["never"]["regret"]) == (0, 1)
    assert (found["always"]["retrains"], found["always"]["regret"]) == (8, 0)
    assert found["every-2"]["recalibrations"] == 0 < found["every-2+level"]["recalibrations"]
    # the planted change is worth a retrain, and the governor makes one with fewer than a calendar
    assert 0 < found["ours"]["retrains"] < 4
    assert found["ours"]["log_loss"] < found["never"]["log_loss"]


def test_the_recommendation_follows_the_prices(project, content):
    def best(retrain: float, error: float) -> str:
        prices = Prices(retrain, error)
        return run_replay(
            project, replace(ASKED, policies=(), prices=prices), Progress(disable=True)
        )["recommended"]

    assert best(1e6, 1.0) == "never"
    assert best(0.0, 1.0) == "always"


def test_a_replay_goes_on_with_the_models_that_are_there(project, content):
    kept = {path: path.stat().st_mtime_ns for path in fits_of(project)}
    kept.pop(lost := sorted(kept)[3])
    lost.unlink()
    again = run_replay(project, ASKED, Progress(disable=True))
    assert [x["log_loss"] for x in again["lives"]] == [x["log_loss"] for x in content["lives"]]
    assert {path: path.stat().st_mtime_ns for path in fits_of(project) if path != lost} == kept
    assert lost.exists()


def fits_of(project: Project) -> list[Path]:
    made = project.settings.home / "replay" / "fits"
    return [*made.rglob("*.npz"), *made.rglob("profiles-*/*.json")]


def test_the_page_and_the_json_say_the_same(content, tmp_path):
    read = json.loads(keep(content, tmp_path, "replay").read_text())
    text = page(read)
    for line in read["policies"]:
        assert f"| {line['policy']} | {line['retrains']:.1f} |" in text
    assert page(json.loads(json.dumps(read))) == text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policies": ("weekly",)}, "'weekly' is no policy"),
        ({"starts": ("2023-W01",)}, "2023-W01 cannot begin a replay of 2024-W01 to 2024-W14"),
        ({"first": 12}, "at least 15 are needed"),
    ],
)
def test_what_cannot_be_replayed_is_said(project, changes, said):
    with pytest.raises(EvergreenError, match=said):
        run_replay(project, replace(ASKED, **changes), Progress(disable=True))


def seasons(project: Project, start: str = "2024-W01") -> replay.Season:
    places = dict.fromkeys(project.partitions.periods(), project.partitions)
    return replay.season(PROBLEM, replay.read(PROBLEM, places), Period.parse(start), 4)


def asked(season: replay.Season, as_of: int, params: Params) -> replay.Answers:
    settings = CANDIDATES["xgboost"].settings(params)
    return replay.answers(season, as_of, "xgboost", settings, params.train.seed)


def test_a_model_of_the_replay_is_the_one_that_training_makes(project):
    due = parse_as_of("2024-W08", PROBLEM.label_delay)
    trained = train(PROBLEM, project.partitions, project.params, due)
    made = asked(seasons(project), 7, project.params)
    scores = trained.holdout_scores["challenger"]
    np.testing.assert_allclose(expit(made.of(7)), scores, atol=1e-6)


def test_a_profile_of_the_replay_is_the_one_that_training_keeps(project):
    due = parse_as_of("2024-W08", PROBLEM.label_delay)
    trained = train(PROBLEM, project.partitions, project.params, due)
    made = profiled(project, seasons(project), 7)
    assert [h.name for h in made.histograms] == [h.name for h in trained.reference.histograms]
    kept = trained.reference
    assert (made.periods, made.histograms[:-1]) == (kept.periods, kept.histograms[:-1])
    assert made.daily.days == kept.daily.days
    np.testing.assert_allclose(made.daily.residual, kept.daily.residual, atol=1e-6)
    for mine, theirs in zip(made.slices, kept.slices, strict=True):
        assert (mine.slice, mine.value, mine.rows) == (theirs.slice, theirs.value, theirs.rows)
        np.testing.assert_allclose(mine.expected, theirs.expected, atol=1e-3)


def profiled(project: Project, season: replay.Season, as_of: int) -> Reference:
    params, root = project.params, project.settings.home / "profiled"
    fits = Fits.of(root, "xgboost", CANDIDATES["xgboost"].settings(params), {}, season.first)
    return Profiles(fits, params, 2).get(Task(season, as_of, params.train.seed))


def watched(project: Project, start: str, shift: float = 0.0) -> dict[str, dict[str, Finding]]:
    """What is said of the first model of a season, by period, if nothing is ever done."""
    season, params = seasons(project, start), project.params
    model, usual = asked(season, season.first, params), profiled(project, season, season.first)
    moved = replace(model, margins=tuple(margin + shift for margin in model.margins))
    watch, told = Overseer(season, params, lambda _: usual), {}

    def keep(lived: Lived) -> tuple[Finding, ...]:
        found = watch(lived)
        told[season.slots[lived.slot].period.name] = {each.monitor: each for each in found}
        return found

    scene = Scene(season, params.train.seed, params, lambda _: moved, keep)
    idle = replace(policies.parse("alarm", params.governor), choose=lambda _: Action.WAIT)
    assert not lives.live(scene, idle).retrains
    return told


def test_the_monitors_see_the_planted_change_and_nothing_before_it(project):
    told = watched(project, "2024-W01")
    before = [told[f"2024-W{week:02d}"] for week in range(6, 13)]
    assert all(tuple(found) == MONITORS for found in told.values())
    assert not any(f.verdict in (Verdict.ALARM, Verdict.UNKNOWN)
                   for found in before for f in found.values())  # fmt: skip
    assert told["2024-W13"]["feature_drift"].verdict is Verdict.ALARM


def test_a_level_that_is_off_alarms_in_the_second_period_and_is_evidence_of_another_relation(
    project,
):
    told = watched(project, "2024-W01", shift=1.5)
    verdicts = [told[f"2024-W{week:02d}"]["calibration"].verdict for week in (6, 7)]
    assert verdicts == [Verdict.WARN, Verdict.ALARM]
    assert told["2024-W06"]["calibration"].evidence["gap"] > 0.5
    assert told["2024-W12"]["concept_drift"].verdict is Verdict.ALARM


def test_a_new_champion_is_not_asked_about_answers_of_the_old_one(project):
    season, params = seasons(project), project.params
    found: list[Lived] = []

    def keep(lived: Lived) -> tuple[Finding, ...]:
        found.append(lived)
        return ()

    scene = Scene(
        season, params.train.seed, params, lambda as_of: asked(season, as_of, params), keep
    )
    at_once = replace(policies.parse("always", params.governor), alarmed=lambda _: False)
    lives.live(scene, at_once)
    taken = next(each for each in found if each.champion != season.first)
    rows = season.slots[taken.slot].rows
    moment = season.slots[taken.slot].moment
    np.testing.assert_array_equal(taken.mine, moment >= season.known(taken.slot - 1))
    assert 0 < taken.mine.sum() < len(rows)
    assert sum(taken.daily.rows) == taken.mine.sum()


def test_no_model_knows_a_label_of_a_slot_that_it_did_not_learn(project):
    season = seasons(project, "2024-W06")
    flipped = [
        slot if place < 7 else replace(slot, rows=replace(slot.rows, label=1 - slot.rows.label))
        for place, slot in enumerate(season.slots)
    ]
    other = replay.Season(PROBLEM, tuple(flipped), season.first)
    for mine, theirs in zip(*(asked(s, 7, project.params).margins for s in (season, other)),
                            strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs)


def test_a_new_state_answers_from_the_moment_when_labels_are_known(project):
    season = seasons(project)
    flat = {k: replay.Answers(k, tuple(np.full(len(s.rows), float(k)) for s in season.slots[k:]), 0)
            for k in (4, 6)}  # fmt: skip
    states = [lives.State(np.timedelta64(0), 4), lives.State(season.known(6), 6, 0.5)]
    odds = lives.served(season, flat.__getitem__, states, 7)
    rows = season.slots[7].rows
    waited = rows.columns["sent_at"] - np.datetime64(season.slots[7].period.start)
    np.testing.assert_array_equal(odds == 6.5, waited >= np.timedelta64(PROBLEM.label_delay))
    assert set(odds) == {4.0, 6.5}


def test_seasons_wrap_round_on_a_clock_that_goes_on(project):
    season = seasons(project, "2024-W06")
    names = [slot.period.name for slot in season.slots]
    assert names == [f"2024-W{n:02d}" for n in [*range(6, 15), *range(1, 6)]]
    assert season.stand_in(13).name == "2024-W19"
    moments = np.concatenate([slot.moment for slot in season.slots])
    assert (np.diff(moments) >= np.timedelta64(0)).all()


def test_a_week_is_of_the_quarter_that_its_middle_is_in():
    """2013-W01 begins in the year before, 2013-W40 in September, 2014-W01 in December."""
    names = ["2013-W01", "2013-W14", "2013-W39", "2013-W40", "2013-W52", "2014-W01"]
    measured = [Quality(100, 0.5 + i / 100, 0.6, 0.0) for i in range(len(names))]
    weeks = [lives.Week(*each, 0.0, 100) for each in zip(names, measured, strict=True)]
    found = replayed.quarters([lives.Life("never", "2013-W01", 1, tuple(weeks), 0.0)])
    assert found == {"never": pytest.approx({"Q1": 0.525, "Q2": 0.51, "Q3": 0.52, "Q4": 0.535})}
