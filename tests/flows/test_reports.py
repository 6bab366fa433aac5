"""What the monitor decided is announced once, told where it is unknown, and missed when silent."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from data.digests import canonical_json
from data.periods import Period
from data.verdicts import Finding, Verdict
from flows import announce, monitor
from flows.alert import stopped
from flows.governor import Record
from flows.reports import SILENCE, newest, silence
from models.governor import Action, Decision
from models.version import Version
from tests import planted
from tests.conftest import fill

WEEK, CHAMPION = Period.parse("2024-W03"), Version("1", "digest", "run", "source", {})
MADE = datetime(2024, 3, 4, 6, tzinfo=UTC)


@pytest.fixture
def project(tmp_path):
    return SimpleNamespace(
        settings=SimpleNamespace(home=tmp_path),
        partitions=fill(tmp_path / "raw", "2024-W01", "2024-W03"),
        problem=planted.PROBLEM,
        newest_labelled=lambda: WEEK,
    )


@pytest.fixture
def emitted(monkeypatch) -> list[tuple[str, dict, dict]]:
    """What a flow run would have sent to the server."""
    sent: list[tuple[str, dict, dict]] = []
    monkeypatch.setattr(announce, "in_flow", lambda: True)
    monkeypatch.setattr(
        announce,
        "emit_event",
        lambda name, resource, payload: sent.append((name, resource, payload)),
    )
    return sent


def keep(project, period: str, version: str, made_at: datetime = MADE, served: int = 500,
         action: Action = Action.WAIT, trained: str = "1") -> None:  # fmt: skip
    finding = {"monitor": "feature_drift", "verdict": "ALARM", "value": 1.0, "threshold": 0.5,
               "rows": served, "reason": version, "evidence": {}}  # fmt: skip
    report = {
        "period": period,
        "version": version,
        "trained": trained,
        "served": served,
        "findings": [finding],
        "decision": {"action": action, "reason": "so it is"},
        "made_at": made_at.isoformat(),
    }
    path = project.settings.home / "reports" / f"{period}-v{version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(canonical_json(report))


def test_a_storm_of_alarms_emits_one_event_that_names_its_key(project, emitted):
    decided = Decision(Action.RETRAIN, "drift alarm 2 periods running")
    said = [announce.decision(project, WEEK, CHAMPION, decided) for _ in range(200)]
    assert said.count(True) == 1
    ((name, resource, payload),) = emitted
    assert name == "evergreen.drift.detected"
    assert resource["evergreen.key"] == payload["key"] == Record.of(project).lines()[0].key
    assert (payload["as_of"], payload["version"]) == ("2024-W03", "1")
    announce.decision(project, WEEK, CHAMPION, Decision(Action.RECALIBRATE, "too high"))
    assert [name for name, *_ in emitted[1:]] == ["evergreen.level.shifted"]


def test_waiting_is_not_announced_and_a_suspicion_is(project, emitted):
    assert not announce.decision(project, WEEK, CHAMPION, Decision(Action.WAIT, "calm"))
    assert announce.decision(project, WEEK, CHAMPION, Decision(Action.INVESTIGATE, "nulls"))
    assert [name for name, *_ in emitted] == ["evergreen.data.suspect"]


def test_what_nobody_knows_is_told_and_starts_nothing(project, emitted, capsys):
    unknown = Finding("quality", Verdict.UNKNOWN, None, None, 0, "no labels have arrived")
    announce.unknown(project, WEEK, CHAMPION, [unknown])
    ((name, _, payload),) = emitted
    assert (name, payload["monitors"]) == ("evergreen.monitor.unknown", "quality")
    assert "no labels have arrived" in payload["reasons"]
    assert "a person should look" in capsys.readouterr().out
    assert Record.of(project).lines() == []
    announce.unknown(project, WEEK, CHAMPION, [])
    assert len(emitted) == 1


def test_every_event_that_starts_a_run_is_in_prefect_yaml(root):
    text = (root / "prefect.yaml").read_text()
    for action in (Action.RETRAIN, Action.RECALIBRATE):
        assert f"expect: [{announce.EVENTS[action]}]" in text
        assert f"flows.{action}.{action}" in text


def test_a_silent_monitor_is_a_problem_after_its_week_and_a_day(project):
    assert newest(project) is None and silence(project, MADE) is None
    keep(project, "2024-W02", "1")
    keep(project, "2024-W03", "1", MADE + timedelta(days=7))
    last = MADE + timedelta(days=7)
    assert silence(project, last + SILENCE) is None
    said = silence(project, last + SILENCE + timedelta(seconds=1))
    assert said is not None and "silent for 8 days (last: 2024-W03)" in said


def test_a_false_alarm_about_the_monitor_is_none(project):
    assert stopped(project, MADE) is None
    assert "no run of the monitor has completed" in str(stopped(project, MADE, expected=True))
    keep(project, "2024-W02", "1")
    assert stopped(project, MADE + timedelta(hours=1)) is None
    assert "silent for 9 days" in str(stopped(project, MADE + timedelta(days=9)))


def test_a_late_run_of_the_schedule_watches_the_newest_period_once(project):
    keep(project, "2024-W02", "1")
    assert monitor.watched_already(project) is None
    keep(project, "2024-W03", "1", action=Action.RETRAIN)
    assert "2024-W03 was watched already (retrain, so it is)" in str(
        monitor.watched_already(project)
    )


def test_a_recalibrated_version_goes_on_with_the_history_of_its_model(project):
    keep(project, "2024-W01", "1", served=500)
    keep(project, "2024-W01", "2", served=20)
    keep(project, "2024-W02", "2", served=500)
    keep(project, "2024-W02", "9", served=500, trained="9")
    keep(project, "2024-W03", "2")
    recalibrated = Version("2", "other", "run", "source", {"recalibrated_from": "1"})
    for champion in (CHAMPION, recalibrated):
        found = monitor._history(project, champion, WEEK)
        assert [(w.period.name, w.findings[0].reason) for w in found] == [
            ("2024-W01", "1"), ("2024-W02", "2")
        ]  # fmt: skip
    assert json.loads((project.settings.home / "reports" / "2024-W01-v2.json").read_text())
