"""A sign of life reaches a service outside, and stays out when the monitor does not work."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from data.errors import EvergreenError
from data.periods import Period
from flows import troubles
from flows.alert import alert
from flows.alerts import Alert, Severity
from flows.cli import app
from flows.heartbeat import beat
from flows.monitor import monitor
from flows.project import Project
from flows.reports import SILENCE
from flows.settings import PORTS, Settings
from tests.conftest import fill
from tests.lived import keep, report_on
from tests.planted import PROBLEM

WEEK = Period.parse("2024-W02")


class Service(HTTPServer):
    """What it was asked for, and how it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def project(tmp_path, params, service, monkeypatch) -> Project:
    """Two weeks that were ingested; the newest was watched a moment ago."""
    fill(tmp_path / "data" / "raw", "2024-W01", "2024-W02")
    address = f"http://127.0.0.1:{service.server_port}/ping/s3cret"
    settings = Settings(tmp_path, tmp_path / "var", PORTS, heartbeat=address)
    settings.home.mkdir()
    made = Project(settings, params, PROBLEM)
    monkeypatch.setattr(Project, "open", classmethod(lambda *_: made))
    watched(made, datetime.now(UTC))
    return made


def watched(project: Project, at: datetime) -> None:
    keep(project.settings, replace(report_on(WEEK, 0), made_at=at.isoformat()))


def test_whoever_has_worked_gives_a_sign(project, service):
    monitor.fn(once=True)
    alert.fn()
    assert service.asked == ["/ping/s3cret"] * 2


def test_a_look_that_finds_the_monitor_silent_or_a_crash_gives_none(project, service):
    alert.fn(crashed="retrain 2024-W01", flow_name="retrain")
    watched(project, datetime.now(UTC) - SILENCE - timedelta(hours=1))
    with pytest.raises(EvergreenError, match="silent for 8 days"):
        alert.fn()
    assert service.asked == []


@pytest.mark.parametrize("gone", [True, False])
def test_that_nobody_answers_is_one_line_without_the_secret(project, service, capsys, gone):
    service.status = 503
    if gone:
        service.shutdown()
        service.server_close()
    alert.fn()
    said = [line for line in capsys.readouterr().out.splitlines() if "sign of life" in line]
    (line,) = said
    assert "127.0.0.1 of EVERGREEN_HEARTBEAT" in line and "s3cret" not in line
    assert ("503" in line) != gone
    assert "s3cret" not in repr(project.settings)


def test_none_is_named_and_a_wrong_one_is_refused(tmp_path):
    assert beat(Settings(tmp_path, tmp_path, PORTS)) is None
    for wrong in ("hc.example.org/1", "ftp://example.org", "https://"):
        with pytest.raises(EvergreenError, match="EVERGREEN_HEARTBEAT is no address"):
            Settings.read({"EVERGREEN_HEARTBEAT": wrong})


def test_cron_can_ask_with_every_server_down(project, monkeypatch):
    """Files alone say whether the monitor works and somebody was told."""

    def asked() -> Exception | None:
        return CliRunner().invoke(app, ["alerts", "check"]).exception

    monkeypatch.setenv("EVERGREEN_HOME", str(project.settings.home))
    assert asked() is None
    lost = Alert("run.retrain", Severity.CRITICAL, "retrain failed", "why")
    troubles.desk(project).raise_(lost, datetime.now(UTC))  # to nobody: no address is named
    assert "nobody was told: retrain failed" in str(asked())
    troubles.desk(project).resolve(lost.key, datetime.now(UTC), "well again")
    assert asked() is None
    watched(project, datetime.now(UTC) - SILENCE - timedelta(hours=1))
    assert "silent for 8 days" in str(asked())
    for path in (project.settings.home / "reports").iterdir():
        path.unlink()
    assert "nothing was ever watched" in str(asked())
