"""docs/ml-test-score.md names tests, gates and files that are there, and its sums are right."""

import ast
import re
from pathlib import Path

import pytest

from models.gates import GATES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "ml-test-score.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROWS = [
    (section, *(cell.strip() for cell in line.strip().strip("|").split("|")))
    for section, text in SECTIONS.items()
    for line in text.splitlines()
    if re.match(r"\| \d \|", line)
]


def automated(cell: str) -> bool:
    return "gate `" in cell or "::test_" in cell


def test_all_28_tests_are_there_once():
    assert [(section, row[0]) for section, *row in ROWS] == [
        (section, str(number)) for section in SECTIONS for number in range(1, 8)
    ]
    assert len(SECTIONS) == 4 and len({row[2] for row in ROWS}) == 28


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_scores_what_it_can_show(row):
    _, _, _, score, shown, missing = row
    assert score in ("0", "0.5", "1")
    if score == "1":
        assert automated(shown)
    else:
        assert missing, "say what is missing"
    for name in re.findall(r"gate `(\w+)`", shown):
        assert name in GATES or name == "git_clean"
    for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown):
        tree = ast.parse((ROOT / path).read_text())
        known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not test or test in known, f"{path} has no {test}"


def test_every_gate_is_part_of_the_score_or_backs_one_that_is():
    """A gate that is renamed or gone leaves the page behind."""
    named = set(re.findall(r"gate `(\w+)`", PAGE))
    assert named <= {*GATES, "git_clean"} and len(named) > 12


def test_the_sums_are_right_and_the_least_counts():
    said = dict(re.findall(r"^\| ([A-Z][\w ]+) \| ([\d.]+) of 7 \|", PAGE, re.MULTILINE))
    sums = {
        section: sum(float(row[3]) for row in ROWS if row[0] == section) for section in SECTIONS
    }
    assert {section: float(score) for section, score in said.items()} == sums
    whole = re.search(r"\*\*ML Test Score .*?\*\* \| \*\*([\d.]+)\*\*", PAGE).group(1)
    assert float(whole) == min(sums.values())
