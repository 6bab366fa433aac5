"""A thousand alarms about the same thing are one; what came of it is known later."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from data.errors import EvergreenError
from data.periods import Period
from flows.governor import ASKED, BEGAN, ENDED, REFUSED, Line, Record, governed, key_of, overtaken
from flows.steps import Outcome
from models.governor import Action, Attempt
from models.version import Version
from tests import planted
from tests.conftest import fill

LINE = Line(ASKED, Action.RETRAIN, "2024-03-01T12:00:00+00:00", "2024-W03", "k", "drift")


@pytest.fixture
def project(tmp_path, params):
    """As far as the governor looks at it; one week's labels have not come yet."""
    partitions = fill(tmp_path / "raw", "2024-W01", "2024-W03")
    newest = Period.parse("2024-W03")
    return SimpleNamespace(
        settings=SimpleNamespace(home=tmp_path / "home"),
        partitions=partitions,
        problem=planted.PROBLEM,
        newest_labelled=lambda: newest,
        params=params,
    )


def test_a_thousand_alarms_in_a_minute_are_one(tmp_path):
    record = Record(tmp_path / "governor.jsonl")
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: record.ask(LINE), range(1000)))
    assert said.count(True) == 1 and record.lines() == [LINE]
    assert record.ask(replace(LINE, key="another")), "about something else"
    later = replace(LINE, at="2024-03-01T12:01:01+00:00")
    assert record.ask(later), "an event may have been lost"
    record.add(replace(LINE, kind=ENDED, seconds=3.0))
    assert not record.ask(replace(later, at="2024-03-02T12:00:00+00:00")), "it is done"


def test_a_torn_line_costs_nothing_but_itself(tmp_path):
    record = Record(tmp_path / "governor.jsonl")
    record.add(LINE)
    with record.path.open("a") as file:
        file.write('{"kind": "as')
    assert record.lines() == [LINE]
    record.add(replace(LINE, key="next"))
    assert [line.key for line in record.lines()] == ["k", "next"]


def test_the_same_is_done_once_and_one_at_a_time(project):
    """Eight runs of a storm start together; a ninth, by a person, is another matter."""
    at_work, most, calls = [], [], []

    def work() -> Outcome:
        at_work.append(1)
        most.append(len(at_work))
        calls.append(datetime.now())
        at_work.pop()
        return Outcome("version 2 serves")

    def run(key: str) -> Outcome:
        return governed(project, Action.RETRAIN, "2024-W03", "drift", key, work)

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(run, ["k"] * 8))
    assert len(calls) == max(most) == 1
    assert sum(outcome.message.startswith("already done at") for outcome in said) == 7
    assert all("version 2 serves" in outcome.message for outcome in said)
    run(""), run("")
    assert len(calls) == 3
    ended = [line for line in Record.of(project).lines() if line.kind == ENDED]
    week = Period.parse("2024-W03")
    assert Record.of(project).attempts() == [Attempt(week, line.seconds) for line in ended]
    assert len(ended) == 3 and all(line.promoted for line in ended)


def test_what_failed_is_not_done(project):
    def work() -> Outcome:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        governed(project, Action.RETRAIN, "2024-W03", "drift", "k", work)
    done = governed(project, Action.RETRAIN, "2024-W03", "drift", "k", lambda: Outcome("done"))
    assert done.message == "done"
    assert len(Record.of(project).attempts()) == 2, "what the first one spent is spent"


def test_a_killed_retrain_counts_and_one_refused_at_the_door_does_not(tmp_path, project):
    record, begun = Record.of(project), replace(LINE, kind=BEGAN)
    record.add(replace(LINE, kind=ENDED, seconds=40.0))
    for line in (begun, replace(begun, period="2024-W04"), replace(begun, kind=REFUSED)):
        record.add(line)
    killed, week = Attempt(Period.parse("2024-W03"), 40.0), Period.parse("2024-W04")
    assert record.attempts() == [killed, killed], "the second was refused"
    record.add(replace(begun, action=Action.RECALIBRATE, period="2024-W04"))
    assert record.attempts() == [killed, killed]
    record.add(replace(begun, period=week.name))
    assert record.attempts() == [killed, killed, Attempt(week, 40.0)], "it is at work, or was"
    assert record.ended() == [killed], "a schedule looks at the period again"

    def refused() -> Outcome:
        raise EvergreenError("too few labels")

    record.path.unlink()
    with pytest.raises(EvergreenError, match="too few"):
        governed(project, Action.RETRAIN, "2024-W03", "drift", "k", refused)
    assert record.attempts() == [] and record.done("k") is None


def test_the_key_is_of_the_data_the_champion_and_the_cause(project):
    week, first = Period.parse("2024-W02"), Version("1", "digest", "run", "source", {})
    key = key_of(project, week, first, "drift")
    assert key == key_of(project, week, first, "drift")
    others = {
        key_of(project, week, first, "age"),
        key_of(project, week, replace(first, digest="other"), "drift"),
        key_of(project, week.next(), first, "drift"),
    }
    assert len(others | {key}) == 4
    fill(project.partitions.folder, "2024-W04", "2024-W04")
    assert key == key_of(project, week, first, "drift"), "later data is no other cause"


def test_a_late_run_of_the_schedule_has_nothing_to_do_once_the_newest_was_seen(project):
    version = SimpleNamespace(tags={"as_of": "2024-W02"})
    project.registry = SimpleNamespace(alias=lambda _: version)
    assert overtaken(project) is None
    governed(project, Action.RETRAIN, "2024-W03", "monthly", "", lambda: Outcome("no", False))
    assert "2024-W03, the newest labelled period, was looked at" in (overtaken(project) or "")
    version.tags["as_of"] = "2024-W03"
    Record.of(project).path.unlink()
    assert overtaken(project) is not None
    version.tags["as_of"] = "2024-W02"
    for week in ("2024-W01", "2024-W02", "2024-W02"):
        governed(project, Action.RETRAIN, week, "monthly", "", lambda: Outcome("no", False))
    assert overtaken(project) == "not now: the month's 3 retrains are made"
