"""`evergreen migrate`: a laptop's history into a team's stores, and back, verified.

Files come first (again if it was killed: what is there is hashed, not sent twice), then the ledger,
then MLflow's database in one transaction, which decides. The source is left as it was, except that
a laptop's database is set aside, so that nobody goes on with it by mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from data.digests import sha256_file, write_atomically
from data.errors import EvergreenError
from data.repair import push
from data.versions import of_snapshot
from flows import stack, stores
from flows.bucket import Bucket
from flows.project import Project
from flows.settings import Settings
from flows.team import DATABASE, S3, Team
from models import move
from models.ledger import head_fault
from models.shared_ledger import SharedLedger

Say = Callable[[str], None]
ASIDE = "mlflow.db.before-team"
FILES = "mlflow"


@dataclass(frozen=True)
class Migrated:
    """What came over, counted on the side that it came to."""

    to: str
    runs: int
    versions: int
    lines: int
    snapshots: int
    files: int
    digest: str


def run_migrate(settings: Settings, to: str, say: Say = print) -> Migrated:
    """Move this home's history to the team that the environment names, or from it.

    Args:
        to: "team" or "laptop".

    Raises:
        EvergreenError: if no team is named, the stack is up, the target is not empty, or anything
            differs after it was copied; the source is whole in any case.
    """
    team = settings.team
    if to not in ("team", "laptop") or team is None:
        raise EvergreenError(
            f"`evergreen migrate --to {to}`: --to is team or laptop, and both need {DATABASE} and "
            f"{S3}, which say where the team's history is"
        )
    if stack.is_up(settings):
        raise EvergreenError("the stack is up: `evergreen down`, then migrate")
    stores.prepare(settings)
    laptop = replace(settings, team=None)
    if to == "team":
        return _to_team(laptop, settings, team, say)
    return _to_laptop(settings, laptop, team, say)


def _to_team(laptop: Settings, settings: Settings, team: Team, say: Say) -> Migrated:
    database = laptop.home / "mlflow" / "mlflow.db"
    if not database.exists():
        raise EvergreenError(f"{database} is not there: this home has no history to move")
    source, folder = Project.open(laptop), laptop.home / "mlflow" / "artifacts"
    lock, ledger = source.registry.lock, _shared(settings)
    move.refuse_if_used(team.tracking_uri, source.problem.name)
    with source.ledger.held(lock), ledger.held(lock, idle=0) as target:
        lines = _whole(source)
        count = _snapshots(laptop, settings)
        say(f"{count} snapshots are in {team.s3('dvc')}")
        files = _sent(folder, Bucket(team))
        say(f"{files} files are in {team.s3(FILES)}")
        target.adopt(lines)
        moved = move.copy(laptop.tracking_uri, team.tracking_uri, [_places(laptop, settings)])
    _whole(Project.open(settings))
    database.replace(database.with_name(ASIDE))
    return Migrated("team", moved.runs, moved.versions, len(lines), count, files, moved.digest)


def _to_laptop(settings: Settings, laptop: Settings, team: Team, say: Say) -> Migrated:
    database = laptop.home / "mlflow" / "mlflow.db"
    if database.exists():
        raise EvergreenError(f"{database} is there: move it aside, nothing is merged")
    source, folder = Project.open(settings), laptop.home / "mlflow" / "artifacts"
    part = database.with_name(f"{database.name}.part")
    part.unlink(missing_ok=True)
    with source.ledger.held(source.registry.lock, idle=0):
        lines = _whole(source)
        count = _snapshots(settings, laptop)
        say(f"{count} snapshots are in {laptop.root / 'dvc' / 'remote'}")
        files = _fetched(Bucket(team), folder)
        say(f"{files} files are in {folder}")
        write_atomically(laptop.home / stores.LEDGER, b"".join(line + b"\n" for line in lines))
        move.refuse_if_used(f"sqlite:///{part}", source.problem.name)
        places = [_places(settings, laptop)]
        moved = move.copy(team.tracking_uri, f"sqlite:///{part}", places)
        part.replace(database)
    _whole(Project.open(laptop))
    return Migrated("laptop", moved.runs, moved.versions, len(lines), count, files, moved.digest)


def _shared(settings: Settings) -> SharedLedger:
    ledger = stores.ledger(settings)
    assert isinstance(ledger, SharedLedger)
    return ledger


def _whole(project: Project) -> list[bytes]:
    """The lines of a ledger whose head MLflow knows, and every version as it was signed.

    Raises:
        EvergreenError: naming what is not.
    """
    registry = project.registry
    entries = project.ledger.read()
    if fault := head_fault(entries, registry.head()):
        raise EvergreenError(f"{project.ledger.place}: {fault}")
    for version in registry.versions():
        registry.registered(version)
    return [entry.line.encode() for entry in entries]


def _places(source: Settings, target: Settings) -> tuple[str, str]:
    """Where MLflow's files were, and where they are now."""
    old, new = (
        place.absolute().as_uri() if isinstance(place, Path) else place
        for place in map(stores.artifacts, (source, target))
    )
    return old, new


def _snapshots(source: Settings, target: Settings) -> int:
    """Bring the data of every snapshot to the target's remote; hashed there."""
    stores.configure_dvc(source)
    snapshots = Project.open(source).snapshots
    with snapshots.objects() as objects:
        for snapshot in snapshots.list():
            for md5 in of_snapshot(snapshot, objects).files.values():
                objects.path(md5)  # from now on it is in the cache, which both share
    stores.configure_dvc(target)
    return push(Project.open(target).snapshots, check=True).snapshots


def _sent(folder: Path, bucket: Bucket) -> int:
    """Every file of a folder to the bucket; what is there afterwards is read back and hashed."""
    paths = {
        f"{FILES}/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()
    }
    there = bucket.keys(FILES)
    with TemporaryDirectory() as scratch:
        for key, path in paths.items():
            if key in there and _same(bucket, key, path, Path(scratch)):
                continue
            bucket.put(path, key)
            if not _same(bucket, key, path, Path(scratch)):
                raise EvergreenError(f"{bucket.team.s3(key)} is not what {path} is: try again")
    return len(paths)


def _same(bucket: Bucket, key: str, path: Path, scratch: Path) -> bool:
    copy = scratch / "copy"
    return bucket.fetch(key, copy) and sha256_file(copy) == sha256_file(path)


def _fetched(bucket: Bucket, folder: Path) -> int:
    """Every file of the bucket to a folder; the sizes are those that the bucket lists."""
    there = bucket.keys(FILES)
    for key, size in there.items():
        path = folder / key.removeprefix(f"{FILES}/")
        if not bucket.fetch(key, path) or path.stat().st_size != size:
            raise EvergreenError(f"{bucket.team.s3(key)} did not come whole: try again")
    return len(there)
