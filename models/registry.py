"""Model versions and the aliases `challenger`, `champion` and `previous` in MLflow.

MLflow moves an alias without looking at who holds it, so that two writers both "succeed". Every
move here holds a lock, names the champion that it expects, and is decided by a line of the ledger;
the aliases follow. `models.ledger` says what stands in a line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data.errors import EvergreenError
from models import standing, store
from models.ledger import HEAD, Act, Entry, Head, Kind, Ledger, head_fault
from models.tracking import ARTIFACT, REGISTERED, Tracking
from models.version import Version

CHALLENGER, CHAMPION, PREVIOUS = standing.CHALLENGER, standing.CHAMPION, standing.PREVIOUS
PROMOTED = "promoted"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Registry:
    """The versions of one model; `lock` is held while aliases move or the ledger grows.

    Attributes:
        public_key: of the pair that every version is signed with; without it none is opened.
        cache: where the files of a remote store are kept on this host.
    """

    tracking: Tracking
    lock: Path
    ledger: Ledger
    public_key: Path | None = None
    cache: Path | None = None

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
        with self._held():
            if found := self.find(digest, or_dirty=tags.get("git_dirty") == "true"):
                return found
            source = f"{client.get_run(run_id).info.artifact_uri}/{REGISTERED}"
            known = {"digest": digest, "mlflow_run": run_id, **tags}
            made = client.create_model_version(
                self.name, source, run_id, tags=known, description=description
            )
            return Version.of(made)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        found = self._client().search_model_versions(f"name='{self.name}'")
        return sorted(map(Version.of, found), key=lambda version: int(version.number))

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
            return Version.of(self._client().get_model_version(self.name, number))
        except MlflowException as error:
            known = ", ".join(version.number for version in self.versions()) or "none"
            raise EvergreenError(
                f"{self.name} has no version {number!r} (there are: {known})"
            ) from error

    def alias(self, alias: str) -> Version | None:
        """The version that holds an alias, if any; a store that fails is an error, not a no."""
        try:
            return Version.of(self._client().get_model_version_by_alias(self.name, alias))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client().set_model_version_tag(self.name, version.number, key, value)

    def challenge(self, version: Version) -> None:
        """Give a version that passed its gates the alias `challenger`."""
        self._client().set_registered_model_alias(self.name, CHALLENGER, version.number)

    def promote(
        self,
        version: Version,
        expected: str | None,
        act: Act,
        *,
        kind: Kind = Kind.PROMOTED,
        still_owner: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make a version champion; the champion before it becomes `previous`.

        All under the lock: what a killed promotion left is completed; the champion is compared with
        `expected`; the run must still be the owner; the line is written to the ledger, which is
        flushed to disk (the file, then its folder); MLflow keeps the new head; the aliases move.
        Killed anywhere in between, the next call ends in the same, single promotion.

        Args:
            expected: number of the champion that it was judged against, None if there was none.
            kind: PROMOTED, or ROLLED_BACK, which also mends aliases that somebody else moved.
            still_owner: whether the run that asks has not been replaced; asked last.

        Raises:
            EvergreenError: if another version became champion in the meantime, the run is no owner
                any more, or the version was trained from a dirty tree; nothing moves.
        """
        version.refuse_if_dirty()
        with self._held() as held:
            entries = held._resume(
                lambda champion: kind is Kind.ROLLED_BACK or champion == version.number
            )
            decided, _ = standing.holders(entries)
            if decided == version.number:
                return
            # The alias counts where a registry is older than its ledger, and is then written down.
            current = decided or self._number(CHAMPION)
            if current not in (expected, version.number):
                raise EvergreenError(
                    f"version {version.number}: champion changed since it was judged: judge again "
                    f"with `evergreen train` (judged against {expected}, the champion is {current} "
                    "now)"
                )
            if not still_owner():
                raise EvergreenError(
                    f"version {version.number} is not promoted: run {act.run} is not the running "
                    "owner any more (it crashed, was cancelled or was started again)"
                )
            held._append(kind, version, act, None if current == version.number else current)
            held._follow(held.ledger.read())

    def record(
        self,
        kind: Kind,
        version: Version,
        act: Act,
        expected: str | None = None,
        detail: Mapping[str, str] | None = None,
    ) -> Entry:
        """Add a line that moves no alias; what serves already is not released again."""
        with self._held() as held:
            entries = held._sound()
            this = standing.Served(version.number, version.digest)
            if kind is Kind.RELEASED and standing.served(entries)[-1:] == [this]:
                return entries[-1]
            return held._append(kind, version, act, expected, detail)

    def resume(self, number: str | None = None) -> None:
        """Complete what a killed promotion left: the ledger decides, the aliases follow.

        Args:
            number: the ledger's champion, to give it back an alias that somebody else moved.

        Raises:
            EvergreenError: if the ledger is not whole, or somebody else moved the champion.
        """
        with self._held() as held:
            held._resume(lambda champion: champion == number)

    def head(self) -> Head | None:
        """The last line of the ledger that MLflow has seen."""
        text = self._client().get_registered_model(self.name).tags.get(HEAD)
        return Head.parse(text) if text else None

    def _sound(self) -> list[Entry]:
        """The ledger's lines; MLflow's head catches up with the line of a killed writer."""
        entries, head = self.ledger.read(), self.head()
        if fault := head_fault(entries, head):
            raise EvergreenError(f"{self.ledger.place}: {fault}")
        if entries and entries[-1].head != head:
            self._keep_head(entries[-1])
        return entries

    def _resume(self, mends: Callable[[str], bool]) -> list[Entry]:
        """The ledger's lines, with aliases that fit them; `mends`: whoever holds them now."""
        entries = self._sound()
        champion, before = standing.holders(entries)
        if champion is None:
            return entries
        held = self._number(CHAMPION)
        if held not in (champion, before) and not mends(champion):
            raise EvergreenError(
                f"the champion alias is {held}, but the ledger promoted {champion}: "
                f"`evergreen release {champion}` puts it back, `evergreen verify` says more"
            )
        self._follow(entries)
        return entries

    def _follow(self, entries: Sequence[Entry]) -> None:
        """Move the aliases to where the ledger has them."""
        champion, before = standing.holders(entries)
        wanted = ((PREVIOUS, before), (CHAMPION, champion))
        moved = [(alias, to) for alias, to in wanted if to and self._number(alias) != to]
        done = champion is not None and self._number(CHALLENGER) == champion
        if not moved and not done:
            return
        with self.ledger.fenced(self.tracking, entries[-1].head) as writer:
            for alias, number in moved:
                writer.set_registered_model_alias(self.name, alias, number)
            if done:
                writer.delete_registered_model_alias(self.name, CHALLENGER)

    def _append(
        self,
        kind: Kind,
        version: Version,
        act: Act,
        expected: str | None,
        detail: Mapping[str, str] | None = None,
    ) -> Entry:
        entry = self.ledger.append(kind, version.number, version.digest, act, expected, detail)
        self._keep_head(entry)
        return entry

    def _keep_head(self, entry: Entry) -> None:
        """MLflow knows the last line, and every promoted version the line that promoted it.

        The head comes last: until it is there, the next writer does all of this again.
        """
        head = str(entry.head)
        with self.ledger.fenced(self.tracking, entry.head) as writer:
            if entry.kind is Kind.PROMOTED:
                writer.set_model_version_tag(self.name, entry.version, PROMOTED, head)
            writer.set_registered_model_tag(self.name, HEAD, head)

    def _number(self, alias: str) -> str | None:
        found = self.alias(alias)
        return found.number if found else None

    @contextmanager
    def _held(self) -> Iterator["Registry"]:
        """This registry, which may write to its ledger now and nobody else may."""
        with self.ledger.held(self.lock) as ledger:
            yield replace(self, ledger=ledger)

    def registered(self, version: Version) -> Path:
        """All that was signed with a version: artefact, card, gate report; see `store.opened`."""
        self._client()
        return store.opened(version, self.public_key, self.cache)

    def folder(self, version: Version) -> Path:
        """The version's artefact, as it was signed; raises like `registered`."""
        return self.registered(version) / ARTIFACT

    def run(self, version: Version) -> Run:
        """The MLflow run that a version came from."""
        return self._client().get_run(version.run_id)

    def text(self, version: Version, name: str) -> str | None:
        """A text file that was kept with the version's run; None if there is none."""
        try:
            place = f"{self.run(version).info.artifact_uri}/{name}"
            return str(mlflow.artifacts.load_text(place))
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
