"""A report says what was found; a waiver marks it and changes nothing; the page shows both."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pytest

from models.bootstrap import Interval
from models.gates import NEVER_WAIVED, GateReport, Verdict, git_clean, waived
from models.gates_page import between, number, to_html
from models.slices import SliceFinding

GOOD = Verdict("finite", True, 0.0, 0.0, 10, None, "0 weights are no number")
BAD = Verdict("log_loss", False, 0.05, 0.03, 500, (0.04, 0.06), "log loss <b>+0.05</b>")
UNKNOWN = Verdict("overfit", None, None, 0.06, 3, None, "3 rows cannot be judged")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Waiver:
    gate: str
    digest: str = "d" * 64
    by: str = "Ann"
    reason: str = "a known season"
    expires: date = date(2026, 3, 1)

    def holds(self, at: datetime) -> bool:
        return at.date() <= self.expires


def report(*verdicts: Verdict) -> GateReport:
    return GateReport("d" * 64, None, verdicts)


def test_unknown_blocks_as_failed_does():
    assert report(GOOD).passed
    assert not report(GOOD, UNKNOWN).passed and not report(GOOD, BAD).passed


def test_a_waiver_lets_it_pass_and_hides_nothing():
    found = waived(report(GOOD, BAD, UNKNOWN), [Waiver("log_loss"), Waiver("overfit")], NOON)
    assert found.passed and [v.passed for v in found.verdicts] == [True, False, None]
    assert [v.value for v in found.verdicts] == [0.0, 0.05, None]
    assert "log_loss: Ann answers for it until 2026-03-01: a known season" in found.reason
    assert "failed (waived)" in found.to_markdown()
    assert found.to_tags()["gate.log_loss"].startswith("failed: ")


@pytest.mark.parametrize(
    "waiver",
    [
        Waiver("overfit"),
        Waiver("log_loss", digest="e" * 64),
        Waiver("log_loss", by=" "),
        Waiver("log_loss", reason=""),
        Waiver("log_loss", expires=date(2026, 2, 28)),
    ],
)
def test_a_waiver_of_another_thing_counts_for_nothing(waiver):
    assert waived(report(GOOD, BAD), [waiver], NOON) == report(GOOD, BAD)


@pytest.mark.parametrize("gate", sorted(NEVER_WAIVED))
def test_some_gates_nobody_can_answer_for(gate):
    found = report(replace(BAD, name=gate))
    assert waived(found, [Waiver(gate)], NOON) == found


def test_what_is_not_finite_still_makes_json():
    found = report(replace(BAD, value=float("inf"), interval=(1.0, float("inf"))))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["verdicts"][0]["value"] is None and content["passed"] is False


@pytest.mark.parametrize(
    ("commit", "changed", "passed"),
    [("a" * 40, (), True), ("a" * 40, ("data/x.py",), False), ("none", (), False)],
)
def test_git_clean(commit, changed, passed):
    assert git_clean(commit, changed).passed is passed


def test_the_page_is_one_file_that_says_all_in_words():
    curve = ((0.1, 0.12), (0.5, 0.4))
    one = SliceFinding("route", "<coast>", 1120, 9900, Interval(0.1, 0.0, 0.2), 0.0, None, None)
    many = replace(GOOD, n=46312)
    full = replace(report(many, BAD, UNKNOWN), slices=(one,), curves={"challenger": curve})
    page = to_html(full, "Gates <of> a model")
    assert "Gates &lt;of&gt; a model" in page and "<b>" not in page and "<coast>" not in page
    assert not re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org)|@import", page)
    for said in ("✘ failed", "? unknown", "✔ passed", "may not serve", "log loss"):
        assert said in page
    for count in ("46,312", "1,120", "9,900"):
        assert f">{count}<" in page
    assert page.index("log_loss") < page.index("finite"), "what blocks comes first"
    assert "may serve" in to_html(report(GOOD), "t")
    with_waiver = waived(report(GOOD, BAD), [Waiver("log_loss")], NOON)
    assert "Ann answers for it" in to_html(with_waiver, "t")


def test_numbers_are_as_people_read_them():
    assert [number(v) for v in (None, 0.0, 0.12345, 3e-7, 123456.0)] == [
        "", "0", "0.123", "3.0e-07", "123,456",
    ]  # fmt: skip
    assert between(None) == "" and between(Interval(0.1, 0.0, 0.25)) == "+0.100 (+0.000 to +0.250)"
