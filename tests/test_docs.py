"""README names what is there, and what it shows can be run."""

import json
import re
import subprocess
from pathlib import Path

import typer.main

from bento.contract import Decoder
from data.flights import FIELDS
from flows.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_command_and_no_other_is_in_the_readme():
    commands = set(typer.main.get_command(app).commands)
    shown = set(re.findall(r"^evergreen ([a-z-]+)", README, re.MULTILINE))
    listed = re.findall(r"^evergreen ((?:[a-z]+ \| )+[a-z]+)", README, re.MULTILINE)
    shown |= {name for line in listed for name in line.split(" | ")}
    assert shown == commands


def test_every_make_word_of_the_readme_is_there():
    words = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    for word in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE):
        assert f"make {''.join(word)} " in words


def test_every_file_of_the_tree_is_there():
    tree = README.split("## How it is built")[1].split("```")[1]
    for name in re.findall(r"[a-z_]+\.(?:py|yaml)", tree):
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"*/{name}")), name


def test_the_curl_line_is_a_valid_request():
    body = re.search(r"-d '(\{.*?\})'", README, re.DOTALL).group(1)
    rows, many = Decoder(FIELDS).decode(body.encode())
    assert not many
    assert rows[0].carrier == json.loads(body)["carrier"]


def test_the_lock_has_hashes_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pins = re.findall(r"^[a-z0-9][^ ]*==", lock, re.MULTILINE)
    assert len(pins) > 200
    assert lock.count("--hash=sha256:") > len(pins)
