"""A team's stores, the real ones: two hosts, one ledger, one lock, one bucket."""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import psycopg2
import pytest
from mlflow.store.model_registry import sqlalchemy_store as versions_store
from mlflow.store.tracking import sqlalchemy_store

from data.digests import seal
from data.errors import EvergreenError
from data.params import load_params
from data.postgres import Postgres
from flows import guard, roster, service, users
from flows import stores as keeping
from flows.access import Role
from flows.bucket import Bucket
from flows.door import Doorkeeper
from flows.migrate import run_migrate
from flows.project import Project
from flows.settings import PORTS, Settings
from flows.shelf import keep_predictions
from flows.team import Team
from models import audit
from models.ledger import Kind, Ledger
from models.registry import CHAMPION, PREVIOUS, Registry
from models.shared_ledger import SharedLedger
from models.signing import sign
from models.tracking import ARTIFACT, REGISTERED, Tracking
from tests import stores
from tests.conftest import ROOT, fill
from tests.e2e.world import make_world
from tests.networks import Host, hosts
from tests.planted import PROBLEM
from tests.serving_stack import wait_for
from tests.team_hosts import ACT, die_after_the_line, hang, open_registry, promote_slowly, race

pytestmark = pytest.mark.team
HOSTS, THREADS = "ab", 4


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[tuple[Host, ...], str]]:
    """Two hosts with a link each, or this one twice and why."""
    with hosts(2) as made:
        yield made


@pytest.fixture(scope="module")
def team(network) -> Iterator[dict[str, str]]:
    """The environment of a host, and everything made as `up` makes it."""
    with stores.team([host.server for host in network[0] if host.namespace]) as given:
        keeping.prepare(Settings.read(given))
        yield given


@pytest.fixture(scope="module")
def postgresql(team) -> str:
    return team["EVERGREEN_DATABASE_URL"]


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "psycopg2", "sqlalchemy.orm", "alembic"])
    return context


@pytest.fixture
def host(postgresql, team, tmp_path, request):
    """Opens the registry as the host of that name sees it."""
    return lambda name: open_registry(postgresql, tmp_path / name, request.node.name[-40:])


def add(registry: Registry, digest: str):
    run = registry.tracking.client().create_run(registry.tracking.experiment())
    return registry.register(run.info.run_id, digest * 16, {"as_of": "2024-W08"})


def wrong(registry: Registry) -> list[str]:
    """What a reader of everything would complain of."""
    check, entries = audit.ledger_check(registry.ledger)
    held = [version and version.number for version in map(registry.alias, (CHAMPION, PREVIOUS))]
    checks = [
        check,
        audit.head_check(entries, registry.head()),
        audit.promotions_check(entries, registry.versions()),
        audit.aliases_check(entries, *held),
    ]
    return [check.reason for check in checks if not check.ok]


def test_of_two_hosts_that_race_exactly_one_promotion_wins(
    postgresql, network, host, tmp_path, processes
):
    registry = host("a")
    champion = add(registry, "0000")
    registry.promote(champion, None, ACT)
    racers = [add(registry, f"1-{i:02d}").number for i in range(2 * THREADS)]
    start, said = processes.Barrier(len(racers)), processes.Queue()
    running = [
        processes.Process(
            target=race,
            args=(postgresql, tmp_path / HOSTS[i], registry.name, network[0][i]),
            kwargs={"numbers": racers[i::2], "expected": "1", "start": start, "said": said},
        )
        for i in range(2)
    ]
    for process in running:
        process.start()
    came = dict(said.get(timeout=120) for _ in racers)
    for process in running:
        process.join()
    (won,) = (number for number, words in came.items() if words == "won")
    lost = Counter("champion changed since it was judged" in words for words in came.values())
    assert lost == {True: len(racers) - 1, False: 1}, came
    a, b = host("a"), host("b")
    assert a.ledger.read() == b.ledger.read()
    promoted = [(e.version, e.expected) for e in a.ledger.read() if e.kind is Kind.PROMOTED]
    assert promoted == [("1", None), (won, "1")]
    assert wrong(a) == wrong(b) == []
    b.promote(b.get(racers[0] if won != racers[0] else racers[1]), won, ACT)
    a.promote(a.get(won), a.alias(CHAMPION).number, ACT, kind=Kind.ROLLED_BACK)
    assert wrong(a) == wrong(b) == [] and len(b.ledger.read()) == 4


