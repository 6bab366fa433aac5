"""The board and `status` say what is there, whatever is broken; the page asks nobody else."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import psutil
import pytest
import requests
import uvicorn
import yaml
from rich.console import Console

from bento.gateway import STATE, Experiment, Release, State
from data.periods import Period, span
from data.task import REGRESSION
from flows import board, board_view, stack
from flows.overview import Overview, gather
from flows.settings import PORTS, Settings
from flows.status import render
from models.ledger import Act, Kind, Ledger
from tests.browser import browser, needs_chromium
from tests.conftest import ROOT
from tests.lived import AT, DIGEST, EVIL, keep, put, report_on
from tests.serving_stack import free_ports, supervisord, wait_for


@pytest.fixture
def settings(tmp_path) -> Settings:
    """An empty home of the planted problem; nothing listens on its ports."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["problem"] = "tests/planted.py"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    home = tmp_path / "var"
    home.mkdir()
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    return Settings(tmp_path, home, ports)


@pytest.fixture
def lived(settings) -> Settings:
    """Twelve weeks: two versions, an alarm twice, a retrain, a week without labels, a waiver."""
    for place, period in enumerate(span(Period.parse("2024-W05"), Period.parse("2024-W16"))):
        keep(settings, report_on(period, place))
    ledger = Ledger(settings.home / "ledger.jsonl")
    say = [
        (Kind.PROMOTED, "1", None, "first model", "ann"),
        (Kind.RELEASED, "1", None, "serves in slot blue", "ann"),
        (Kind.WAIVER, "2", "1", EVIL, "<b>bob</b>"),
        (Kind.PROMOTED, "2", "1", "drift alarm 2 periods running", "monitor"),
        (Kind.RELEASED, "2", "1", "serves in slot green", "monitor"),
    ]
    for kind, version, over, reason, by in say:
        detail = {"gate": "calibration", "expires": "2024-06-01"} if kind is Kind.WAIVER else {}
        ledger.append(kind, version, DIGEST, Act(AT, by, reason), over, detail)
    blue = Release("1", "b2" * 32, "planted:b2-1", "2024-03-01T00:00:00+00:00")
    green = Release("2", DIGEST, "planted:a1-2", "2024-04-08T00:00:00+00:00")
    put(settings, State({"blue": blue, "green": green}, "green", {"blue": 0, "green": 100}))
    return settings


@pytest.fixture
def shown() -> Iterator[Callable[[Settings], str]]:
    """Serves a home's board; the address it has."""
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def serve(settings: Settings) -> str:
        port = settings.ports["board"]
        looked = board.Board(settings, lambda settings, _: gather(settings, AT))
        server = uvicorn.Server(uvicorn.Config(board.app(looked), port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        started.append((server, thread))
        wait_for(lambda: server.started)
        return f"http://127.0.0.1:{port}"

    yield serve
    for server, thread in started:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def up(settings, monkeypatch) -> Iterator[None]:
    """A supervisord of this home answers, but neither MLflow, Prefect nor the gateway does."""
    folder = settings.runtime
    folder.mkdir(parents=True)
    (folder / "s.conf").write_text(
        f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n\n"
        f"[unix_http_server]\nfile={settings.serving.supervisor_socket}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
        "[program:prefect]\ncommand=sleep 600\nautostart=false\n"
    )
    process = supervisord(folder)
    wait_for(lambda: stack.is_up(settings))
    yield
    process.terminate()
    process.wait(30)


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=30)


def test_a_problem_of_numbers_is_shown_in_its_own_words(settings):
    numbers = replace(report_on(Period.parse("2024-W05"), 0), task=REGRESSION)
    keep(settings, numbers)
    text = board._template().render(board_view.content(gather(settings, AT)))
    assert "concordance (more is better)" in text and "ROC-AUC" not in text
    assert "squared error / 2 beyond what is usual" in text and "log loss" not in text


def in_terminal(found: Overview) -> str:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(found))
    return console.export_text()


