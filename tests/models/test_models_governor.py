"""The governor's decisions, one history at a time."""

import pytest

from data.params import Governor
from data.periods import Period
from data.verdicts import Finding, Verdict
from models.governor import Action, Decision, Watched, decide

PARAMS = Governor(consecutive_alarms=2, cooldown_periods=4, maximum_age_periods=13)
VERDICTS = {"o": Verdict.OK, "w": Verdict.WARN, "A": Verdict.ALARM, "u": Verdict.UNKNOWN}


def decided(learned_until: str, first: str, story: str, params: Governor = PARAMS) -> Decision:
    """The decision after a story: one letter a period; `R` is an alarm that led to a retrain,
    `!` an alarm with broken data, `-` a period that nobody watched."""
    history, period = [], Period.parse(first)
    for letter in story:
        if letter != "-":
            drift = VERDICTS.get(letter, Verdict.ALARM)
            findings = [Finding("feature_drift", drift, None, None, 0, "drift could not be judged")]
            if letter == "!":
                said = "20% of events have no outcome"
                findings.append(Finding("contract", Verdict.ALARM, 0.2, 0.15, 500, said))
            action = Action.RETRAIN if letter == "R" else Action.WAIT
            history.append(Watched(period, tuple(findings), action))
        period = period.next()
    return decide(history, Period.parse(learned_until), params)


@pytest.mark.parametrize(
    ("learned_until", "first", "story", "action", "reason"),
    [
        # calm
        ("2024-W08", "2024-W09", "o", "wait", "no more drift than is usual"),
        ("2024-W08", "2024-W09", "wwww", "wait", "no more drift than is usual"),
        # an alarm must persist
        ("2024-W01", "2024-W09", "oA", "wait", "1 of 2 alarms running"),
        ("2024-W01", "2024-W09", "AA", "retrain", "drift alarm 2 periods running"),
        ("2024-W01", "2024-W09", "AAA", "retrain", "drift alarm 3 periods running"),
        ("2024-W01", "2024-W09", "AoA", "wait", "1 of 2 alarms running"),
        ("2024-W01", "2024-W09", "AwA", "wait", "1 of 2 alarms running"),
        ("2024-W01", "2024-W09", "AuA", "wait", "1 of 2 alarms running"),
        ("2024-W01", "2024-W09", "AAo", "wait", "no more drift than is usual"),
        # a period that nobody watched breaks the run
        ("2024-W01", "2024-W09", "A-A", "wait", "1 of 2 alarms running"),
        ("2024-W01", "2024-W08", "A-AA", "retrain", "drift alarm 2 periods running"),
        # the run goes over the end of a year with 53 weeks
        ("2020-W45", "2020-W53", "AA", "retrain", "drift alarm 2 periods running"),
        # a young champion is left alone
        ("2024-W08", "2024-W11", "AA", "wait", "drift, but the champion is only 4 periods old"),
        ("2024-W08", "2024-W12", "AA", "retrain", "drift alarm 2 periods running"),
        # old age is enough
        ("2024-W01", "2024-W13", "o", "wait", "no more drift than is usual"),
        ("2024-W01", "2024-W14", "o", "retrain", "the champion is 13 periods old"),
        # broken data is never a reason to retrain
        ("2024-W01", "2024-W09", "A!", "investigate",
         "a retrain would not help: 20% of events have no outcome"),
        ("2024-W01", "2024-W20", "!", "investigate",
         "a retrain would not help: 20% of events have no outcome"),
        ("2024-W01", "2024-W09", "AAu", "investigate", "drift could not be judged"),
        ("2024-W01", "2024-W20", "u", "investigate", "drift could not be judged"),
        # a retrain that left this champion in place is not repeated at once
        ("2024-W01", "2024-W06", "ARA", "wait",
         "drift alarm 3 periods running, but a retrain 1 periods ago did not help"),
        ("2024-W01", "2024-W06", "ARAAAA", "wait",
         "drift alarm 6 periods running, but a retrain 4 periods ago did not help"),
        ("2024-W01", "2024-W05", "ARAAAAA", "retrain", "drift alarm 7 periods running"),
        ("2024-W01", "2024-W13", "RRo", "wait",
         "the champion is 14 periods old, but a retrain 1 periods ago did not help"),
        ("2024-W01", "2024-W13", "Roooo", "wait",
         "the champion is 16 periods old, but a retrain 4 periods ago did not help"),
        ("2024-W01", "2024-W13", "Rooooo", "retrain", "the champion is 17 periods old"),
    ],
)  # fmt: skip
def test_decisions(learned_until, first, story, action, reason):
    assert decided(learned_until, first, story) == Decision(Action(action), reason)


def test_limits_come_from_the_parameters():
    eager = Governor(consecutive_alarms=1, cooldown_periods=0, maximum_age_periods=2)
    assert decided("2024-W08", "2024-W09", "A", eager).action is Action.RETRAIN
    assert decided("2024-W08", "2024-W09", "o", eager).action is Action.WAIT
    assert decided("2024-W08", "2024-W10", "o", eager).action is Action.RETRAIN
    assert decided("2024-W08", "2024-W09", "RA", eager).action is Action.RETRAIN
