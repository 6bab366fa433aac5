"""`make setup`: a whole environment is brought up to date in place, any other is made anew."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

# An interpreter that writes down what it is asked, and whose environments hold it again, as uv too.
INTERPRETER = """#!/bin/sh
if [ "$1" = --version ]; then echo "Python {version}"; exit; fi
echo "$(basename "$0") $*" >> said
if [ "$2" = venv ]; then
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/uv
fi
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("uv==1 \\\n    --hash=sha256:0\n")
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def run_setup(checkout: Path, version: str = "3.11.7") -> list[str]:
    """What `make setup` asks of the interpreter, in order."""
    interpreter, said = checkout / "interpreter", checkout / "said"
    interpreter.write_text(INTERPRETER.format(version=version))
    interpreter.chmod(0o755)
    said.write_text("")
    word = ["make", "--silent", "setup", f"PYTHON={interpreter}"]
    subprocess.run(word, cwd=checkout, check=True, capture_output=True)
    return [" ".join(line.split()[:4]) for line in said.read_text().splitlines()]


MADE = "interpreter -m venv --clear"
INSTALLED = ["python -m pip install", "uv pip sync --quiet", "uv pip install --quiet"]


def test_an_environment_is_made_once(checkout):
    assert run_setup(checkout) == [MADE, *INSTALLED]
    assert run_setup(checkout) == []


def test_what_was_whole_is_not_deleted_under_who_runs_from_it(checkout):
    run_setup(checkout)
    os.utime(checkout / ".venv" / ".ready", (1, 1))  # a newer lock
    assert run_setup(checkout) == INSTALLED
    assert run_setup(checkout) == []


def test_another_interpreter_and_what_was_never_whole_are_made_anew(checkout):
    run_setup(checkout)
    os.utime(checkout / ".venv" / ".ready", (1, 1))
    assert run_setup(checkout, "3.12.1") == [MADE, *INSTALLED]
    (checkout / ".venv" / ".ready").unlink()
    assert run_setup(checkout, "3.12.1") == [MADE, *INSTALLED]
