"""`evergreen backup`: everything that is state, in one file; the stack may be running.

What refers is copied before what it refers to: databases, ledger and traffic first, all under the
locks of releases and promotions; then partitions, snapshots, artefacts and logs, which only grow.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from bento import rollout
from data.errors import EvergreenError
from data.git import git
from data.params import load_params
from data.partitions import Partitions
from data.snapshots import writing
from flows import archive
from flows.archive import Written
from flows.settings import Settings
from flows.team import DATABASE

HOME, RAW, CHECKOUT, KEY = "home", "raw", "checkout", "key"
BUNDLE = "git/repository.bundle"
PATIENCE = 120  # seconds, for a release or a promotion to end
# Made again by whoever needs it, or of this machine and moment only.
LEFT_OUT = {"run", "logs", "cache", "snapshots", "reproduce", "environments"}
LEFT_OUT |= {".restore", "replaced", "restored"}  # of a restore
PASSING = (".lock", ".sock", ".pid", ".tmp", ".part", "-wal", "-shm", "-journal")
GROWS = {("mlflow", "artifacts"), ("serving", "log"), ("quarantine",), ("bentos",), ("dvc",)}
SQLITE = b"SQLite format 3\x00"


def run_backup(settings: Settings, path: Path, when: datetime, *, secrets: bool = False) -> Written:
    """Write a backup of all problems of this checkout.

    Args:
        when: the moment; it is written down.
        secrets: private signing keys go along; without, they have to be kept elsewhere.

    Raises:
        EvergreenError: if there is nothing to back up, a release does not end, or a file cannot be
            read or written; no file is left then.
    """
    refuse_shared(settings)
    if not any(state(settings.root)):
        raise EvergreenError(f"{settings.root} holds no state: there is nothing to back up")
    if path.absolute().is_relative_to(settings.root):
        raise EvergreenError(
            f"{path} lies in {settings.root}, which is backed up: name a place outside"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "created": when.isoformat(timespec="seconds"),
        "root": str(settings.root),
        "checkout": str(settings.checkout),
        "commit": git(settings.checkout, "rev-parse", "HEAD", optional=True),
        "secrets": secrets,
    }
    scratch = path.with_name(f".{path.name}.scratch")
    shutil.rmtree(scratch, ignore_errors=True)  # of a backup that was killed
    scratch.mkdir(mode=0o700)
    try:
        return archive.write(path, header, _files(settings, scratch, secrets))
    finally:
        shutil.rmtree(scratch)


def refuse_shared(settings: Settings) -> None:
    """A team's stores are elsewhere, and hosts write to them that this one does not stop.

    Raises:
        EvergreenError: if there are such.
    """
    if settings.team is not None:
        raise EvergreenError(
            f"{DATABASE} is set: the state is in PostgreSQL and S3, which have their own backups "
            "(`pg_dump` of the three databases first, then a copy of the bucket: docs/team.md has "
            "the lines); this command is for the home of one machine"
        )


def state(root: Path) -> Iterator[Path]:
    """The files below a root that are state, relative to it."""
    for folder, names, files in os.walk(root):
        here = Path(folder).relative_to(root)
        names[:] = sorted(name for name in names if not _passes(here / name))
        yield from (here / name for name in sorted(files) if not _passes(here / name))


def private(path: Path) -> bool:
    """Whether a file below the root is a private key: of signing, or a certificate's."""
    return path.suffix == ".pem"


def _within(path: Path) -> tuple[str, ...]:
    """The parts of a path below the root, relative to the home of its problem."""
    parts = path.parts
    return parts[2:] if parts[0] == "problems" and len(parts) > 2 else parts


def _passes(path: Path) -> bool:
    """Whether a path below the root can be lost."""
    parts = _within(path)
    if parts[0] in LEFT_OUT or path.name.endswith(PASSING):
        return True
    if path.suffix == ".key":  # an installation's own secret, made anew at every start
        return True
    if parts[0] == "serving":
        return path.name == "pid"
    scratch = parts[0] == "dvc" and parts[1:2] not in ((), ("cache",), ("remote",))
    return scratch or parts[:2] == ("bentos", "tmp")