def test_an_empty_home_has_a_page_that_says_so(settings, shown):
    reply = get(shown(settings))
    assert reply.status_code == 200
    for words in ("The stack is down", "No period was watched yet", "Nothing was decided yet"):
        assert words in reply.text
    assert "the stack is down" in in_terminal(gather(settings, AT))


def test_page_json_and_terminal_say_the_same(lived, shown):
    url, found = shown(lived), gather(lived, AT)
    page, terminal = get(url).text, in_terminal(found)
    said = get(f"{url}/overview.json").json()
    assert said == get(f"{url}/?json").json() == json.loads(json.dumps(found.to_json()))
    assert said["aliases"] == {"champion": "2", "challenger": None, "previous": "1"}
    assert said["monitor"]["period"] == "2024-W16" and said["monitor"]["action"] == "wait"
    auc = said["year"][0]["auc"]
    assert auc == {
        "value": 0.7,
        "low": pytest.approx(0.64),
        "high": pytest.approx(0.72),
        "limit": pytest.approx(0.62),
    }
    assert [week["action"] for week in said["year"]].count("retrain") == 1
    for text in (page, terminal):
        assert "as usual" in text and "PSI of 2024-W16" in text and "drift alarm 2 periods" in text
    assert page.count("✘ ALARM") == 2 and "? UNKNOWN" in page and "version 2" in page
    assert "ALARM of feature_drift" in page and "gate calibration" in page
    assert "2024-W14: 0 %" in page, "label coverage"
    assert len(said["ledger"]) == 5 and said["ledger"][0]["kind"] == "released"


def test_what_people_wrote_is_text(lived, shown):
    page = get(shown(lived)).text
    assert "<script" not in page and "<b>bob" not in page and "&lt;script src=" in page
    assert "<script" in in_terminal(gather(lived, AT)), "a terminal shows it as it is"


def test_it_says_who_does_not_answer(lived, up, shown):
    url = shown(lived)
    page, said = get(url).text, get(f"{url}/overview.json").json()
    assert said["up"] and said["aliases"]["champion"] == "2", "as the ledger has it"
    assert [words.split(":")[0] for words in said["unknown"]] == ["MLflow", "Prefect"]
    assert any("the gateway has no answer" in words for words in said["problems"])
    assert page.count("? unknown") == 2 and "✘ problem" in page and "Something does not fit" in page
    assert "MLflow" in in_terminal(gather(lived, AT))
    assert get(f"{url}/versions/2/gates.html").status_code == 503


def test_a_torn_ledger_is_shown_up_to_where_it_is_whole(lived, shown):
    path = lived.home / "ledger.jsonl"
    with path.open("ab") as file:
        file.write(b'{"at":"2024')
    found = gather(lived, AT)
    assert len(found.ledger) == 5 and any("part of a line" in said for said in found.problems)
    path.write_bytes(path.read_bytes().replace(b"first model", b"other model"))
    found = gather(lived, AT)
    assert found.ledger == () and any("line 1 was edited" in said for said in found.problems)
    assert get(shown(lived)).status_code == 200


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(lived, shown):
    (lived.home / "reports" / "2024-W10-v1.json").write_text('{"period":')
    (lived.home / "reports" / "2024-W11-v2.json").write_text("[]")
    odd = lived.home / "reports" / "2024-W12-v2.json"
    odd.write_text(odd.read_text().replace('"value":-0.1', '"value":NaN'))
    (lived.serving.folder / STATE).write_text("{}")
    found = gather(lived, AT)
    assert len(found.year) == 9 and found.monitor is not None
    assert sum("is no report of the monitor" in said for said in found.unknown) == 3
    assert any("is not a state of the gateway" in said for said in found.unknown)
    (lived.checkout / "params.yaml").write_text("problem: tests/nothing.py\n")
    assert any("params.yaml" in said for said in gather(lived, AT).unknown)
    assert get(shown(lived)).status_code == 200


