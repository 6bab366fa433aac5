"""docs/replay.md says what its JSON says; the first figure comes out again in test_readme.py."""

import json

from data.params import load_params
from flows.replay_view import page
from models.candidates import CANDIDATES
from tests.conftest import ROOT

CONTENT = json.loads((ROOT / "docs" / "replay.json").read_text())
PARAMS = load_params(ROOT / "params.yaml")


def test_the_page_shows_the_figures_of_its_json():
    assert (ROOT / "docs" / "replay.md").read_text() == page(CONTENT)


def test_it_is_about_the_parameters_of_now():
    assert CONTENT["governor"] == PARAMS.governor.model_dump()
    assert CONTENT["settings"] == CANDIDATES[CONTENT["kind"]].settings(PARAMS)
    assert CONTENT["kind"] == PARAMS.candidates[-1]
