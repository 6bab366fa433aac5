"""Where state is kept: on a laptop in the home, of a team in PostgreSQL and S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from data import keepalive
from data.digests import write_atomically
from data.errors import EvergreenError
from flows import roster
from flows.settings import Settings
from flows.team import Team
from models.ledger import Ledger
from models.version import Version

LEDGER = "ledger.jsonl"
PREPARING = 0x65766572677265  # of the advisory lock
LEDGER_IS_THERE = "SELECT to_regclass('evergreen_ledger') IS NOT NULL"


def ledger(settings: Settings) -> Ledger:
    """What was decided about this problem's versions."""
    path = settings.home / LEDGER
    if settings.team is None:
        return Ledger(path)
    from data.postgres import Postgres
    from models.shared_ledger import SharedLedger

    database = Postgres(settings.team.database, settings.team.password)
    return SharedLedger(path, database, settings.problem)


def must_answer(settings: Settings) -> None:
    """Ask a team's database for a sign of life; MLflow alone would try for two minutes.

    Raises:
        EvergreenError: if it does not answer.
    """
    if settings.team:
        from data.postgres import Postgres

        Postgres(settings.team.database, settings.team.password).rows("evergreen", "SELECT 1")


def artifacts(settings: Settings) -> Path | str:
    """Where MLflow keeps files."""
    if settings.team is None:
        return settings.home / "mlflow" / "artifacts"
    return settings.team.s3("mlflow")


def cache(settings: Settings) -> Path:
    """Where this host keeps the files of a team's versions."""
    return settings.home / "cache" / "versions"


def opened(settings: Settings, version: Version) -> Path:
    """The files of a team's version on this host; raises as `models.store.opened`."""
    from models import store
    from models.signing import Keys

    return store.opened(version, Keys(settings.signing_key).public, cache(settings))


def page(settings: Settings, version: Version, name: str) -> Path | None:
    """A page of a team's version: among what was signed with it, or kept with its run."""
    from flows.bucket import Bucket

    team = settings.team
    assert team is not None
    signed = opened(settings, version) / name
    if signed.exists():
        return signed
    kept = settings.home / "cache" / "pages" / version.run_id / name  # written once, with the run
    place = PurePosixPath(version.source.removeprefix(f"{team.s3()}/"))
    return kept if kept.exists() or Bucket(team).fetch(str(place.parent / name), kept) else None


def configure_dvc(settings: Settings) -> None:
    """Point DVC's cache and remote, which all problems share, to this root or this team."""
    local = settings.checkout / ".dvc" / "config.local"
    root, team = settings.root, settings.team
    lines = "[core]\n    remote = team\n" if team else ""
    if root != settings.checkout / "var":
        lines += f"[cache]\n    dir = {root / 'dvc' / 'cache'}\n"
        lines += f"['remote \"local\"']\n    url = {root / 'dvc' / 'remote'}\n"
    if team:  # the keys stay in the environment
        lines += f"['remote \"team\"']\n    url = {team.s3('dvc')}\n    region = {team.region}\n"
        lines += f"    endpointurl = {team.endpoint}\n" if team.endpoint else ""
    if not lines:
        local.unlink(missing_ok=True)
    elif not local.exists() or local.read_text() != lines:
        write_atomically(local, lines)


def prepare(settings: Settings) -> None:
    """Make the team's bucket, databases and ledger where they are not there yet.

    Raises:
        EvergreenError: if PostgreSQL or S3 cannot be reached, or may not be used.
    """
    if settings.team is None:
        return
    from flows.bucket import Bucket

    Bucket(settings.team).ensure()
    with _alone(settings.team) as session:
        _make_databases(session, settings.team, settings.problem)
    roster.adopt(settings)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Held while MLflow's tables are made: two that begin at once stumble over each other."""
    if settings.team is None:
        with FileLock(settings.home / "mlflow" / "upgrade.lock"):
            yield
        return
    with _alone(settings.team):
        yield


@contextmanager
def _alone(team: Team) -> Iterator[Any]:
    """A connection while no other host makes anything."""
    from data.postgres import Postgres, ask

    with Postgres(team.database, team.password).connected("evergreen up") as session:
        ask(session, "SELECT pg_advisory_lock(%s)", (PREPARING,))
        yield session


def _make_databases(session: Any, team: Team, problem: str) -> None:
    from data.postgres import Error, ask, words
    from models.shared_ledger import TABLE

    known = {name for (name,) in ask(session, "SELECT datname FROM pg_database")}
    for name in (team.mlflow, team.prefect(problem)):
        try:
            if name not in known:
                ask(session, f'CREATE DATABASE "{name}"')
            for setting, value in keepalive.server().items():  # of MLflow's and Prefect's sessions
                ask(session, f'ALTER DATABASE "{name}" SET {setting} = {value}')
        except Error as error:
            raise EvergreenError(
                f"{team.database}: {words(error)}; let who may do so run: CREATE DATABASE {name} "
                "OWNER the user of EVERGREEN_DATABASE_URL"
            ) from error
    try:
        if not ask(session, LEDGER_IS_THERE)[0][0]:
            ask(session, TABLE)
    except Error as error:
        raise EvergreenError(
            f"{team.database}: the ledger cannot be made: {words(error)}"
        ) from error