def test_a_killed_holder_lets_go_and_a_killed_promotion_is_completed(
    postgresql, host, tmp_path, processes
):
    a, b = host("a"), host("b")
    one, two = add(a, "0001"), add(a, "0002")
    a.promote(one, None, ACT)
    held = processes.Event()
    holder = processes.Process(target=hang, args=(postgresql, tmp_path / "a", a.name, 60, held))
    holder.start()
    assert held.wait(60)
    with (
        pytest.raises(EvergreenError, match=rf"held for over 0.2 s by evergreen \S+ {holder.pid}"),
        b.ledger.held(tmp_path / "no.lock", 0.2),
    ):
        pass
    holder.kill()
    holder.join()
    arguments = (postgresql, tmp_path / "a", a.name, two.number, "1")
    killed = processes.Process(target=die_after_the_line, args=arguments)
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert b.alias(CHAMPION).number == "1" and len(b.ledger.read()) == 2
    b.promote(b.get("2"), "1", ACT)
    assert b.alias(CHAMPION).number == "2" and wrong(b) == wrong(a) == []
    assert len(b.ledger.read()) == 2, "completed, not done twice"


def test_whoever_loses_the_connection_writes_nothing(postgresql, host, tmp_path):
    a, b = host("a"), host("b")
    one, two, three = (add(a, f"000{i}") for i in (1, 2, 3))
    a.promote(one, None, ACT)

    def cut() -> bool:
        """The server ends the holder's connection, and another host promotes meanwhile."""
        end_holders(postgresql)
        b.promote(three, "1", ACT)
        return True

    with pytest.raises(EvergreenError, match=r"PostgreSQL: .*nothing more is moved by this run"):
        a.promote(two, "1", ACT, still_owner=cut)
    assert b.alias(CHAMPION).number == "3" and wrong(a) == wrong(b) == []
    with pytest.raises(EvergreenError, match="under its lock only"):
        a.ledger.append(Kind.RELEASED, "1", one.digest, ACT)


@pytest.mark.parametrize("after_the_line", [False, True])
def test_a_link_that_is_cut_in_mid_promotion_ends_in_exactly_one(
    postgresql, network, host, tmp_path, processes, after_the_line
):
    (far, _), reason = network
    if reason:
        pytest.skip(reason)
    b = host("b")
    for digest in ("0001", "0002", "0003"):
        add(b, digest)
    b.promote(b.get("1"), None, ACT)
    ready, go, said = processes.Event(), processes.Event(), processes.Queue()
    arguments = (postgresql, tmp_path / "a", b.name, far, "2", after_the_line, ready, go, said)
    promoter = processes.Process(target=promote_slowly, args=arguments)
    promoter.start()
    assert ready.wait(60)
    far.cut()
    try:
        go.set()
        overtaken = "champion changed since it was judged" if after_the_line else None
        with pytest.raises(EvergreenError, match=overtaken) if overtaken else nullcontext():
            b.promote(b.get("3"), "1", ACT)  # gets the lock once the database gives the other up
        assert "nothing more is moved by this run" in said.get(timeout=30)
        promoter.join()
    finally:
        far.mend()
    champion = "2" if after_the_line else "3"
    assert b.alias(CHAMPION).number == champion and wrong(b) == []
    assert [entry.version for entry in b.ledger.read()] == ["1", champion]


class Sleepy(SharedLedger):
    """Asked for the lock it says that it has it; then sleeps, while something else happens."""

    meanwhile: ClassVar[list[Callable[[], None]]] = []

    def _ask(self, query, values=()):
        found = super()._ask(query, values)
        if query == "SELECT 1":
            Sleepy.meanwhile.pop(0)()
        return found


