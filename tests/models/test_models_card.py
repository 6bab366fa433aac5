"""The card says what was measured, in both forms, and lets nothing through that is not text."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from models import card, gates, importance, page
from models.candidates import CHALLENGER
from models.card import Evidence
from models.evidence import Case, gather
from tests.planted import PROBLEM

LINEAGE = {"as_of": "2024-W08", "git_sha": "c0ffee", "snapshot": "0" * 32, "author": "Ada"}


@pytest.fixture(scope="module")
def evidence(good, params, partitions) -> Evidence:
    held, scores = good.trained.holdout, good.trained.holdout_scores
    seen = gather(PROBLEM, partitions, params, good.trained.windows.as_of)
    report = gates.judge(Case(PROBLEM, good.artifact, None, seen, held, scores, params.gates,
                              good.trained.threshold, 1))  # fmt: skip
    found = importance.measure(good.artifact, held, params)
    return Evidence(good.artifact, PROBLEM, held, scores, report, found, LINEAGE, params)


@pytest.fixture(scope="module")
def made(evidence):
    return card.build(evidence)


def rows(made, title: str) -> dict[str, tuple[str, ...]]:
    (section,) = [section for section in made.sections if section.title == title]
    return {row[0]: row[1:] for row in section.table.rows}


def test_the_numbers_are_those_of_the_holdout(made, evidence):
    label, own = evidence.held.label, evidence.scores[CHALLENGER]
    auc, _, loss, *_ = rows(made, "Metrics")[f"{CHALLENGER} (this model)"]
    for text, value in ((auc, roc_auc_score(label, own)), (loss, log_loss(label, own))):
        point, low, high = map(float, re.findall(r"\d\.\d{3}", text))
        assert point == pytest.approx(value, abs=6e-4) and low < point < high
    shown = rows(made, "Slices")
    routes = evidence.held.columns["route"]
    coast = routes == "coast"
    count, observed, predicted, *_ = shown["route coast"]
    assert int(count) == coast.sum()
    assert float(observed) == pytest.approx(label[coast].mean(), abs=6e-4)
    assert float(predicted) == pytest.approx(own[coast].mean(), abs=6e-4)
    named = {name for name in shown if name.startswith("route ")}
    assert named == {f"route {name}" for name in np.unique(routes.astype(str))}


def test_it_names_what_it_was_made_from_and_every_verdict(made, evidence):
    details = rows(made, "Model details")
    assert details["digest"] == (evidence.artifact.digest,) and details["author"] == ("Ada",)
    assert {v.name for v in evidence.report.verdicts} == set(rows(made, "Gates"))
    assert set(rows(made, "What it goes by")) == {field.name for field in PROBLEM.fields}
    assert "2024-W01 to 2024-W07" in rows(made, "Data")["learned from"][0]


def test_a_model_that_failed_says_so_first(evidence):
    first = next(v for v in evidence.report.verdicts if v.name == "beats_base_rate")
    others = [v for v in evidence.report.verdicts if v != first and v.passed]
    failed = replace(evidence.report, verdicts=(replace(first, passed=False), *others))
    made = card.build(replace(evidence, report=failed))
    assert "did not pass its gates: beats_base_rate" in made.summary
    assert "Not to be served" in page.to_markdown(made)
    assert '<td class="failed">failed</td>' in page.to_html(made)


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data) -> None:
        self.text += data


def test_the_page_is_whole_in_itself_and_says_what_the_text_says(made):
    found = Page(page.to_html(made))
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert all(link.startswith("#") for link in found.links)
    for section in made.sections:
        assert section.title in found.text
        for row in section.table.rows if section.table else ():
            assert all(cell in found.text for cell in row)


def test_text_from_outside_stays_text(evidence):
    name = "<script>alert(1)</script> | `x`"
    made = card.build(replace(evidence, lineage={**LINEAGE, "cause": name}))
    assert "<script>" not in page.to_html(made)
    line = next(x for x in page.to_markdown(made).splitlines() if x.startswith("| cause"))
    assert line.count("|") == 3
