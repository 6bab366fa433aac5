"""A problem of classes or numbers is replayed, and the page speaks of its loss."""

import json

import pytest
from rich.progress import Progress

from data.params import Params
from flows.project import Project
from flows.replay import Asked, keep, run_replay
from flows.replay_view import advice, chart, page, tables
from flows.settings import PORTS, Settings
from tests.conftest import fill
from tests.planted_tasks import CLASS, NUMBER

ASKED = Asked(policies=("every-2+level", "ours"), starts=("2024-W07",), first=4, ingested=True)


@pytest.fixture(scope="module", params=[NUMBER, CLASS], ids=["number", "class"])
def project(request, tmp_path_factory, params) -> Project:
    checkout = tmp_path_factory.mktemp("replay")
    fill(checkout / "data" / "raw", "2024-W07", "2024-W17", request.param)
    content = params.model_dump()
    content["xgboost"] |= {"n_estimators": 40}
    content["governor"] |= {"cooldown_periods": 1, "maximum_age_periods": 4}
    changed = Params.model_validate(content)
    return Project(Settings(checkout, checkout / "var", PORTS), changed, request.param)


def test_a_retrain_after_the_change_pays(project, tmp_path):
    content = run_replay(project, ASKED, Progress(disable=True))
    found = {line["policy"]: line for line in content["policies"]}
    assert (found["never"]["regret"], found["always"]["regret"]) == (1, 0)
    assert found["always"]["log_loss"] < found["never"]["log_loss"]
    assert found["always"]["roc_auc"] > found["never"]["roc_auc"]
    assert found["every-2+level"]["recalibrations"] > 0
    assert (found["never"]["brier"] is None) is (project.problem.task.kind == "regression")
    read = json.loads(keep(content, tmp_path, "replay").read_text())
    text, task = page(read), project.problem.task
    assert f"| {task.loss} |" in text and f"{task.ranking} by quarter" in text
    assert ("log loss" in text) is (task.loss == "log loss")
    assert tables(read)[0].row_count == 4 and "costs least" in advice(read)
    chart(read, tmp_path / "replay.png")
    assert (tmp_path / "replay.png").stat().st_size > 1000
