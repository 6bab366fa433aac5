"""README and docs name what is there, and what they show can be run."""

import ast
import json
import re
import subprocess
from pathlib import Path

import typer.main
import yaml

from bento.contract import Decoder
from data.flights import FIELDS
from flows.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROOMS = ("bento", "data", "flows", "models")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


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


def test_the_hooks_are_the_words_of_make_check():
    recipe = re.search(r"^check:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = [line.strip().replace("@$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repo["hooks"]] == words
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}


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


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(quoted) > 30 and len(set(quoted)) == len(quoted)
    said = [text for room in ROOMS for path in (ROOT / room).glob("*.py") for text in texts(path)]
    for message in quoted:
        parts = [re.escape(part) for part in message.split("…")]
        assert any(len(part) > 8 for part in parts), message
        whole = re.compile(".*".join(parts), re.DOTALL)
        assert any(map(whole.search, said)), message


def texts(path: Path) -> list[str]:
    """Every text of a module as it reads when it runs, `…` in the place of what varies."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    filled = [
        "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        for node in nodes
        if isinstance(node, ast.JoinedStr)
    ]
    return [*plain, *filled]


def test_every_command_of_every_page_is_there():
    command = typer.main.get_command(app)
    for page in PAGES:
        for words in re.findall(r"`(?:\.venv/bin/)?evergreen ([a-z][^`]*)`", page.read_text()):
            name, *rest = words.split()
            assert name in command.commands, f"{page.name}: {words}"
            inner = getattr(command.commands[name], "commands", None)
            assert not inner or not rest or rest[0] in inner, f"{page.name}: {words}"


def test_every_link_of_every_page_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!#|http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
