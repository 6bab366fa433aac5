"""docs/replay.md says what its JSON says, and the JSON what a replay of now would say."""

import json

import pytest
from scipy.special import expit

from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period, span
from data.task import BINARY
from flows.replay_view import page
from models import replay
from models.candidates import CANDIDATES
from models.quality import measure
from tests.conftest import ROOT

CONTENT = json.loads((ROOT / "docs" / "replay.json").read_text())
PARAMS = load_params(ROOT / "params.yaml")


def test_the_page_shows_the_figures_of_its_json():
    assert (ROOT / "docs" / "replay.md").read_text() == page(CONTENT)


def test_it_is_about_the_parameters_of_now():
    assert CONTENT["governor"] == PARAMS.governor.model_dump()
    assert CONTENT["settings"] == CANDIDATES[CONTENT["kind"]].settings(PARAMS)
    assert CONTENT["kind"] == PARAMS.candidates[-1]


def test_the_first_figure_comes_out_again(tmp_path):
    """The first model of the first season, on the first period that it serves."""
    first, learned = Period.parse(CONTENT["starts"][0]), CONTENT["first"]
    served = Period.parse(CONTENT["weeks"]["periods"][0])
    partitions = Partitions(tmp_path)
    for period in span(first, served.next()):
        ingest(PROBLEM, partitions, period, deliver(PROBLEM, period))
    rows = replay.read(PROBLEM, dict.fromkeys(partitions.periods(), partitions))
    season = replay.season(PROBLEM, rows, first, learned)
    kind, settings = CONTENT["kind"], CONTENT["settings"]
    made = replay.answers(season, learned, kind, settings, PARAMS.train.seed)
    label = season.slots[learned + 1].rows.label
    found = measure(label, expit(made.of(learned + 1)), BINARY).roc_auc
    told = CONTENT["weeks"]["roc_auc"]["never"][0]
    assert found == pytest.approx(told, abs=1e-4)