@pytest.mark.parametrize("before", ["head", "alias"])
def test_a_host_that_hangs_keeps_no_lock_and_writes_nothing_when_it_wakes(
    postgresql, host, tmp_path, processes, before
):
    a, b = host("a"), host("b")
    two, three = [add(a, f"000{i}") for i in (1, 2, 3)][1:]
    a.promote(a.get("1"), None, ACT)
    held = processes.Event()
    holder = processes.Process(target=hang, args=(postgresql, tmp_path / "c", a.name, 0.5, held))
    holder.start()
    assert held.wait(60)
    with b.ledger.held(tmp_path / "no.lock", 10):
        assert holder.is_alive(), "it lost the lock without ending"
    holder.kill()
    holder.join()

    def overtake() -> None:
        end_holders(postgresql)
        b.promote(three, "2", ACT)

    awake = [lambda: None] * (before == "alias")
    Sleepy.meanwhile = [*awake, overtake]
    sleeper = replace(a, ledger=Sleepy(a.ledger.path, a.ledger.database, a.name))
    with pytest.raises(EvergreenError, match="this run lost the promotion lock: MLflow knows line"):
        sleeper.promote(two, "1", ACT)
    assert [entry.version for entry in b.ledger.read()] == ["1", "2", "3"]
    assert b.alias(CHAMPION).number == "3" and b.alias(PREVIOUS).number == "2"
    assert wrong(a) == wrong(b) == []


def end_holders(url: str) -> None:
    """Whoever holds an advisory lock loses the connection."""
    with closing(psycopg2.connect(url)) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        admin.commit()


def test_the_ledger_is_only_appended_to_and_its_copies_know(postgresql, host, team):
    a, b = host("a"), host("b")
    one, two = add(a, "0001"), add(a, "0002")
    a.promote(one, None, ACT)
    b.promote(two, "1", ACT)
    b.record(Kind.RELEASED, two, ACT)
    assert [audit.ledger_check(each.ledger)[0].reason for each in (a, b)] == [
        f"3 lines, each as it was written; in PostgreSQL, and the first {mine} in this host's copy"
        for mine in (1, 3)
    ]
    assert Ledger(b.ledger.path).read() == a.ledger.read(), "the copy is a ledger of its own"
    with closing(psycopg2.connect(postgresql)) as admin, admin.cursor() as cursor:
        for change in ("DELETE FROM evergreen_ledger", "TRUNCATE evergreen_ledger"):
            with pytest.raises(psycopg2.Error, match="only appended to"):
                cursor.execute(change)
            admin.rollback()
        cursor.execute("ALTER TABLE evergreen_ledger DISABLE TRIGGER ALL")
        where = "WHERE problem = %s AND seq = 2"
        cursor.execute(f"UPDATE evergreen_ledger SET line = replace(line, 'because', 'x') {where}",
                       (a.name,))  # fmt: skip
        admin.commit()
        assert any("line 2 was edited" in said for said in wrong(a))
        cursor.execute("DELETE FROM evergreen_ledger WHERE problem = %s AND seq > 1", (a.name,))
        admin.commit()
        assert any("MLflow has seen line 3" in said for said in wrong(a))
        assert any("line 2 differs" in said for said in wrong(b))
        with pytest.raises(EvergreenError, match="does not go on from what this host has seen"):
            b.record(Kind.RELEASED, one, ACT)
        cursor.execute("ALTER TABLE evergreen_ledger ENABLE TRIGGER ALL")
        admin.commit()


def test_files_go_to_the_bucket_and_come_back(team, tmp_path):
    bucket = Bucket(Settings.read(team).team)
    (tmp_path / "a").write_bytes(b"a model")
    bucket.put(tmp_path / "a", "bentos/a")
    assert bucket.keys("bentos") == {"bentos/a": 7} and not bucket.has("bentos/b")
    assert bucket.fetch("bentos/a", tmp_path / "b") and (tmp_path / "b").read_bytes() == b"a model"
    assert not bucket.fetch("bentos/none", tmp_path / "c")


