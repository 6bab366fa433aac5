"""A recalibration is a version like any other: made, judged, refused, and made again."""

from datetime import UTC, datetime

import numpy as np
import pytest

from data.contracts import to_columns
from data.errors import EvergreenError
from data.periods import Period
from flows import recalibrate
from flows.lineage import of_version, partitions_digest
from flows.reproduce import run_reproduce
from flows.train import run_train
from models import artifact
from models.ledger import Act
from models.quality import log_odds
from models.registry import CHAMPION
from tests.conftest import fill
from tests.e2e.world import make_world
from tests.flows.conftest import opened

ACT = Act(datetime(2024, 3, 1, tzinfo=UTC), "a test", "why")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of its own: others look at who is champion, too."""
    world = make_world(tmp_path_factory.mktemp("recalibrate"))
    fill(world.checkout / "data" / "raw", "2024-W01", "2024-W11")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(world.home / "dvc" / "site"))
        yield opened(world.checkout)


@pytest.fixture(scope="module")
def champion(project):
    """Version 1 serves, and three more weeks have come since."""
    judged = run_train(project, "2024-W08", "a test")
    assert judged.passed, judged.reason
    project.registry.promote(judged.version, None, ACT)
    return judged.version


@pytest.fixture(scope="module")
def second(project, champion):
    judged = recalibrate.judge(project, "2024-W10", "a test", None)
    assert judged.passed, judged.reason
    return judged.version


def odds_gap(project, one, other) -> np.ndarray:
    """How far the answers of two versions are apart, in log odds."""
    models = [artifact.load(project.registry.folder(version)) for version in (one, other)]
    rows = to_columns(project.partitions.rows(Period.parse("2024-W11")), models[0].fields)
    return np.subtract(*(log_odds(model.score(rows)) for model in models))


def test_the_level_moves_and_nothing_else(project, champion, second):
    base, made = (artifact.load(project.registry.folder(v)) for v in (champion, second))
    shift = made.training["recalibration"]["shift"]
    assert shift != 0 and second.digest != champion.digest
    assert odds_gap(project, second, champion) == pytest.approx(shift, abs=1e-5)
    assert made.features == base.features and made.reference == base.reference
    assert made.training["recalibration"]["period"] == "2024-W10"
    assert second.tags["recalibrated_from"] == "1" and "log odds" in second.tags["calibration"]
    gates = {name: said for name, said in second.tags.items() if name.startswith("gate.")}
    assert gates["gate.windows"].startswith("passed: of version 1, which ranks the same")
    assert gates["gate.rehearsal"].startswith("passed: 2024-W09 would have led to")
    lineage = of_version(project, second)
    assert partitions_digest(lineage) == second.tags["partitions"]
    assert {name[:8] for name in lineage.partitions} >= {"2024-W01", "2024-W10"}


def test_the_same_recalibration_is_registered_once(project, second):
    again = recalibrate.judge(project, "2024-W10", "again", None)
    assert again.version.number == second.number


def test_a_second_one_takes_the_place_of_the_first(project, champion, second):
    project.registry.promote(second, champion.number, ACT)
    try:
        judged = recalibrate.judge(project, "2024-W11", "a test", None)
        assert judged.passed and judged.version.judged_against == second.number
        made = artifact.load(project.registry.folder(judged.version))
        assert judged.version.trained == champion.number
        shift = made.training["recalibration"]["shift"]
        assert odds_gap(project, judged.version, champion) == pytest.approx(shift, abs=1e-5)
    finally:
        project.registry.promote(champion, second.number, ACT)
    assert project.registry.alias(CHAMPION).number == champion.number


def test_nothing_newer_than_the_judged_week_is_no_recalibration(project, champion):
    with pytest.raises(EvergreenError, match="was judged on 2024-W08, and no newer"):
        recalibrate.judge(project, "2024-W08", "a test", None)


def test_it_is_made_again_from_the_version_that_it_came_from(project, second):
    found = run_reproduce(project, second.number)
    assert found.equal, found.message
    names = [check.name for check in found.checks]
    assert names.count("model digest") == names.count("version 1: model digest") == 1
