"""Only the state of the problem that is meant goes; what stays is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.snapshots import Snapshots
from flows.clean import clean, clean_all
from flows.settings import PORTS, Settings
from tests.flows.conftest import git

NAMES = ("", "churn", "wind")


@pytest.fixture
def default(tmp_path) -> Settings:
    """A checkout with three problems that have state, data and a snapshot each."""
    checkout = tmp_path / "clone"
    checkout.mkdir()
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    git(checkout, "tag", "data-of-my-own")
    made = Settings(checkout, checkout / "var", PORTS)
    for each in every(made):
        each.raw.mkdir(parents=True)
        each.params.parent.mkdir(parents=True, exist_ok=True)
        each.params.write_text("problem: x\n")
        each.home.mkdir(parents=True, exist_ok=True)
        (each.home / "ledger.jsonl").touch()
        (each.home / "snapshots").mkdir()
        subject = f"2024-W01: data/{each.raw.name} {'ab' * 16}"  # as a snapshot's commit has it
        git(checkout, "tag", "-a", "-m", subject, f"data-{each.raw.name}-2024-W01")
    (made.root / "dvc" / "cache").mkdir(parents=True)
    return made


def every(default: Settings) -> list[Settings]:
    return [replace(default, problem=name) for name in NAMES]


def snapshots(settings: Settings) -> Snapshots:
    return Snapshots(settings.checkout, settings.raw, settings.home / "snapshots")


def whole(settings: Settings) -> bool:
    """Whether all of a problem's state is there, and its data can be read."""
    kept = all(path.exists() for path in places(settings))
    return kept and len(snapshots(settings).list()) == 1


def gone(settings: Settings) -> bool:
    left = any(path.exists() for path in places(settings))
    return not left and snapshots(settings).list() == []


def places(settings: Settings) -> list[Path]:
    return [settings.raw, settings.home / "ledger.jsonl", settings.home / "snapshots"]


@pytest.mark.parametrize("chosen", NAMES)
def test_the_other_problems_keep_everything(default, chosen):
    said: list[str] = []
    clean(replace(default, problem=chosen), said.append)
    for each in every(default):
        assert gone(each) if each.problem == chosen else whole(each), each.problem
    first, second = said
    assert first.startswith(f"{chosen or 'the default problem'}: deleted")
    assert "1 snapshot tags" in first and "--all" in second
    others = ({*NAMES} - {chosen, ""}) | ({"the default problem"} if chosen else set())
    assert all(name in second for name in others)
    assert chosen == "" or chosen not in second
    assert (default.root / "dvc" / "cache").exists()


def test_all_is_a_fresh_clone(default):
    said: list[str] = []
    clean_all(default, said.append)
    assert all(gone(each) for each in every(default))
    deleted = [line.split(":")[0] for line in said if "deleted" in line]
    assert deleted == ["churn", "wind", "the default problem"] and not default.root.exists()
    assert git(default.checkout, "tag") == "data-of-my-own"
    assert Path(replace(default, problem="churn").params).exists()