def test_nothing_set_is_a_laptop_and_half_of_it_is_refused(team):
    assert Settings.read({}).team is None
    settings = Settings.read(team)
    assert Settings.read(settings.child_environment()) == settings
    for name in ("EVERGREEN_DATABASE_URL", "EVERGREEN_S3_URL"):
        half = {key: value for key, value in team.items() if key != name}
        with pytest.raises(EvergreenError, match=f"but {name} is not"):
            Settings.read(half)


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "postgresql://h:x/secret", "postgresql://u:secret@/d", "secret"]
)
def test_a_bad_address_is_named_and_no_secret_shown(team, url):
    with pytest.raises(EvergreenError, match="EVERGREEN_DATABASE_URL is no postgresql") as refused:
        Settings.read({**team, "EVERGREEN_DATABASE_URL": url})
    assert "secret@" not in str(refused.value) and "u:" not in str(refused.value)


def test_no_secret_is_shown_or_written(team, tmp_path):
    settings = Settings.read({**team, "EVERGREEN_HOME": str(tmp_path)})
    from flows import stack

    shown = repr(settings) + stack._configuration(settings)
    assert stores.PASSWORD not in shown and stores.SECRET not in shown
    assert stores.PASSWORD not in settings.tracking_uri


def test_stores_that_are_away_are_one_clear_line(team, tmp_path):
    (port,) = stores.free_ports(1)
    away = {"EVERGREEN_DATABASE_URL": f"postgresql://u:p@127.0.0.1:{port}/evergreen"}
    settings = Settings.read({**team, **away, "EVERGREEN_HOME": str(tmp_path)})
    project = Project(settings, load_params(settings.params), PROBLEM)
    for ask in (keeping.ledger(settings).read, lambda: project.registry):
        with pytest.raises(EvergreenError, match=rf"not open postgresql://u@127.0.0.1:{port}"):
            ask()
    gone = {"EVERGREEN_S3_ENDPOINT": f"http://127.0.0.1:{port}"}
    with pytest.raises(EvergreenError, match=rf"S3 \(http://127.0.0.1:{port}\)") as refused:
        keeping.prepare(Settings.read({**team, **gone}))
    assert "\n" not in str(refused.value)
    wrong_key = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.raises(EvergreenError, match="refuses bucket 'team'"):
        Bucket(Settings.read({**team, **wrong_key}).team).keys("bentos")
    with pytest.raises(EvergreenError, match="password authentication failed"):
        Postgres(Settings.read(team).team.database, "wrong").rows("a test", "SELECT 1")


