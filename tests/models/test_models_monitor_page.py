"""The page says all that the report says, in words, and asks nobody for anything."""

import re
from html.parser import HTMLParser

from data.verdicts import Verdict
from models import monitor_page


def said(monitor: str, verdict: str, value=None, threshold=None, **evidence) -> dict:
    return {
        "monitor": monitor,
        "verdict": verdict,
        "value": value,
        "threshold": threshold,
        "rows": 500,
        "reason": f"because of {monitor} <{verdict}>",
        "evidence": evidence,
    }


def report(period: str, version: str, *findings: dict, served: int = 500, action="wait") -> dict:
    decision = {"action": action, "reason": "so it is"}
    return {"period": period, "version": version, "served": served, "findings": list(findings),
            "decision": decision}  # fmt: skip


COLUMNS = [{"name": "queue", "psi": 6.0, "limit": 0.2}, {"name": "kilos", "psi": 0.0, "limit": 0.0}]
QUALITY = {
    "log_loss": 0.6,
    "roc_auc": None,
    "past": [-0.2, -0.1],
    "worse": {"log_loss": {"value": 0.1, "low": -0.1, "high": 0.2}},
}
WEEKS = [
    report("2024-W10", "1", said("quality", "OK", -0.1, 0.05, **QUALITY)),
    report("2024-W11", "1", said("quality", "UNKNOWN")),
    report("2024-W12", "1", said("quality", "ALARM", 3.0, 0.05), served=10),
    report("2024-W12", "2", said("quality", "WARN", 0.2, 0.05), said("other", "OK", 0.0)),
    report(
        "2024-W13",
        "2",
        said("quality", "ALARM", 0.1, 0.05, **QUALITY),
        said("feature_drift", "WARN", 6.0, 7.0, columns=COLUMNS),
        said("concept_drift", "OK", 5e21, 20.0),
        said(
            "calibration",
            "OK",
            0.0,
            0.0,
            slices=[
                {"slice": "route", "value": "<b>", "rows": 9, "gap": -0.5, "standard_errors": 3.0}
            ],
        ),
        said("skew", "UNKNOWN"),
        action="investigate",
    ),
    report("2024-W14", "2", said("quality", "OK", 0.1, 0.05)),
]


def page(number: int) -> str:
    return monitor_page.to_html("parcels", WEEKS[number], WEEKS)


class Whole(HTMLParser):
    """Every tag is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_it_is_one_whole_file_that_loads_nothing():
    for number in range(len(WEEKS)):
        text = page(number)
        whole = Whole()
        whole.feed(text)
        assert whole.open == []
        assert not re.search(r"https?://|src=|@import|url\(|<script|<link", text)


def test_the_gravest_verdict_comes_first_with_a_sign_and_a_word():
    text = page(4)
    marks = re.findall(r'class="mark (\w+)">(.) (\w+)</td>', text)[:5]
    assert [word for word, *_ in marks] == ["ALARM", "UNKNOWN", "WARN", "OK", "OK"]
    assert all(sign == monitor_page.SIGNS[Verdict(word)] and word == told
               for word, sign, told in marks)  # fmt: skip
    assert "because of quality &lt;ALARM&gt;" in text and "route &lt;b&gt;" in text
    assert "Decided: investigate" in text and "`evergreen monitor 2024-W13`" in text


def test_a_chart_ends_with_its_period_and_what_answered_most_stands_for_it():
    text = page(4)
    (chart,) = re.findall(r'aria-label="quality by period">(.*?)</svg>', text, re.DOTALL)
    titles = re.findall(r"<title>(.*?)</title>", chart)
    assert titles == ["2024-W10: OK, -0.1", "2024-W11: UNKNOWN", "2024-W12: WARN, 0.2",
                      "2024-W13: ALARM, 0.1"]  # fmt: skip
    assert chart.count("<polyline") == 1, "a week that nobody knows of breaks the line"
    assert ">v2</text>" in chart and chart.count('opacity=".6"') == 2
    assert 'aria-label="skew by period"' not in text, "it never had a value"
    heights = [float(y) for y in re.findall(r' y="([\d.-]+)"', text)]
    assert all(0 <= y <= monitor_page.HEIGHT for y in heights)


def test_every_number_that_is_not_there_is_left_out():
    for number in range(len(WEEKS)):
        assert not re.search(r"\bNone\b|\bnan\b", page(number))
