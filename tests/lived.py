"""What a home holds after a while, written as the real parts write it, without their work."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from bento.gateway import STATE, State
from data.digests import canonical_json
from data.periods import Period
from data.verdicts import Finding, Verdict
from flows.monitor import MonitorReport
from flows.settings import Settings
from models.governor import Action, Decision

AT = datetime(2024, 5, 1, 6, tzinfo=UTC)
EVIL = "<script src='http://127.0.0.1:9/x.js'></script><img src='http://127.0.0.1:9/i.png'>"
EVIL += "<style>@import 'http://127.0.0.1:9/s.css'</style>"
DIGEST = "a1" * 32


def report_on(period: Period, place: int) -> MonitorReport:
    alarmed, known = place in (4, 5), place != 9
    drift = Finding("feature_drift", Verdict.ALARM if alarmed else Verdict.OK, 0.1 * place, 0.4,
                    900, f"PSI of {period}", {"columns": []})  # fmt: skip
    usual = {"value": 0.03, "rate": 0.1, "odd": None}
    worse = {"log_loss": {"value": -0.1, "low": -0.2, "high": 0.02, "usual": usual}}
    worse["roc_auc"] = {"value": -0.05, "low": -0.07, "high": 0.01, "usual": usual}
    seen = {"roc_auc": 0.7, "log_loss": 0.5, "worse": worse, "coverage": 1.0}
    judged = Finding("quality", Verdict.OK, -0.1, 0.01, 900, "as usual", seen)
    unknown = Finding("quality", Verdict.UNKNOWN, None, None, 0, "no label", {"coverage": 0.0})
    action = Action.RETRAIN if place == 5 else Action.WAIT
    return MonitorReport(
        period=period.name,
        version="1" if place < 6 else "2",
        trained="1" if place < 6 else "2",
        served=900,
        findings=(drift, judged if known else unknown),
        decision=Decision(action, "drift alarm 2 periods running"),
        made_at=(AT - timedelta(days=2)).isoformat(),
    )


def keep(settings: Settings, report: MonitorReport) -> None:
    path = settings.home / "reports" / f"{report.period}-v{report.version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(canonical_json(asdict(report)))
    path.with_suffix(".html").write_text(f"<h1>{report.period}</h1>")


def put(settings: Settings, state: State) -> None:
    settings.serving.folder.mkdir(exist_ok=True)
    (settings.serving.folder / STATE).write_text(json.dumps(asdict(state)))