def test_one_list_of_users_is_that_of_all_hosts(team, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr(roster, "EVERY", 0.1)
    laptop = Settings.read({"EVERGREEN_HOME": str(tmp_path / "a")})
    a, b = (Settings.read({**team, "EVERGREEN_HOME": str(tmp_path / name)}) for name in "ab")
    assert not roster.refresh(b).sign_in
    with roster.one_writer(laptop) as (known, keep):
        known, ann = users.add(known, "ann", Role.APPROVER, ACT.at)
        keep(known)
    keeping.prepare(a)  # her list becomes the team's
    assert roster.refresh(b).sign_in and users.load(b.root) == known
    service.have_secret(a)
    door = Doorkeeper.of(a)
    with roster.one_writer(b) as (known, keep):
        known, oli = users.add(known, "oli", Role.OPERATOR, ACT.at)
        keep(known)
    wait_for(lambda: door.bearer(oli), 20)
    told = {**team, "EVERGREEN_HOME": str(a.root), "EVERGREEN_TOKEN": oli}
    os.environ.update(told)
    guard.admit("retrain")
    with roster.one_writer(b) as (known, keep):
        keep(users.revoke(known, "oli", ACT.at))
    os.environ.update(told)
    with pytest.raises(EvergreenError, match="was revoked"):
        guard.admit("retrain")
    (port,) = stores.free_ports(1)
    gone = f"postgresql://u:p@127.0.0.1:{port}/evergreen"
    away = {**team, "EVERGREEN_HOME": str(b.root), "EVERGREEN_DATABASE_URL": gone}
    assert users.find(users.load(roster.refresh(Settings.read(away)).root), ann).name == "ann"
    with pytest.raises(EvergreenError, match="not open"), roster.one_writer(Settings.read(away)):
        pass


@pytest.fixture
def laptop(tmp_path) -> Project:
    """A home with a snapshot, and two versions that were promoted in turn."""
    made = make_world(tmp_path / "checkout")
    settings = Settings(made.checkout, made.home, PORTS)
    project = Project(settings, load_params(settings.params), PROBLEM)
    fill(settings.raw, "2024-W01", "2024-W02")
    project.record("2024-W02")
    project.keys.ensure()
    registry = project.registry
    for name in ("one", "two"):
        signed = tmp_path / name
        (signed / ARTIFACT).mkdir(parents=True)
        (signed / ARTIFACT / "model").write_text(name)
        digest = seal(signed / ARTIFACT)
        sign(signed, project.keys)
        client = registry.tracking.client()
        run = client.create_run(registry.tracking.experiment(), tags={"said": "häufig 'so'"})
        for step, value in enumerate((0.1, 1e-17, float("nan"))):
            client.log_metric(run.info.run_id, "loss", value, step=step)
        client.log_artifacts(run.info.run_id, str(signed), REGISTERED)
        version = registry.register(run.info.run_id, digest, {"as_of": "2024-W02"}, "# a *card*")
        champion = registry.alias(CHAMPION)
        registry.promote(version, champion and champion.number, ACT)
    return project


def history(project: Project) -> list:
    """What a person knows a registry by."""
    for kind in (sqlalchemy_store.SqlAlchemyStore, versions_store.SqlAlchemyStore):
        for engine in kind._engine_map.values():
            engine.dispose()  # or it would read the file that was set aside
    registry = project.registry
    client = registry.tracking.client()
    versions = [replace(version, source="") for version in registry.versions()]
    runs = [client.get_run(version.run_id) for version in versions]
    losses = [client.get_metric_history(run.info.run_id, "loss") for run in runs]
    said = [(run.info.start_time, run.data.tags, run.info.status) for run in runs]
    values = [[(m.step, m.timestamp, repr(m.value)) for m in loss] for loss in losses]
    return [versions, said, values, project.ledger.read(), registry.head(), wrong(registry)]


def test_a_laptops_history_goes_to_the_team_and_back(team, laptop, tmp_path, monkeypatch):
    monkeypatch.setattr(Project, "open", lambda settings: replace(laptop, settings=settings))
    before, kept = history(laptop), (laptop.settings.home / "ledger.jsonl").read_bytes()
    url = team["EVERGREEN_DATABASE_URL"]
    Postgres(url).rows("a test", "CREATE DATABASE two")
    two = {"EVERGREEN_DATABASE_URL": url.rpartition("/")[0] + "/two"}
    settings = replace(laptop.settings, team=Team.read({**team, **two}))
    for name, value in settings.child_environment().items():
        monkeypatch.setenv(name, value)

    keeping.prepare(settings)  # and another problem is there already
    theirs = Tracking(settings.tracking_uri, f"{keeping.artifacts(settings)}", "other").client()
    theirs.create_registered_model("other")
    run = theirs.create_run(theirs.create_experiment("other"))
    theirs.create_model_version("other", "s3://elsewhere", run.info.run_id)

    done = run_migrate(settings, "team")
    assert (done.runs, done.versions, done.lines, done.snapshots) == (2, 2, 2, 1)
    shared = Project.open(settings)
    assert history(shared) == before and before[-1] == []
    assert theirs.get_run(run.info.run_id).info.experiment_id == run.info.experiment_id
    assert len(shared.registry.tracking.client().search_experiments()) == 3
    assert shared.registry.versions()[0].source.startswith(f"s3://{stores.BUCKET}/shared/mlflow/")
    assert not (laptop.settings.home / "mlflow" / "mlflow.db").exists()
    shared.registry.tracking.client().create_experiment("numbers go on after those that came")
    with pytest.raises(EvergreenError, match="no history to move"):
        run_migrate(settings, "team")
    shared.registry.record(Kind.RELEASED, shared.registry.get("2"), ACT)
    lived = history(shared)

    destroy_and_restore(settings, tmp_path)
    assert history(Project.open(settings)) == lived
    assert all(shared.registry.registered(version) for version in shared.registry.versions())

    shutil.rmtree(laptop.settings.home / "mlflow" / "artifacts")
    shutil.rmtree(laptop.settings.home / "dvc")
    done = run_migrate(settings, "laptop")
    assert (done.runs, done.versions, done.lines, done.snapshots) == (3, 3, 3, 1)
    back = Project.open(laptop.settings)
    assert history(back) == lived and lived[-1] == []
    assert back.ledger.path.read_bytes().startswith(kept)
    assert all(back.registry.registered(version) for version in back.registry.versions())
    with pytest.raises(EvergreenError, match="move it aside, nothing is merged"):
        run_migrate(settings, "laptop")
    with pytest.raises(EvergreenError, match=r"has runs or versions of parcels already"):
        run_migrate(settings, "team")


def destroy_and_restore(settings: Settings, folder: Path) -> None:
    """Back up and restore by the lines of docs/team.md, with nothing left of the stores between."""
    page = (ROOT / "docs" / "team.md").read_text().partition("## Backup")[2]
    dump, restore = re.findall("```bash\n(.*?)```", page, re.DOTALL)
    team = settings.team
    told = {"PATH": f"{stores.binaries()}:{os.environ['PATH']}", "PGPASSWORD": team.password}
    told["EVERGREEN_DATABASE_URL"] = team.database

    def run(lines: str) -> None:
        done = subprocess.run(["bash", "-ec", lines], cwd=folder, env=told, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")

    run(dump)
    bucket = Bucket(team)
    kept = bucket.keys("mlflow") | bucket.keys("dvc")
    for key in kept:
        assert bucket.fetch(key, folder / "backup" / "bucket" / key)
    names = (team.name, team.mlflow, team.prefect(""))
    for name in names:
        Postgres(f"{team.beside('evergreen')}", team.password).rows(
            "a test", f'DROP DATABASE "{name}" WITH (FORCE)'
        )
    client = stores.bucket_client(team.endpoint)
    for key in kept:
        client.delete_object(Bucket=team.bucket, Key=team.key(key))
    shutil.rmtree(keeping.cache(settings))
    run(restore)
    for key in kept:
        bucket.put(folder / "backup" / "bucket" / key, key)


def test_closed_logs_are_sent_once_and_again_where_they_are_missing(team, tmp_path):
    settings = Settings.read({**team, "EVERGREEN_HOME": str(tmp_path)})
    slot = settings.serving.folder / "log" / "blue"
    slot.mkdir(parents=True)
    (slot / "predictions-00000001.parquet").write_bytes(b"one")
    (slot / "predictions-00000002.jsonl").write_bytes(b"not archived yet")
    (port,) = stores.free_ports(1)
    away = {"EVERGREEN_S3_ENDPOINT": f"http://127.0.0.1:{port}"}
    assert keep_predictions(Settings.read({**team, **away, "EVERGREEN_HOME": str(tmp_path)})) == []
    (sent,) = keep_predictions(settings)
    assert sent.startswith("predictions/main/") and sent.endswith(
        "/blue/predictions-00000001.parquet"
    )
    assert Bucket(settings.team).has(sent) and keep_predictions(settings) == []
    assert keep_predictions(replace(settings, team=None)) == ()
