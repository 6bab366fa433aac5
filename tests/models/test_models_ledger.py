"""The ledger on disk under every kind of damage, and what its lines come to."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import EvergreenError
from models import standing
from models.ledger import Act, Entry, Head, Kind, Ledger, head_fault
from models.standing import Served, Waiver

ACT = Act(datetime(2024, 3, 4, tzinfo=UTC), "Ann", "a reason")
PROMOTED, RELEASED, ROLLED_BACK = Kind.PROMOTED, Kind.RELEASED, Kind.ROLLED_BACK
ABORTED = Kind.ABORTED


def write(path, *lines: tuple) -> Ledger:
    """A ledger of (kind, version, expected)."""
    ledger = Ledger(path)
    for kind, version, *expected in lines:
        ledger.append(kind, version, version * 64, ACT, *expected)
    return ledger


def life(*lines: tuple) -> list[Entry]:
    """The same without a file."""
    entries: list[Entry] = []
    for kind, version, *expected in lines:
        last = entries[-1].head if entries else Head()
        champion = expected[0] if expected else None
        entry = Entry(last.seq + 1, "2024", kind, version, version * 64, champion, "", "", "",
                      last.hash)  # fmt: skip
        entries.append(entry.sealed())
    return entries


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Ledger:
    lines = [(PROMOTED, str(n), str(n - 1) if n else None) for n in range(6)]
    return write(tmp_path_factory.mktemp("ledger") / "ledger.jsonl", *lines)


def found(ledger: Ledger, content: bytes, head: Head) -> bool:
    """Whether a reader, who knows the head, notices."""
    ledger.path.write_bytes(content)
    try:
        return head_fault(ledger.read(), head) is not None
    except EvergreenError:
        return True


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_to_the_bytes_is_found(data, whole, tmp_path_factory):
    original, head = whole.path.read_bytes(), whole.read()[-1].head
    lines = original.splitlines(keepends=True)
    n = len(lines)
    place = data.draw(st.integers(0, len(original) - 1))
    ways = {
        "flip": lambda: (
            original[:place]
            + bytes([original[place] ^ data.draw(st.integers(1, 255))])
            + original[place + 1 :]
        ),
        "cut": lambda: original[:place],
        "drop": lambda: b"".join(line for i, line in enumerate(lines) if i != place % n),
        "double": lambda: b"".join(lines[: place % n + 1] + lines[place % n :]),
        "move": lambda: b"".join(data.draw(st.permutations(lines))),
        "space": lambda: original.replace(b":", b": ", 1),
        "blank": lambda: original + b"\n",
    }
    content = ways[data.draw(st.sampled_from(sorted(ways)))]()
    copy = Ledger(tmp_path_factory.mktemp("copy") / "ledger.jsonl")
    assert found(copy, content, head) == (content != original)


def test_a_ledger_written_anew_is_found_by_its_head(tmp_path, whole):
    head = whole.read()[-1].head
    other = write(tmp_path / "l.jsonl", *[(PROMOTED, str(n)) for n in range(6)])
    assert "written anew" in head_fault(other.read(), head)
    assert "is older than the ledger" in head_fault(whole.read(), None)
    lagging = whole.read()[-2].head
    assert head_fault(whole.read(), lagging) is None


@given(cut=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_a_torn_end_is_set_aside_and_the_chain_goes_on(cut, tmp_path_factory):
    ledger = write(tmp_path_factory.mktemp("torn") / "l.jsonl", (PROMOTED, "1"))
    one = ledger.path.read_bytes()
    ledger.append(PROMOTED, "2", "2" * 64, ACT, "1")
    torn = ledger.path.read_bytes()[len(one) :][:-cut]
    ledger.path.write_bytes(one + torn)
    assert [entry.version for entry in ledger.read()] == ["1"] and ledger.torn()
    ledger.append(PROMOTED, "3", "3" * 64, ACT, "1")
    assert [(entry.seq, entry.version) for entry in ledger.read()] == [(1, "1"), (2, "3")]
    assert not ledger.torn()
    assert ledger.path.with_name("l.jsonl.torn").read_bytes() == torn + b"\n"


def test_an_edited_line_is_named(tmp_path):
    ledger = write(tmp_path / "l.jsonl", (PROMOTED, "1"), (PROMOTED, "2", "1"))
    text = ledger.path.read_text()
    ledger.path.write_text(text.replace('"by":"Ann"', '"by":"Bob"', 1))
    with pytest.raises(EvergreenError, match=r"l.jsonl: line 1 was edited"):
        ledger.read()


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1"), (RELEASED, "2")], "1"),
        # 2 was promoted and never served: 1 is what served before 3
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1"), (PROMOTED, "3", "2"),
          (RELEASED, "3")], "1"),
        # killed before it took the traffic
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1")], "1"),
        # back, and back again: further, not forth
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1"), (RELEASED, "2"),
          (PROMOTED, "3", "2"), (RELEASED, "3"), (ROLLED_BACK, "2", "3")], "1"),
        # back, and a new one: the one taken back does not come again
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1"), (RELEASED, "2"),
          (ROLLED_BACK, "1", "2"), (PROMOTED, "3", "1"), (RELEASED, "3")], "1"),
        ([(PROMOTED, "1"), (RELEASED, "1")], None),
        ([(PROMOTED, "1"), (RELEASED, "1"), (PROMOTED, "2", "1"), (RELEASED, "2"),
          (ROLLED_BACK, "1", "2")], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_rollback_goes_to_what_really_served_before(lines, target):
    if target:
        assert standing.rollback_target(life(*lines)) == Served(target, target * 64)
    else:
        with pytest.raises(EvergreenError, match="nothing to roll back to"):
            standing.rollback_target(life(*lines))


def test_what_was_rolled_back_is_remembered_until_it_is_promoted_again():
    entries = life((PROMOTED, "1"), (PROMOTED, "2", "1"), (ROLLED_BACK, "1", "2"))
    assert standing.taken_back(entries, "2") == entries[-1]
    assert standing.taken_back(entries, "1") is None
    cut = life((PROMOTED, "1"), (Kind.CUT_OFF, "2"))
    assert standing.aborted(cut, "2") is None, "a killed release says nothing against it"
    again = life((PROMOTED, "1"), (PROMOTED, "2", "1"), (ROLLED_BACK, "1", "2"), (PROMOTED, "2"))
    assert standing.taken_back(again, "2") is None


def test_a_word_counts_for_one_promotion_against_one_champion():
    approved = [(PROMOTED, "1"), (Kind.APPROVED, "2", "1")]
    said = standing.decision(life(*approved), "2" * 64, "1")
    assert said and said.kind is Kind.APPROVED
    assert standing.decision(life(*approved), "2" * 64, "3") is None, "judged again since"
    assert standing.decision(life(*approved), "3" * 64, "1") is None
    used = life(*approved, (PROMOTED, "2", "1"))
    assert standing.decision(used, "2" * 64, "1") is None
    refused = standing.decision(life(*approved, (Kind.REFUSED, "2", "1")), "2" * 64, "1")
    assert refused and refused.kind is Kind.REFUSED


def test_a_waiver_lets_one_failed_gate_pass_until_its_day_is_over():
    day = date(2024, 3, 10)
    waiver = Waiver("log_loss", "2", "d" * 64, "Ann", "a known season", day)
    tags = {"gate.log_loss": "failed: +0.04", "gate.parity": "passed: 1e-9", "gate.n": "unknown: 3"}
    last = datetime(2024, 3, 10, 23, 59, 59, tzinfo=UTC)
    assert standing.failed_gates(tags) == ["log_loss", "n"]
    assert standing.unwaived(tags, [waiver], last) == ["n"]
    assert standing.unwaived(tags, [waiver, replace(waiver, gate="n")], last) == []
    assert standing.unwaived(tags, [waiver], last + timedelta(seconds=1)) == ["log_loss", "n"]
    assert standing.unwaived(tags, [], last) == ["log_loss", "n"]
    schema = {"gate.schema": "failed: fields differ"}
    assert standing.unwaived(schema, [replace(waiver, gate="schema")], last) == ["schema"]


def test_what_was_sent_back_is_so_until_it_is_promoted():
    entries = life((PROMOTED, "1"), (RELEASED, "1"), (ABORTED, "2"))
    assert standing.aborted(entries, "2").version == "2"
    assert standing.aborted(entries, "1") is None
    assert standing.holders(entries) == ("1", None), "the champion never moved"
    assert [served.version for served in standing.served(entries)] == ["1"]
    again = life((PROMOTED, "1"), (ABORTED, "2"), (PROMOTED, "2", "1"))
    assert standing.aborted(again, "2") is None
