"""What the README shows is what the code does: its commands parse, its figures come out again."""

import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest
import typer.main
from rich.console import Console
from scipy.special import expit

from data import drift, features, reference
from data.errors import EvergreenError
from data.flights import PROBLEM
from data.ingest import deliver, ingest
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period, span
from data.task import BINARY
from flows.cli import app
from flows.replay_picture import LOOKS, NAME, draw, smoothed
from flows.story import Week, check, figures, gain, table
from models import replay
from models.quality import measure
from tests.conftest import ROOT
from tests.test_docs import PAGES, README

CONTENT = json.loads((ROOT / "docs" / "replay.json").read_text())
PARAMS = load_params(ROOT / "params.yaml")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACES = {"N": "3", "DAY": "2026-12-31", "PERIOD": "2013-W10"}  # words that stand for something
ROW = r"(\S+) ([\d,]+) (0\.\d+) (0\.\d+) ([\d.]+) \S+ \S+ (\d)(?: (0\.\d+))?"


@dataclass(frozen=True)
class Shown:
    """A line of the demo's table; `first` is what version 1 has, `drift` of the version's own."""

    period: str
    rows: int
    first: float
    log_loss: float
    drift: float
    version: int


def shown() -> list[Shown]:
    found = [match.groups() for line in figures(README) if (match := re.fullmatch(ROW, line))]
    return [
        Shown(
            period, int(rows.replace(",", "")), float(first or auc), float(loss), float(far), int(v)
        )
        for period, rows, auc, loss, far, v, first in found
    ]


def commands() -> Iterator[tuple[str, str]]:
    """Page and words of every `evergreen …` that can be typed as it stands."""
    for page in PAGES:
        text = page.read_text()
        inline = re.findall(r"`(?:\.venv/bin/)?evergreen ([^`]+)`", FENCE.sub("", text))
        typed = [
            re.split(r" {2,}", line)[0]
            for block in FENCE.findall(text)
            for line in re.findall(r"^(?:\.venv/bin/)?evergreen (.+)$", block, re.MULTILINE)
        ]
        for words in (*inline, *typed):
            if "…" not in words and " | " not in words:
                yield page.name, " ".join(words.split())


def refused(words: list[str]) -> Exception | None:
    """Why the command line does not take these words; nothing is done by asking."""
    try:
        parse(words)
    except Exception as error:
        return error
    return None


def parse(words: list[str]) -> None:
    """Through every command and the one within it."""
    command, name = typer.main.get_command(app), "evergreen"
    context = command.make_context(name, words)
    while rest := [*context._protected_args, *context.args]:
        name, command, words = context.command.resolve_command(context, rest)
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "commands"):
            return


def test_every_command_that_a_page_shows_can_be_typed():
    found = list(commands())
    assert len(found) > 100
    for page, text in found:
        words = [PLACES.get(word, word) for word in shlex.split(re.sub(r"[\[\]]", "", text))]
        wrong = refused(words)
        if type(wrong).__name__ == "MissingParameter" and not any("-" in word for word in words):
            continue  # a bare name, in the middle of a sentence
        assert wrong is None, f"{page}: evergreen {text}: {wrong!r}"


def test_a_command_that_is_not_there_would_be_found():
    for words in (["retrain", "--as-off", "2013-W10"], ["nothing"], ["keys", "make"], ["waive"]):
        assert re.search("(?i)no such|missing", repr(refused(words))), words


def test_version_1_is_the_model_of_the_replay_that_never_retrains():
    """Both learned the first eight weeks; the replay's own first figure comes out again below."""
    weeks = CONTENT["weeks"]
    never = dict(zip(weeks["periods"], weeks["roc_auc"]["never"], strict=True))
    assert len(shown()) == 12
    for week in shown():
        assert week.first == pytest.approx(never[week.period], abs=6e-4), week.period


def test_the_gain_is_that_of_its_table():
    rows = [line.split() for line in figures(README) if re.fullmatch(ROW, line)]
    later = [row for row in rows if row[-2] == "2"]
    served, first = (np.mean([float(row[place]) for row in later]) for place in (2, -1))
    said = re.search(
        r"the 5 periods after the retrain: ROC-AUC (\S+) \(version 1 .* (\S+)\), log loss (\S+)",
        README,
    )
    loss = np.mean([float(row[3]) for row in later])
    assert [float(x) for x in said.groups()] == pytest.approx([served, first, loss], abs=1e-3)


