"""Which edits make a tree dirty: those that shape a model, and no others."""

import pytest

from flows import source
from tests.flows.conftest import git

PROBLEM = "tests/planted.py"


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("path", "change", "counts"),
    [
        ("data/features.py", "append", True),
        ("models/train.py", "append", True),
        ("bento/predictor.py", "remove", True),
        ("flows/train.py", "stage", True),
        ("params.yaml", "append", True),
        ("requirements.lock", "append", True),
        (PROBLEM, "append", True),
        ("data/new name.py", "create", True),
        ("models/deep/new.py", "create", True),
        ("README.md", "append", False),
        ("tests/test_docs.py", "append", False),
        ("dvc.yaml", "append", False),
        ("data/notes.txt", "create", False),
        ("data/raw.dvc", "create", False),
    ],
)
def test_what_counts(world, path, change, counts):
    file = world.checkout / path
    if change == "remove":
        file.unlink()
    else:
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as opened:
            opened.write("\n")
    if change == "stage":
        git(world.checkout, "add", path)
    found = source.read(world.checkout, PROBLEM)
    assert found.changed == ((path,) if counts else ())
    assert found.dirty is counts
    assert found.commit == git(world.checkout, "rev-parse", "HEAD")


def test_code_without_any_commit_is_dirty(tmp_path):
    assert source.read(tmp_path, PROBLEM).dirty
    git(tmp_path, "init", "-q")
    found = source.read(tmp_path, PROBLEM)
    assert (found.commit, found.changed, found.dirty) == ("none", (), True)
    assert found.tags()["git_dirty"] == "true"