def _files(settings: Settings, scratch: Path, secrets: bool) -> Iterator[tuple[str, Path]]:
    """Names in the archive with the files."""
    root, seen = settings.root, _stage(settings, scratch)
    for path in seen:
        if secrets or not private(path):
            yield f"{HOME}/{path}", scratch / path
    for folder in sorted((settings.checkout / "data").glob("raw*/")):
        with writing(Partitions(folder)):
            for path in sorted(each for each in folder.iterdir() if each.is_file()):
                if not path.name.endswith(PASSING):
                    yield f"{RAW}/{folder.name}/{path.name}", path
    # A log that is archived meanwhile has another name: look until there is nothing new.
    while fresh := [path for path in state(root) if path not in seen and _grows(path)]:
        seen |= dict.fromkeys(fresh)
        yield from ((f"{HOME}/{path}", root / path) for path in fresh)
    yield from _beside(settings, scratch, secrets)


def _grows(path: Path) -> bool:
    """Whether a file lies where files are only added, each written once."""
    parts = _within(path)
    return parts[:1] in GROWS or parts[:2] in GROWS


def _stage(settings: Settings, scratch: Path) -> dict[Path, None]:
    """Copy what has to agree while no release and no promotion is on its way."""
    problems = sorted(path.name for path in (settings.root / "problems").glob("*/"))
    with ExitStack() as locks:
        for problem in ("", *problems):
            own = replace(settings, problem=problem)
            if (own.home / "serving").is_dir():
                locks.enter_context(rollout.one_release(own.serving, PATIENCE))
            if (own.home / "mlflow").is_dir():
                _hold(locks, own.home / "mlflow" / "promotion.lock")
        staged = [path for path in state(settings.root) if not _grows(path)]
        return {path: None for path in staged if _copy(settings.root / path, scratch / path)}


def _hold(locks: ExitStack, path: Path) -> None:
    try:
        locks.enter_context(FileLock(path, timeout=PATIENCE))
    except Timeout as error:
        raise EvergreenError(f"{path} is held: another run is promoting; try again") from error


def _copy(source: Path, target: Path) -> bool:
    """Copy a file, a database by SQLite's own backup; whether it was still there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as file:
            database = file.read(len(SQLITE)) == SQLITE
        shutil.copy2(source, target)
    except FileNotFoundError:
        return False
    if database:
        target.write_bytes(b"")
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=60)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
    return True


def _beside(settings: Settings, scratch: Path, secrets: bool) -> Iterator[tuple[str, Path]]:
    """What lies outside the root: the repository, what it has not committed, a key of its own."""
    checkout = settings.checkout
    for path in _uncommitted(settings):
        if path.is_file() and path.is_relative_to(checkout):
            yield f"{CHECKOUT}/{path.relative_to(checkout)}", path
    if not settings.signing_key.is_relative_to(settings.root):
        yield f"{KEY}/signing.pub", settings.signing_key.with_suffix(".pub")
        if secrets:
            yield f"{KEY}/signing.pem", settings.signing_key
    bundle = scratch / BUNDLE
    bundle.parent.mkdir()
    if git(checkout, "rev-parse", "--verify", "--quiet", "HEAD", optional=True):
        git(checkout, "bundle", "create", "--quiet", str(bundle), "--all", "HEAD")
        yield BUNDLE, bundle


def _uncommitted(settings: Settings) -> set[Path]:
    """Files of the checkout that differ from its commit; parameters and problems in any case."""
    checkout = settings.checkout
    changed = git(checkout, "diff", "--name-only", "HEAD", optional=True).splitlines()
    found = {checkout / name for name in changed}
    for params in (checkout / "params.yaml", *checkout.glob("problems/*/params.yaml")):
        found |= {params, params.with_name("dvc.lock"), params.with_name("dvc.yaml")}
        with suppress(EvergreenError):  # parameters in the middle of an edit are kept, too
            found.add(checkout / load_params(params).problem)
    return found
