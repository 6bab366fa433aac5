"""Model versions and the aliases `challenger`, `champion` and `previous` in MLflow.

MLflow moves an alias without looking at who holds it, so that two writers both "succeed". Every
move here holds a lock and names the champion that it expects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data import digests
from data.errors import EvergreenError
from models import signing
from models.tracking import ARTIFACT, REGISTERED, Tracking

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"


@dataclass(frozen=True)
class Version:
    """One registered model version."""

    number: str
    digest: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def dirty(self) -> bool:
        """Whether it was trained from code that no commit holds; such a version never serves."""
        return self.tags.get("git_dirty") == "true"

    def refuse_if_dirty(self) -> None:
        """Raises EvergreenError for a version that was trained from a dirty tree."""
        if self.dirty:
            changed = ", ".join(self.tags.get("git_changed", "").splitlines()) or "code"
            raise EvergreenError(
                f"version {self.number} was trained from a dirty tree ({changed} differ from the "
                "commit), so that it cannot be made again: commit or stash, then `evergreen train`"
            )


@dataclass(frozen=True)
class Registry:
    """The versions of one model; `lock` is held while aliases move.

    Attributes:
        public_key: of the pair that every version is signed with; without it none is opened.
    """

    tracking: Tracking
    lock: Path
    public_key: Path | None = None

    @property
    def name(self) -> str:
        return self.tracking.model

    def register(
        self, run_id: str, digest: str, tags: Mapping[str, str], description: str = ""
    ) -> Version:
        """The version with this digest: a new one, or the one that is there already.

        One that was trained from a dirty tree does not stand in for the same model of a clean one.

        Args:
            description: Markdown that MLflow shows with the version.
        """
        client = self._client()
        with FileLock(self.lock, timeout=60):
            if found := self.find(digest, or_dirty=tags.get("git_dirty") == "true"):
                return found
            source = f"{client.get_run(run_id).info.artifact_uri}/{REGISTERED}"
            known = {"digest": digest, "mlflow_run": run_id, **tags}
            made = client.create_model_version(
                self.name, source, run_id, tags=known, description=description
            )
            return _version(made)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        found = self._client().search_model_versions(f"name='{self.name}'")
        return sorted(map(_version, found), key=lambda version: int(version.number))

    def find(self, digest: str, or_dirty: bool = True) -> Version | None:
        """The version of that digest, if there is one; a clean one rather than a dirty one."""
        same = [version for version in self.versions() if version.digest == digest]
        found = sorted(same, key=lambda version: version.dirty)
        return found[0] if found and (or_dirty or not found[0].dirty) else None

    def get(self, number: str) -> Version:
        """The version of that number.

        Raises:
            EvergreenError: if there is none.
        """
        try:
            return _version(self._client().get_model_version(self.name, number))
        except MlflowException as error:
            known = ", ".join(version.number for version in self.versions()) or "none"
            raise EvergreenError(
                f"{self.name} has no version {number!r} (there are: {known})"
            ) from error

    def alias(self, alias: str) -> Version | None:
        """The version that holds an alias, if any."""
        try:
            return _version(self._client().get_model_version_by_alias(self.name, alias))
        except MlflowException:
            return None

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client().set_model_version_tag(self.name, version.number, key, value)

    def challenge(self, version: Version) -> None:
        """Give a version that passed its gates the alias `challenger`."""
        self._client().set_registered_model_alias(self.name, CHALLENGER, version.number)

    def promote(self, version: Version, expected: str | None) -> None:
        """Make a version champion; the champion before it becomes `previous`.

        Args:
            expected: number of the champion that it was judged against, None if there was none.

        Raises:
            EvergreenError: if another version became champion in the meantime, or it was trained
                from a dirty tree; nothing moves.
        """
        version.refuse_if_dirty()
        client = self._client()
        with FileLock(self.lock, timeout=60):
            current = self.alias(CHAMPION)
            number = current.number if current else None
            if number == version.number:
                return
            if number != expected:
                raise EvergreenError(
                    f"version {version.number} was judged against champion {expected}, but the "
                    f"champion is {number} now: judge it again with `evergreen train`"
                )
            if current:
                client.set_registered_model_alias(self.name, PREVIOUS, current.number)
            client.set_registered_model_alias(self.name, CHAMPION, version.number)
            challenger = self.alias(CHALLENGER)
            if challenger and challenger.number == version.number:
                client.delete_registered_model_alias(self.name, CHALLENGER)

    def registered(self, version: Version) -> Path:
        """A local copy of all that was signed with a version: artefact, card, gate report.

        Raises:
            EvergreenError: if it is not there, not as it was signed, or another version's.
        """
        self._client()
        try:
            folder = Path(mlflow.artifacts.download_artifacts(version.source))
        except (MlflowException, OSError) as error:
            raise EvergreenError(
                f"the files of version {version.number} are not at {version.source}: restore them "
                "from a backup, or train again"
            ) from error
        if self.public_key is None:
            raise EvergreenError(f"{self.name}: no public key is known, so no version is opened")
        signing.verify(folder, self.public_key)
        if (digest := digests.verify(folder / ARTIFACT)) != version.digest:
            raise EvergreenError(
                f"{folder} holds the model {digest[:16]}, but version {version.number} was "
                f"registered as {version.digest[:16]}: restore it from a backup, or train again"
            )
        return folder

    def folder(self, version: Version) -> Path:
        """A local copy of the version's artefact, as it was signed; raises like `registered`."""
        return self.registered(version) / ARTIFACT

    def run(self, version: Version) -> Run:
        """The MLflow run that a version came from."""
        return self._client().get_run(version.run_id)

    def text(self, version: Version, name: str) -> str | None:
        """A text file that was kept with the version's run; None if there is none."""
        try:
            place = f"{self.run(version).info.artifact_uri}/{name}"
            return Path(mlflow.artifacts.download_artifacts(place)).read_text()
        except (MlflowException, OSError):
            return None

    def aliases(self, version: Version) -> list[str]:
        """The aliases that a version holds."""
        held = self._client().get_registered_model(self.name).aliases
        return sorted(name for name, number in held.items() if str(number) == version.number)

    def _client(self) -> MlflowClient:
        client = self.tracking.client()
        try:
            client.get_registered_model(self.name)
        except MlflowException:
            client.create_registered_model(self.name)
        return client


def _version(version: ModelVersion) -> Version:
    tags = dict(version.tags)
    return Version(
        str(version.version), tags.get("digest", ""), str(version.run_id), str(version.source), tags
    )
