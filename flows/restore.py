"""`evergreen restore`: a backup back in place, on this machine or an empty one."""

import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.errors import EvergreenError
from data.git import git
from flows import archive, stack, stores
from flows.archive import Kept
from flows.backup import BUNDLE, CHECKOUT, HOME, KEY, RAW, refuse_shared, state
from flows.settings import Settings

STAGE, REPLACED, BESIDE = ".restore", "replaced", "restored"
PUBLIC = "**/keys/signing.pub"
TAGS = "refs/tags/*:refs/tags/*"
BRANCHES = "+refs/heads/*:refs/remotes/backup/*"
# Where MLflow keeps the address of a folder.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


@dataclass(frozen=True)
class Restored:
    """What was put back: files, bytes, seconds; `notes` say what is left to do."""

    created: str
    files: int
    content: int
    seconds: float
    notes: tuple[str, ...]


def run_restore(settings: Settings, path: Path, *, replaces: bool = False) -> Restored:
    """Verify every file of a backup, then put all of them in place.

    Args:
        replaces: state that is here is moved aside; without, it is an error.

    Raises:
        EvergreenError: if state is here or the stack is up, or the backup is not whole; what is
            here is as it was then.
    """
    start = time.monotonic()
    refuse_shared(settings)
    if not path.is_file():
        raise EvergreenError(f"{path} is not there: name a file that `evergreen backup` wrote")
    _refuse_running(settings)
    here = _here(settings)
    if here and not replaces:
        raise EvergreenError(
            f"{here[0]} is here already: restore into an empty home, or move what is here aside "
            "with --replace; nothing was restored"
        )
    aside = settings.root / REPLACED
    if here and aside.exists():
        raise EvergreenError(f"{aside} holds what was replaced before: move or delete it first")
    folder = settings.root / STAGE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        header, files = archive.unpack(path, folder)
        notes = _put(settings, header, files, folder, aside if here else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(each.size for each in files.values())
    seconds = time.monotonic() - start
    return Restored(header["created"], len(files), size, seconds, tuple(notes))


def _homes(settings: Settings) -> list[Settings]:
    problems = sorted(path.name for path in (settings.root / "problems").glob("*/"))
    return [replace(settings, problem=problem) for problem in ("", *problems)]


def _refuse_running(settings: Settings) -> None:
    for own in _homes(settings):
        if stack.is_up(own):
            raise EvergreenError(
                f"the stack of {own.home} is up: `evergreen down` first; nothing was restored"
            )


def _raws(settings: Settings) -> list[Path]:
    return sorted(path for path in (settings.checkout / "data").glob("raw*/"))


def _here(settings: Settings) -> list[Path]:
    """State that a restore would mix with."""
    rows = (path for folder in _raws(settings) for path in folder.glob("[!.]*"))
    return [*(settings.root / path for path in state(settings.root)), *rows]


def _put(
    settings: Settings,
    header: Mapping[str, Any],
    files: Mapping[str, Kept],
    folder: Path,
    aside: Path | None,
) -> list[str]:
    """Put what was verified in place; what is left to say."""
    if (folder / BUNDLE).exists():
        _fetch(settings, folder / BUNDLE)
    _readdress(folder / HOME, Path(header["root"]), settings.root)
    if aside:
        _set_aside(settings, aside)
    _move_all(folder / HOME, settings.root)
    _move_all(folder / RAW, settings.checkout / "data")
    stores.configure_dvc(settings)
    notes = [f"what was here is in {aside}"] if aside else []
    return [*notes, *_beside(settings, folder), *_left_to_do(settings, header)]


def _fetch(settings: Settings, bundle: Path) -> None:
    """The tags of snapshots, with their commits; branches as `backup/…`."""
    try:
        git(settings.checkout, "fetch", "--quiet", "--no-tags", str(bundle), TAGS, BRANCHES)
    except EvergreenError as error:
        raise EvergreenError(
            f"the backup's tags do not fit {settings.checkout}, so nothing was restored: {error}"
        ) from error


def _readdress(home: Path, old: Path, new: Path) -> None:
    """MLflow's addresses of folders, where the root was another one."""
    if old == new:
        return
    before, after = old.as_uri(), new.as_uri()
    for database in (home / "mlflow" / "mlflow.db", *home.glob("problems/*/mlflow/mlflow.db")):
        if not database.exists():
            continue
        with closing(sqlite3.connect(database)) as connection, connection:
            for table, column in ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, len(before) + 1, f"{before}/"),
                )


def _set_aside(settings: Settings, aside: Path) -> None:
    aside.mkdir()
    for path in settings.root.iterdir():
        if path.name not in (STAGE, REPLACED):
            path.rename(aside / path.name)
    for folder in _raws(settings):
        shutil.move(folder, aside / folder.name)


def _move_all(source: Path, target: Path) -> None:
    """Move what lies in a folder into another, whose own folders stay where both have one."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_dir() and (target / path.name).is_dir():
            _move_all(path, target / path.name)
        else:
            shutil.move(path, target / path.name)


def _beside(settings: Settings, folder: Path) -> list[str]:
    """Files of the checkout where there are none, and a key's halves; others are named."""
    notes = []
    for half in sorted((folder / KEY).glob("*")):
        place = settings.signing_key.with_suffix(half.suffix)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.move(half, place)
    for copied in sorted(each for each in (folder / CHECKOUT).rglob("*") if each.is_file()):
        name = copied.relative_to(folder / CHECKOUT)
        place, copy = settings.checkout / name, settings.root / BESIDE / name
        if place.exists() and place.read_bytes() == copied.read_bytes():
            continue
        if place.exists():
            notes.append(f"{name} here is not that of the backup, which is {copy}")
            place = copy
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(copied, place)
    return notes


def _left_to_do(settings: Settings, header: Mapping[str, Any]) -> list[str]:
    notes = []
    commit = git(settings.checkout, "rev-parse", "HEAD", optional=True)
    if header["commit"] and commit != header["commit"]:
        notes.append(f"the backup was made at commit {header['commit'][:12]}: `git checkout` it")
    for public in (settings.signing_key.with_suffix(".pub"), *settings.root.glob(PUBLIC)):
        if public.exists() and not (private := public.with_suffix(".pem")).exists():
            notes.append(
                f"no private key was in it: put yours back as {private} (mode 600) before the next "
                "training; what is registered serves without it"
            )
    return list(dict.fromkeys(notes))
