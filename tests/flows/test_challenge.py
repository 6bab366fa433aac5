"""`evergreen challenge`: a real `dvc exp run`, judged and registered as what it is."""

import pytest

from data.errors import EvergreenError
from flows.challenge import run_challenge
from flows.train import run_train
from models.registry import CHALLENGER
from tests.conftest import fill
from tests.e2e.world import World, make_world
from tests.flows.conftest import git, opened


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """A checkout of its own: DVC writes into it."""
    made = make_world(tmp_path / "checkout")
    fill(made.checkout / "data" / "raw", "2024-W01", "2024-W08")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(made.home / "dvc" / "site"))
    for who in ("AUTHOR", "COMMITTER"):
        made.environment.update({f"GIT_{who}_NAME": "Test", f"GIT_{who}_EMAIL": "test@localhost"})
    return made


def test_an_experiment_is_registered_with_its_own_commit_and_parameters(world):
    changes = ("-S", "train.as_of=2024-W08", "-S", "xgboost.max_depth=5")
    done = world.python("dvc", "exp", "run", "-q", "-n", "shallow", *changes)
    assert done.returncode == 0, done.stderr
    git(world.checkout, "checkout", "-q", "params.yaml")
    (world.checkout / "dvc.lock").unlink()
    project = opened(world.checkout)
    known = len(project.registry.versions())

    with pytest.raises(EvergreenError, match="there is no experiment deep"):
        run_challenge(project, "deep")
    with pytest.raises(EvergreenError, match="nothing was registered"):
        run_train(project, "2024-W08", "a test", expected="0" * 64)
    code = world.checkout / "models" / "quality.py"
    code.write_text(f"{code.read_text()}\n")
    with pytest.raises(EvergreenError, match=r"made with other code .*models/quality\.py"):
        run_challenge(project, "shallow")
    git(world.checkout, "checkout", "-q", "models")
    assert len(project.registry.versions()) == known

    judged = run_challenge(project, "shallow", by="somebody")
    commit = git(
        world.checkout, "rev-parse", f"experiment-shallow-{judged.version.tags['git_sha'][:8]}"
    )
    tags = judged.version.tags
    assert (tags["git_sha"], tags["git_dirty"]) == (commit, "false")
    assert commit != git(world.checkout, "rev-parse", "HEAD")
    assert "max_depth: 5" in git(world.checkout, "show", f"{commit}:params.yaml")
    assert (tags["cause"], tags["as_of"]) == ("experiment shallow", "2024-W08")
    assert judged.passed and CHALLENGER in project.registry.aliases(judged.version), judged.reason

    again = run_challenge(project, "shallow")
    assert again.version.number == judged.version.number
    assert len(project.registry.versions()) == known + 1