def test_a_changed_report_is_read_again_and_the_busiest_version_of_a_period_counts(lived):
    week = Period.parse("2024-W16")
    report = report_on(week, 11)
    keep(lived, replace(report, version="3", served=10, made_at=AT.isoformat()))
    found = gather(lived, AT)
    assert found.year[-1].version == "2" and found.monitor is not None
    assert found.monitor.week.version == "3", "the last one made"
    keep(lived, replace(report, version="3", served=1000))
    assert gather(lived, AT).year[-1].version == "3"


def test_a_canary_left_behind_and_a_silent_monitor_are_problems(lived):
    (dead,) = {max(psutil.pids()) + 9999}
    green = Release("2", DIGEST, "planted:a1-2", "2024-04-08T00:00:00+00:00")
    blue = Release("3", "c3" * 32, "planted:c3-3")
    tried = Experiment("canary", "blue", 5, AT.isoformat(), dead)
    weights = {"blue": 5, "green": 95}
    put(lived, State({"blue": blue, "green": green}, "green", weights, tried))
    found = gather(lived, AT + timedelta(days=8))
    assert found.experiment and "version 3 is canary with 5 %" in found.experiment
    assert any("left behind" in said for said in found.problems)
    assert any("silent for 10 days" in said for said in found.problems)
    (shares,) = [s for s in board_view.content(found)["slots"] if s["slot"] == "blue"]
    assert (shares["share"], shares["part"]) == (5, "shares the traffic")


def test_only_pages_of_this_home_are_given_and_only_to_this_machine(lived, shown):
    url = shown(lived)
    report = get(f"{url}/reports/2024-W16-v2.html")
    assert report.status_code == 200 and "sandbox" in report.headers["content-security-policy"]
    (lived.home / "secret.html").write_text("secret")
    for path in ("/reports/..%2Fsecret.html", "/reports/%2e%2e%2fsecret.html", "/ledger.jsonl",
                 "/reports/2024-W16-v2.json", "/versions/1/..%2Fmanifest.json"):  # fmt: skip
        assert get(f"{url}{path}").status_code == 404, path
    assert get(url, host="evil.example").status_code == 400
    assert requests.post(url, timeout=30).status_code == 405
    assert get(f"{url}/healthz").text == "ok\n"
    policy = get(url).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy


def test_asking_often_is_cheap(lived):
    looked: list[datetime] = []

    def look(settings: Settings, at: datetime) -> Overview:
        looked.append(at)
        return gather(settings, AT)

    shared = board.Board(lived, look)
    assert len({id(shared.overview()) for _ in range(50)}) == len(looked) == 1


@needs_chromium
def test_in_a_browser_it_asks_only_itself_and_fits(lived, shown):
    url = shown(lived)
    with browser() as page:
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.open(url, width, scheme)
            assert page.asked() == {f"{url}/", f"{url}/board.css"}
            assert page.complaints() == []
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
            seen = "[...document.querySelectorAll('svg')].map(s => s.checkVisibility())"
            assert page.run(seen) == [width > 700, width < 700]
            words = page.run("document.body.innerText")
            for word in ("version 2", "✔ OK", "feature drift", "What was decided", "<script src="):
                assert word in words, word
            ink = page.run("getComputedStyle(document.body).color")
            assert (ink == "rgb(255, 255, 255)") == (scheme == "dark")
        page.open(f"{url}/reports/2024-W16-v2.html")
        assert page.run("document.body.innerText") == "2024-W16"


@needs_chromium
def test_the_policy_stops_a_page_that_would_ask_elsewhere(settings, shown, monkeypatch):
    """Were something not escaped, the browser would still ask nobody."""
    monkeypatch.setattr(board_view, "content", lambda _: {})
    monkeypatch.setattr(board, "_template", lambda: _Raw(EVIL))
    with browser() as page:
        page.open(shown(settings))
        said = page.complaints()
    assert sum("Content Security Policy" in each for each in said) == 3, said
    assert not any("ERR_" in each for each in said), "nobody was asked, so that nobody refused"


class _Raw:
    def __init__(self, text: str) -> None:
        self._text = text

    def render(self, _: object) -> str:
        return f"<!doctype html><body>{self._text}"
