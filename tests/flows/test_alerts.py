"""Who is told: once, again when it goes on, that it is over, and not at night."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data.alert_params import Alerts
from data.errors import EvergreenError
from flows.alerts import Alert, Line, Severity, What, decide, due, is_quiet, standing
from flows.journal import Journal
from flows.notify import Desk

NOON = datetime(2024, 6, 3, 12, tzinfo=UTC)
NIGHT = datetime(2024, 6, 3, 23, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
WARNING = Alert("monitor.quality", Severity.WARNING, "quality alarms", "0.61, usual from 0.68")
CRITICAL = replace(WARNING, severity=Severity.CRITICAL)


@pytest.fixture
def hook():
    """A real webhook on loopback; what it was sent."""

    said: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.said = said
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def desk(tmp_path, hook) -> Desk:
    target = f"json://user:s3cret@127.0.0.1:{hook.server_port}/hook"
    return Desk(Journal(tmp_path / "alerts.jsonl"), "parcels", [target], Alerts())


def titles(hook) -> list[tuple[str, str]]:
    return [(said["type"], said["title"]) for said in hook.said]


def test_trouble_is_told_once_again_after_a_day_and_when_it_is_over(desk, hook):
    for hours in (0, 1, 5):
        desk.raise_(WARNING, NOON + hours * HOUR)
    assert titles(hook) == [("warning", "Evergreen parcels: quality alarms")]
    assert hook.said[0]["message"] == WARNING.body
    desk.raise_(WARNING, NOON + 24 * HOUR)
    assert len(hook.said) == 2
    assert desk.resolve(WARNING.key, NOON + 25 * HOUR, "well again in W10")
    assert titles(hook)[2] == ("success", "Evergreen parcels: over: quality alarms")
    assert "it lasted 25.0 h" in hook.said[2]["message"]
    assert not desk.resolve(WARNING.key, NOON + 26 * HOUR, "again") and desk.open() == {}
    desk.raise_(WARNING, NOON + 27 * HOUR)
    assert len(hook.said) == 4


def test_what_gets_worse_is_told_at_once(desk, hook):
    desk.raise_(WARNING, NOON)
    desk.raise_(CRITICAL, NOON + HOUR)
    desk.raise_(WARNING, NOON + 2 * HOUR)
    assert [kind for kind, _ in titles(hook)] == ["warning", "failure"]


def test_a_warning_waits_for_the_morning_and_only_a_critical_one_wakes(desk, hook):
    desk.raise_(WARNING, NIGHT)
    desk.raise_(WARNING, NIGHT + HOUR)
    assert hook.said == [] and len(desk.lines()) == 1
    desk.raise_(replace(CRITICAL, key="run.retrain", title="retrain failed"), NIGHT)
    assert titles(hook) == [("failure", "Evergreen parcels: retrain failed")]
    assert desk.flush(NIGHT + HOUR) == 0 and desk.flush(NIGHT + 8 * HOUR) == 1
    assert titles(hook)[1] == ("warning", "Evergreen parcels: quality alarms")
    assert desk.flush(NIGHT + 9 * HOUR) == 0


def test_what_was_over_before_anybody_was_told_is_told_to_nobody(desk, hook):
    desk.raise_(WARNING, NIGHT)
    assert desk.resolve(WARNING.key, NIGHT + HOUR, "well again")
    assert desk.flush(NIGHT + 9 * HOUR) == 0 and hook.said == []


def test_an_unreachable_target_stops_nothing_and_is_tried_again(desk, hook, capsys):
    lost = replace(desk, targets=["json://token-s3cret@127.0.0.1:9/x", *desk.targets])
    assert lost.raise_(CRITICAL, NOON) is What.HELD
    said = capsys.readouterr().out
    assert "target 1 (json)" in said and "s3cret" not in said
    assert "s3cret" not in desk.journal.path.read_text()
    assert desk.flush(NOON + HOUR) == 1
    with pytest.raises(EvergreenError, match=r"target 1 \(json\) of EVERGREEN_NOTIFY"):
        lost.test(NOON)
    with pytest.raises(EvergreenError, match="set EVERGREEN_NOTIFY"):
        replace(desk, targets=[]).test(NOON)


def test_others_of_a_kind_are_resolved(desk, hook):
    for name in ("drift", "quality", "skew"):
        desk.raise_(replace(WARNING, key=f"monitor.{name}", title=name), NOON)
    desk.raise_(replace(WARNING, key="run.retrain"), NOON)
    desk.resolve_others("monitor.", ["monitor.quality"], NOON + HOUR, "well again")
    assert set(desk.open()) == {"monitor.quality", "run.retrain"}


def test_a_torn_line_is_no_line(desk):
    desk.raise_(WARNING, NOON)
    with desk.journal.path.open("a") as file:
        file.write('{"alert": {"ke')
    desk.raise_(CRITICAL, NOON)
    assert [line.alert.severity for line in desk.lines()] == ["warning", "critical"]


@given(
    st.lists(st.tuples(st.sampled_from(list(Severity)), st.integers(0, 90)), max_size=40),
    st.sampled_from(["info", "warning", "critical"]),
)
def test_nobody_is_told_twice_within_the_hours_or_less_than_the_level(raised, level):
    params, at, lines, sent = Alerts(level=level), NOON, [], []
    for severity, minutes in raised:
        at += timedelta(minutes=minutes)
        alert = replace(WARNING, severity=severity)
        decided = decide(standing(lines).get(alert.key), alert, at, params)
        if decided.what is not None:
            lines.append(Line(at.isoformat(), decided.what, alert, decided.reason))
        if decided.what is What.SENT:
            assert severity.rank >= Severity(level).rank
            assert severity is Severity.CRITICAL or not is_quiet(at, params)
            louder = [s for when, s in sent if at - when < timedelta(hours=24)]
            assert all(s.rank < severity.rank for s in louder)
            sent.append((at, severity))
    waiting = due(standing(lines).values(), NIGHT, params)
    assert not waiting or all(alert.severity is Severity.CRITICAL for alert in waiting)


@pytest.mark.parametrize(
    ("begin", "end", "hours"), [("22:00", "07:00", 9), ("01:00", "05:00", 4), ("08:00", "08:00", 0)]
)
def test_quiet_hours_may_go_over_midnight_and_are_local(begin, end, hours):
    params = Alerts(quiet_from=begin, quiet_until=end, timezone="America/New_York")
    quiet = [is_quiet(NOON + i * HOUR, params) for i in range(24)]
    assert sum(quiet) == hours
    midnight = datetime(2024, 6, 4, 3, 59, tzinfo=UTC)  # 23:59 in New York
    assert is_quiet(midnight, params) == (begin == "22:00")


def test_wrong_parameters_are_refused():
    for wrong in ({"timezone": "Mars/Base"}, {"quiet_from": "25:00"}, {"repeat_hours": 0}):
        with pytest.raises(ValidationError):
            Alerts(**wrong)
    assert Alerts.model_validate({"quiet_from": 22 * 60}).quiet_from == "22:00"


def test_a_record_is_read_once_and_then_what_others_add(desk, hook):
    other = Desk(desk.journal, desk.name, desk.targets, desk.params)
    desk.raise_(WARNING, NOON)
    assert set(other.open()) == set(desk.open()) == {WARNING.key}
    with desk.journal.path.open("r+b") as file:  # what was read is not looked at again
        file.write(b"x")
    assert desk.resolve(WARNING.key, NOON + HOUR, "well again")
    assert other.open() == desk.open() == {}
