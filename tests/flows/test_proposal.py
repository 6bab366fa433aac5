"""The report on a change; `tests/e2e/test_e2e_cycle.py` makes one of a real change."""

from dataclasses import replace
from types import SimpleNamespace

from flows.proposal import Made, to_markdown
from models.gates import GateReport, Verdict

HEAD = Made("aaaa", SimpleNamespace(digest="1" * 64), {"roc_auc": 0.7, "cost": None}, {"a": "1"})
BASE = Made("bbbb", SimpleNamespace(digest="2" * 64), {"roc_auc": 0.75, "gone": 1.0}, {"a": "2"})
GOOD = Verdict("finite", True, 0.0, 0.0, 9, None, "all are numbers")
BAD = Verdict("log_loss", False, 0.2, 0.1, 9, None, "log loss +0.2 against +0.1")


def report(*verdicts: Verdict) -> GateReport:
    return GateReport("1" * 64, None, verdicts)


def test_a_refusal_comes_first_with_its_reason() -> None:
    said = to_markdown(
        HEAD, BASE, "", report(GOOD, BAD), ["-  depth: 3", "M\tparams.yaml"], ["roc"]
    )
    first, _, rest = said.partition("### Figures")
    assert "is **refused**" in first and "> log_loss: log loss +0.2 against +0.1" in first
    assert "`1111111111111111` of aaaa, against `2222222222222222` of the base bbbb" in first
    assert "differ in 1 of 1 files: a" in first
    assert "| roc_auc | 0.7500 | 0.7000 | -0.0500 |" in rest
    assert "| cost |  |  |  |" in rest and "| gone | 1.0000 |  |  |" in rest
    assert "2 gates, 1 not passed" in rest and "![roc](roc.png)" in rest and "-  depth: 3" in rest


def test_the_same_model_and_a_base_that_makes_none_are_said_so() -> None:
    same = to_markdown(HEAD, replace(HEAD, commit="bbbb"), "", report(GOOD), [], [])
    assert "passes its gates" in same and "**the same model**, to the bit" in same
    assert "data differ" not in same
    none = to_markdown(HEAD, None, "Traceback\nno such stage", report(GOOD), [], [])
    assert "no comparison with it: no such stage" in none and "| roc_auc |  | 0.7000 |  |" in none
