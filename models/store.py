"""The files of a registered version: opened as they were signed, or not at all."""

from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from data import digests
from data.errors import EvergreenError
from models import signing
from models.tracking import ARTIFACT
from models.version import Version


def opened(version: Version, public_key: Path | None) -> Path:
    """A local copy of all that was signed with a version: artefact, card, gate report.

    Args:
        public_key: of the pair that versions are signed with.

    Raises:
        EvergreenError: if it is not there, not as it was signed, or another version's.
    """
    if public_key is None:
        raise EvergreenError(f"no public key is known, so version {version.number} is not opened")
    try:
        folder = Path(mlflow.artifacts.download_artifacts(version.source))
    except (MlflowException, OSError) as error:
        raise EvergreenError(
            f"the files of version {version.number} are not at {version.source}: restore them "
            "from a backup, or train again"
        ) from error
    signing.verify(folder, public_key)
    if (digest := digests.verify(folder / ARTIFACT)) != version.digest:
        raise EvergreenError(
            f"{folder} holds the model {digest[:16]}, but version {version.number} was "
            f"registered as {version.digest[:16]}: restore it from a backup, or train again"
        )
    return folder
