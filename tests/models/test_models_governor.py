"""The governor's decisions, one history at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.params import Governor
from data.periods import Period, span
from data.verdicts import Finding, Verdict
from models.governor import (
    BROKEN,
    MONTH,
    NEEDED,
    Action,
    Attempt,
    Decision,
    Watched,
    decide,
)

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
        ("2024-W01", "2024-W09", "AAu", "investigate",
         "feature_drift is unknown: drift could not be judged"),
        ("2024-W01", "2024-W20", "u", "investigate",
         "feature_drift is unknown: drift could not be judged"),
        # a retrain that left this champion in place is not repeated at once
        ("2024-W01", "2024-W06", "ARA", "wait",
         "drift alarm 3 periods running, but a retrain 1 periods ago did not help"),
        ("2024-W01", "2024-W06", "ARAAAA", "wait",
         "drift alarm 6 periods running, but a retrain 4 periods ago did not help"),
        ("2024-W01", "2024-W05", "ARAAAAA", "retrain", "drift alarm 7 periods running"),
        ("2024-W01", "2024-W13", "RRo", "wait",
         "the champion is 14 periods old, but 2 retrains, the last 1 periods ago did not help"),
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


def test_what_counts_is_the_distance_from_all_that_was_learned():
    """Features unlike the nearest period warn a person; far from all together they are a cause."""

    def seen(verdict: Verdict, psi: float) -> tuple[Finding, ...]:
        whole = {"whole": {"column": "queue", "psi": psi, "limit": 1.0}}
        return (Finding("feature_drift", verdict, None, None, 500, "", whole),)

    first, second, learned = map(Period.parse, ("2024-W09", "2024-W10", "2024-W01"))
    for verdict, psi, action in (
        (Verdict.WARN, 1.1, Action.RETRAIN),
        (Verdict.ALARM, 0.9, Action.WAIT),
        (Verdict.UNKNOWN, 1.1, Action.INVESTIGATE),
    ):
        history = [Watched(week, seen(verdict, psi)) for week in (first, second)]
        assert decide(history, learned, PARAMS).action is action


def test_who_has_learned_much_may_become_older():
    params = PARAMS.model_copy(update={"maximum_age_periods": 8, "maximum_age_share": 0.4})
    for learned, oldest in ((0, 8), (20, 8), (21, 9), (40, 16)):
        for age, action in ((oldest - 1, Action.WAIT), (oldest, Action.RETRAIN)):
            week = Period.parse(f"2024-W{age + 1:02d}")
            calm = [Watched(week, (said("feature_drift", Verdict.OK),))]
            assert decide(calm, Period.parse("2024-W01"), params, (), learned).action is action


def said(monitor: str, verdict: Verdict) -> Finding:
    return Finding(monitor, verdict, None, None, 500, f"{monitor} says {verdict}")


def watched(period: str, *findings: Finding) -> Watched:
    return Watched(Period.parse(period), (said("feature_drift", Verdict.ALARM), *findings))


def test_a_broken_relation_needs_no_second_alarm():
    alone = [
        Watched(
            Period.parse("2024-W09"),
            (said("feature_drift", Verdict.OK), said("concept_drift", Verdict.ALARM)),
        )
    ]
    assert decide(alone, Period.parse("2024-W01"), PARAMS).action is Action.RETRAIN
    assert decide(alone, Period.parse("2024-W08"), PARAMS).action is Action.WAIT


def test_what_ranks_worse_than_chance_is_for_a_person():
    turned = Finding("quality", Verdict.WARN, 0.4, 0.1, 500, "ROC-AUC 0.25", {"turned": True})
    found = decide(
        [watched("2024-W20", turned, said("concept_drift", Verdict.ALARM), gap(-2.5))],
        Period.parse("2024-W01"),
        PARAMS,
    )
    assert found == Decision(
        Action.INVESTIGATE, "outcomes or fields look turned round: ROC-AUC 0.25"
    )


def test_numbers_of_another_unit_are_for_a_person():
    def off(value: float, **more: str) -> Action:
        level = Finding("calibration", Verdict.WARN, 1.0, 0.1, 500, "off", {"gap": value, **more})
        return decide([watched("2024-W20", level)], Period.parse("2024-W19"), PARAMS).action

    assert off(-353.0, unit="standard deviations") is Action.INVESTIGATE
    assert off(-2.0, unit="standard deviations") is Action.RECALIBRATE
    assert off(-4.0) is Action.RECALIBRATE, "log odds of a rare outcome move so far"


def gap(value: float, verdict: Verdict = Verdict.OK) -> Finding:
    return Finding("calibration", verdict, None, None, 500, "", {"gap": value})


def test_a_gap_in_level_is_recalibrated_where_no_retrain_may_be_made():
    young, old = Period.parse("2024-W19"), Period.parse("2024-W01")
    assert decide([watched("2024-W20", gap(-0.3))], young, PARAMS) == Decision(
        Action.RECALIBRATE, "the level is off by -0.30 log odds; 1 of 2 alarms running"
    )
    assert decide([watched("2024-W20", gap(0.02))], young, PARAMS).action is Action.WAIT
    unknown = watched("2024-W20", gap(0.3, Verdict.UNKNOWN))
    assert decide([unknown], young, PARAMS).action is Action.WAIT
    assert decide([watched("2024-W20", gap(0.3))], old, PARAMS).action is Action.RETRAIN


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        ([("2024-W18", 1.0), ("2024-W19", 1.0), ("2024-W20", 1.0)],
         "the month's 3 retrains are made"),
        ([("2024-W19", 7000.0), ("2024-W20", 200.0)], "7200 of the month's 7200 seconds are spent"),
        ([("2024-W15", 9000.0), ("2024-W16", 1.0), ("2024-W17", 1.0), ("2024-W18", 1.0)], None),
    ],
)  # fmt: skip
def test_a_month_has_a_budget(attempts, reason):
    made = [Attempt(Period.parse(name), seconds) for name, seconds in attempts]
    history = [watched("2024-W20"), watched("2024-W21")]
    eager = PARAMS.model_copy(update={"cooldown_periods": 0})
    found = decide(history, Period.parse("2024-W20"), eager, made)
    assert found.action is (Action.WAIT if reason else Action.RETRAIN)
    assert not reason or reason in found.reason


VERDICT = st.sampled_from(list(Verdict))
WEEKS = span(Period.parse("2024-W01"), Period.parse("2024-W40"))
FINDINGS = st.dictionaries(
    st.sampled_from([*NEEDED, "calibration", "concept_drift", "endpoint"]), VERDICT
)
LIMITS = st.builds(
    Governor,
    consecutive_alarms=st.integers(1, 3),
    cooldown_periods=st.integers(0, 5),
    maximum_age_periods=st.integers(1, 12),
    monthly_retrains=st.integers(1, 3),
    monthly_seconds=st.floats(1, 30),
)


@given(st.lists(FINDINGS, min_size=1, max_size=25), LIMITS, st.data())
def test_whatever_is_seen_limits_hold(story, params, data):
    """A champion lives through any story; some retrains replace it, others do not help."""
    learned, history, attempts = WEEKS[0], [], []
    for week, verdicts in zip(WEEKS[1:], story, strict=False):
        seen = tuple(said(monitor, verdict) for monitor, verdict in verdicts.items())
        history.append(Watched(week, seen))
        decision = decide(history, learned, params, attempts)
        history[-1] = Watched(week, seen, decision.action)
        unknown = {m for m, v in verdicts.items() if v is Verdict.UNKNOWN}
        broken = {m for m in BROKEN if verdicts.get(m) is Verdict.ALARM}
        blind = unknown & set(NEEDED) or "feature_drift" not in verdicts
        assert (decision.action is Action.INVESTIGATE) == bool(blind or broken)
        if decision.action is not Action.RETRAIN:
            continue
        age = len(span(learned.next(), week))
        assert age > params.cooldown_periods or age >= params.maximum_age_periods
        vain = [a.as_of for a in attempts if a.as_of > learned]
        assert all(len(span(w.next(), week)) > params.cooldown_periods or
                   params.cooldown_periods == 0 for w in vain)  # fmt: skip
        month = [a for a in attempts if week.end - a.as_of.end < MONTH]
        assert len(month) < params.monthly_retrains
        assert sum(a.seconds for a in month) < params.monthly_seconds
        attempts.append(Attempt(week, data.draw(st.floats(0, 20))))
        if data.draw(st.booleans()):
            learned, history = week, []
