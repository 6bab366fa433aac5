"""Imports only go down, and only one file knows what the default problem is about."""

import re

from importlinter.cli import lint_imports


def test_imports_only_go_down(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    broken = lint_imports(no_cache=True, no_logo=True)
    said = capsys.readouterr().out
    assert broken == 0, said
    assert "2 kept, 0 broken" in said


def test_only_one_file_knows_the_default_problem(root):
    word = re.compile("flight|nyc", re.IGNORECASE)
    rooms = ("data", "models", "bento", "flows")
    files = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert len(files) > 40
    knowing = {str(p.relative_to(root)) for p in files if word.search(p.read_text())}
    assert knowing == {"data/flights.py"}
