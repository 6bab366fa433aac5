"""What waits for a person is named, with the command; what was decided does not wait."""

from datetime import UTC, datetime

import pytest

from flows import waiting
from flows.ask import Registered, Run
from models.ledger import Act, Kind, Ledger
from models.version import Version

ACT = Act(datetime(2024, 5, 1, tzinfo=UTC), "ann", "so it is")
TAGS = {"digest": "d2", "judged_against": "1", "reason": "all gates passed"}
KNOWN = Registered({"challenger": "2"}, {"2": Version("2", "d2", "run", "file:///x", TAGS)})
PAUSED = Run("retrain 2024-W09", "retrain", "Paused", "PAUSED", "", "", "http://prefect/run/7")


def asked(params, required: bool):
    approval = params.approval.model_copy(update={"required": required})
    return params.model_copy(update={"approval": approval})


@pytest.mark.parametrize(
    ("kinds", "required", "command"),
    [
        ([], False, "evergreen release 2"),
        ([], True, "evergreen approve 2 --by NAME --note WHY"),
        ([Kind.APPROVED], True, "evergreen release 2"),
        ([Kind.REFUSED], True, None),
        ([Kind.REFUSED, Kind.NOT_PROMOTED], True, "evergreen approve 2 --by NAME --note WHY"),
        ([Kind.ABORTED], False, None),
    ],
)
def test_a_challenger_waits_until_somebody_decided(tmp_path, params, kinds, required, command):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for kind in kinds:
        ledger.append(kind, "2", "d2", ACT, "1")
    found = waiting.find(asked(params, required), KNOWN, ledger.read(), [])
    assert [each.command for each in found] == ([command] if command else [])


def test_a_paused_run_asks_itself(params):
    (found,) = waiting.find(asked(params, True), KNOWN, [], [PAUSED])
    assert found.url == PAUSED.url and "retrain 2024-W09" in found.what


def test_without_a_registry_only_runs_are_known(params):
    assert waiting.find(params, None, [], []) == []
    assert waiting.find(None, KNOWN, [], []) == []
