"""Exactly one promotion: fifty that race, and a kill -9 before every single write."""

import multiprocessing
import signal
from collections import Counter
from dataclasses import replace

import pytest

from data.errors import EvergreenError
from models import audit, standing
from models.ledger import Act, Kind
from models.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from tests.models.promoters import ACT, NOW, open_registry, promote_and_die, race

PROCESSES, THREADS = 5, 10
RACERS = PROCESSES * THREADS


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("promotion")


@pytest.fixture(scope="module")
def processes():
    """Processes that start in milliseconds: a server that has imported MLflow forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "mlflow.artifacts", "sqlalchemy.orm", "alembic"])
    return context


@pytest.fixture
def registry(store, request) -> Registry:
    return open_registry(store, request.node.name.split("[")[0])


def add(registry: Registry, digest: str):
    run = registry.tracking.client().create_run(registry.tracking.experiment())
    return registry.register(run.info.run_id, digest * 16, {"as_of": "2024-W08"})


def aliases(registry: Registry) -> tuple[str | None, ...]:
    found = (registry.alias(name) for name in (CHAMPION, PREVIOUS, CHALLENGER))
    return tuple(version and version.number for version in found)


def clean(registry: Registry) -> list[str]:
    """What a reader of everything would complain of."""
    check, entries = audit.ledger_check(registry.ledger)
    champion, previous, _ = aliases(registry)
    checks = [
        check,
        audit.head_check(entries, registry.head()),
        audit.promotions_check(entries, registry.versions()),
        audit.aliases_check(entries, champion, previous),
    ]
    return [check.reason for check in checks if not check.ok]


def promotions(registry: Registry) -> list[tuple[str, str | None]]:
    entries = registry.ledger.read()
    return [(e.version, e.expected) for e in entries if e.kind is Kind.PROMOTED]


def test_of_fifty_that_race_exactly_one_wins(store, registry, processes):
    champion = add(registry, "0000")
    registry.promote(champion, None, ACT)
    racers = [add(registry, f"1-{i:02d}").number for i in range(RACERS)]
    start, said = processes.Barrier(RACERS), processes.Queue()
    running = [
        processes.Process(
            target=race,
            args=(store, registry.name, racers[i::PROCESSES], champion.number, start, said),
        )
        for i in range(PROCESSES)
    ]
    for process in running:
        process.start()
    came = dict(said.get(timeout=300) for _ in racers)
    for process in running:
        process.join()
    (won,) = (number for number, words in came.items() if words == "won")
    lost = Counter("champion changed since it was judged: judge again" in words
                   for number, words in came.items() if number != won)  # fmt: skip
    assert lost == {True: RACERS - 1}
    assert aliases(registry) == (won, champion.number, None)
    assert promotions(registry)[1:] == [(won, champion.number)]
    assert clean(registry) == []


def test_killed_before_any_write_a_rerun_promotes_exactly_once(store, registry, processes):
    champion = add(registry, "0000")
    registry.promote(champion, None, ACT)
    killed_at = 0
    while True:
        challenger = add(registry, f"{killed_at + 1:04d}")
        registry.challenge(challenger)
        arguments = (store, registry.name, challenger.number, champion.number, killed_at)
        process = processes.Process(target=promote_and_die, args=arguments)
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        held = registry.alias(CHAMPION).number
        assert held in (champion.number, challenger.number), "somebody is champion throughout"
        registry.promote(challenger, champion.number, ACT)
        assert promotions(registry)[killed_at + 1 :] == [(challenger.number, champion.number)]
        assert aliases(registry) == (challenger.number, champion.number, None)
        assert clean(registry) == []
        if process.exitcode == 0:
            break
        champion, killed_at = challenger, killed_at + 1
    assert killed_at >= 9, "every write of a promotion is a place to die"
    assert registry.ledger.path.with_name(f"{registry.ledger.path.name}.torn").exists()


def test_whoever_is_not_the_owner_any_more_moves_nothing(registry):
    one, two = add(registry, "0001"), add(registry, "0002")
    registry.promote(one, None, ACT)
    before = registry.ledger.path.read_bytes()
    with pytest.raises(EvergreenError, match="run none is not the running owner any more"):
        registry.promote(two, "1", ACT, still_owner=lambda: False)
    assert registry.ledger.path.read_bytes() == before
    assert aliases(registry) == ("1", None, None)
    assert two.number == "2"


def test_an_alias_moved_by_hand_is_found_and_put_back(registry):
    one, two, three = (add(registry, f"000{i}") for i in (1, 2, 3))
    registry.promote(one, None, ACT)
    registry.promote(two, "1", ACT)
    client = registry.tracking.client()
    client.set_registered_model_alias(registry.name, CHAMPION, "3")
    (said,) = clean(registry)
    assert "alias champion is 3, but the ledger says 2" in said
    with pytest.raises(EvergreenError, match="`evergreen release 2` puts it back"):
        registry.promote(three, "2", ACT)
    registry.promote(two, "1", ACT)
    assert aliases(registry) == ("2", "1", None)
    client.set_registered_model_alias(registry.name, CHAMPION, "3")
    registry.promote(one, "2", replace(ACT, reason="back"), kind=Kind.ROLLED_BACK)
    assert aliases(registry) == ("1", "2", None) and clean(registry) == []


def test_a_registry_that_is_older_than_its_ledger_is_written_down(registry):
    one, two = add(registry, "0001"), add(registry, "0002")
    registry.tracking.client().set_registered_model_alias(registry.name, CHAMPION, "1")
    (said,) = clean(registry)
    assert "run `evergreen release 1`" in said
    with pytest.raises(EvergreenError, match="judge again"):
        registry.promote(two, None, ACT)
    registry.promote(one, None, ACT)
    registry.promote(two, "1", ACT)
    assert aliases(registry) == ("2", "1", None) and clean(registry) == []


def test_a_ledger_that_is_cut_edited_or_gone_is_found_and_stops_every_writer(registry):
    one, two, three = (add(registry, f"000{i}") for i in (1, 2, 3))
    registry.promote(one, None, ACT)
    registry.promote(two, "1", ACT)
    registry.record(Kind.RELEASED, two, Act(NOW, "a test", "serves"))
    path = registry.ledger.path
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    ways = {
        "cut off": b"".join(lines[:-1]),
        "MLflow has seen line 3": b"".join(lines)[:-1],
        "lines were cut off": b"",
        "was edited": whole.replace(b'"serves"', b'"served"'),
        "a line was dropped or moved": lines[0] + lines[2],
    }
    for said, content in ways.items():
        path.write_bytes(content)
        assert any(said in reason for reason in clean(registry)), (said, clean(registry))
        with pytest.raises(EvergreenError, match=said):
            registry.promote(three, "2", ACT)
        with pytest.raises(EvergreenError, match=said):
            registry.record(Kind.WAIVER, three, ACT)
        assert path.read_bytes() == content, "nothing is repaired that was not torn by a kill"
    path.unlink()
    assert any("lines were cut off" in reason for reason in clean(registry))
    path.write_bytes(whole)
    assert clean(registry) == []
    registry.promote(three, "2", ACT)
    assert standing.holders(registry.ledger.read()) == ("3", "2")
