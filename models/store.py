"""The files of a registered version: opened as they were signed, or not at all."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import mlflow

from data import digests
from data.errors import EvergreenError
from models import signing
from models.tracking import ARTIFACT
from models.version import Version


def opened(version: Version, public_key: Path | None, cache: Path | None = None) -> Path:
    """A local copy of all that was signed with a version: artefact, card, gate report.

    Args:
        public_key: of the pair that versions are signed with.
        cache: where copies of a remote store's files are kept; a damaged one is fetched again.

    Raises:
        EvergreenError: if it is not there, not as it was signed, or another version's.
    """
    if public_key is None:
        raise EvergreenError(f"no public key is known, so version {version.number} is not opened")
    if cache is None or version.source.startswith(("/", "file:")):
        return _checked(_downloaded(version), version, public_key)
    kept = cache / f"{version.number}-{version.digest[:16]}"
    if kept.is_dir():
        try:
            return _checked(kept, version, public_key)
        except EvergreenError:
            shutil.rmtree(kept)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = _checked(_downloaded(version, scratch), version, public_key)
        with suppress(OSError):  # another process may have been faster
            folder.rename(kept)
            return kept
    return _checked(kept, version, public_key)


def _downloaded(version: Version, into: str | None = None) -> Path:
    try:
        return Path(mlflow.artifacts.download_artifacts(version.source, dst_path=into))
    except Exception as error:  # each kind of store fails in its own way
        raise EvergreenError(
            f"the files of version {version.number} are not at {version.source} "
            f"({type(error).__name__}): bring that store back, restore them from a backup, or "
            "train again"
        ) from error


def _checked(folder: Path, version: Version, public_key: Path) -> Path:
    """The folder, if it is what was signed and registered."""
    signing.verify(folder, public_key)
    if (digest := digests.verify(folder / ARTIFACT)) != version.digest:
        raise EvergreenError(
            f"{folder} holds the model {digest[:16]}, but version {version.number} was "
            f"registered as {version.digest[:16]}: restore it from a backup, or train again"
        )
    return folder
