"""What a shadow's answers come to, without any server."""

from dataclasses import replace

import numpy as np

from bento import shadow
from bento.shadow import Answer, Pair
from data.release_params import Shadow
from data.task import BINARY

LIMITS = Shadow(rows=200, minimum_rows=50, flip_limit=0.1)


def pairs(n: int = 100) -> list[Pair]:
    """Two models that agree, to within a little."""
    random = np.random.default_rng(1)
    found = []
    for number in range(n):
        p = float(random.uniform(0.1, 0.9))
        champion = Answer(p, p > 0.5, False, 0.003)
        found.append(Pair(f"id-{number}", p, True, champion, replace(champion, score=p + 1e-3)))
    return found


def candidate(found: list[Pair], every: int, **changes) -> list[Pair]:
    return [
        replace(pair, candidate=replace(pair.candidate, **changes)) if i % every == 0 else pair
        for i, pair in enumerate(found)
    ]


def blocks(found: list[Pair], limits: Shadow = LIMITS) -> str:
    return shadow.compare(found, limits, BINARY).blocks or ""


def test_an_equal_version_passes():
    report = shadow.compare(pairs(), LIMITS, BINARY)
    assert report.blocks is None and report.rows == 100 and report.changed_since == 0
    assert all(verdict.good for verdict in report.verdicts)


def test_each_fault_blocks_by_its_name():
    wrong = candidate(pairs(), 50, score=None, decision=None, fault="status 422 at $.kilos")
    assert blocks(wrong) == "errors: 2 of 100 rows, such as status 422 at $.kilos"
    assert "degraded: 1 of 100 rows" in blocks(candidate(pairs(), 100, degraded=True))
    slow = candidate(pairs(), 1, seconds=0.05)
    assert "latency p50: 50.0 ms against the champion's 3.0 ms" in blocks(slow)
    assert "latency p90" in blocks(candidate(pairs(), 5, seconds=0.05)), "a fifth of them is enough"
    flipped = [
        replace(p, candidate=replace(p.candidate, decision=not p.champion.decision))
        for p in pairs()
    ]
    assert "decisions: 100.0% differ (at most 10%)" in blocks(flipped)


def test_what_the_champion_fails_on_shows_nothing():
    failed = Answer(None, None, False, 0.001, "status 500")
    both = [replace(pair, champion=failed, candidate=failed) for pair in pairs()]
    report = shadow.compare(both, LIMITS, BINARY)
    assert report.unknown and report.blocks is None
    assert "at least 50 are required" in blocks(both, LIMITS.model_copy(update={"required": True}))


def test_few_requests_are_unknown_and_block_only_where_they_must_not():
    few = pairs(10)
    assert blocks(few) == ""
    assert [v.good for v in shadow.compare(few, LIMITS, BINARY).verdicts] == [
        True,
        True,
        None,
        None,
        None,
    ]
    assert "10 comparable requests" in blocks(few, LIMITS.model_copy(update={"required": True}))
    assert "errors: 1 of 10" in blocks(candidate(few, 10, score=None, fault="no answer"))


def test_the_largest_differences_are_named_and_the_champion_is_held_to_its_word():
    found = candidate(pairs(), 100, score=0.999)
    found[7] = replace(found[7], logged=found[7].logged + 0.1)
    report = shadow.compare(found, LIMITS, BINARY)
    assert report.largest[0][0] == "id-0" and len(report.largest) == shadow.NAMED
    assert report.changed_since == 1