def test_the_demo_holds_a_page_against_what_came_of_it(tmp_path):
    far = {"drift": 2.0, "drift_limit": 6.0, "verdict": "OK", "action": "wait"}
    weeks = [
        Week(f"2013-W{n}", "12"[n > 17], "12"[n > 17], 6000 + n, 0.7, 0.5, 0.6, 0.6, **far)
        for n in range(10, 22)
    ]
    page, out = tmp_path / "page.md", io.StringIO()
    Console(file=out, width=120).print(table(weeks, "week", BINARY), gain(weeks, BINARY), sep="\n")
    page.write_text(out.getvalue())
    assert check(weeks, "week", BINARY, page) == 13
    for was, now in (("6,012", "6,013"), ("log loss 0.500", "log loss 0.501")):
        page.write_text(out.getvalue().replace(was, now))
        with pytest.raises(EvergreenError, match=f"shows '.*{now}.*', but .* came to '.*{was}"):
            check(weeks, "week", BINARY, page)
    page.write_text("nothing")
    with pytest.raises(EvergreenError, match="shows no figures"):
        check(weeks, "week", BINARY, page)


def test_the_first_model_gives_the_figures_of_the_readme(tmp_path):
    """It is trained here, on the real weeks; the first week that it serves, and the first alarm."""
    weeks = {week.period: week for week in shown() if week.version == 1}
    first, alarm = Period.parse("2013-W10"), Period.parse("2013-W15")
    partitions = Partitions(tmp_path)
    for period in [*span(Period.parse("2013-W01"), first), alarm]:
        ingest(PROBLEM, partitions, period, deliver(PROBLEM, period))
    season = replay.season(
        PROBLEM,
        replay.read(PROBLEM, dict.fromkeys(partitions.periods(), partitions)),
        Period.parse("2013-W01"),
        CONTENT["first"],
    )
    made = replay.answers(season, 8, CONTENT["kind"], CONTENT["settings"], PARAMS.train.seed)
    fitted, learned = season.features(range(8)), season.slots[:8]
    usual = reference.build(
        [feature.name for feature in fitted],
        np.concatenate([features.transform(fitted, slot.rows.columns) for slot in learned]),
        np.zeros(sum(len(slot.rows) for slot in learned)),
        np.concatenate([slot.rows.period for slot in learned]),
        PARAMS.monitor.bins,
        BINARY,
    )
    for slot, period in ((9, first), (10, alarm)):
        want, rows = weeks[period.name], season.slots[slot].rows
        found = measure(rows.label, expit(made.of(slot)), BINARY)
        matrix = features.transform(fitted, rows.columns)
        far = drift.compare(
            usual, matrix, np.zeros(len(matrix)), 1, PARAMS.monitor.false_alarm_rate
        )
        assert len(rows) == want.rows
        assert (found.roc_auc, found.log_loss) == pytest.approx(
            (want.first, want.log_loss), abs=1e-3
        )
        assert far.statistic == pytest.approx(want.drift, abs=0.02)
    told = CONTENT["weeks"]["roc_auc"]["never"][0]
    assert measure(season.slots[9].rows.label, expit(made.of(9)), BINARY).roc_auc == pytest.approx(
        told, abs=1e-4
    )


def picture(path) -> tuple[dict[str, list[float]], list[str]]:
    """The points of each line of an SVG, and its texts."""
    tree = ElementTree.parse(path).getroot()
    space = {"s": "http://www.w3.org/2000/svg"}
    lines = {
        group.get("id"): [float(x) for d in group.findall(".//s:path", space)
                          for x in re.findall(r"-?\d+(?:\.\d+)?", d.get("d"))]
        for group in tree.findall(".//s:g[@id]", space) if group.get("id").startswith("line-")
    }  # fmt: skip
    return lines, [text.text for text in tree.findall(".//s:text", space)]


def test_the_picture_is_what_the_code_draws_of_the_replay(tmp_path):
    draw(CONTENT, tmp_path / NAME)
    kept, now = (picture(folder / NAME) for folder in (ROOT / "docs", tmp_path))
    assert kept[1] == now[1] and set(kept[0]) == set(now[0]) > {"line-always", "line-never"}
    for name, points in kept[0].items():
        assert points == pytest.approx(now[0][name], abs=0.1), name
    looks = [(str(look["linestyle"]), look["linewidth"]) for look in LOOKS.values()]
    assert len(set(looks)) == len(LOOKS)  # colour is not all that tells them apart
    assert (ROOT / "docs" / NAME).stat().st_size < 150_000


def test_the_words_under_the_picture_are_its_figures():
    (said,) = re.findall(r"!\[(.*)\]\(docs/year.svg\)", README)
    for policy in ("ours", "always", "never"):
        assert f"{np.mean(CONTENT['weeks']['roc_auc'][policy]):.3f}" in said
    assert len(smoothed(CONTENT, "ours")) == len(CONTENT["weeks"]["periods"]) - 3


def test_make_demo_and_make_test_do_what_they_say():
    for word, does in (("demo", "evergreen demo"), ("test", "pytest")):
        assert word in re.search(r"^make " + word, README, re.MULTILINE)[0]
        said = subprocess.run(["make", "-n", word], cwd=ROOT, capture_output=True, text=True)
        assert does in said.stdout
