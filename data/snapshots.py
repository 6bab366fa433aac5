"""DVC versions of `data/raw`: each accepted change is a snapshot under a git tag.

A snapshot is a commit that holds `data/raw.dvc` and nothing of the user's work: HEAD, index and
work tree stay as they are, and `dvc get . data/raw --rev TAG` brings any of them back. `dvc add`
runs in a workspace of its own that shares the repository's cache and remote, because a `.dvc` file
beside the pipeline's own output would declare the same data twice.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from dvc.config import ConfigError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from filelock import FileLock, Timeout

from data.digests import MANIFEST, sha256_file, write_atomically
from data.errors import EvergreenError
from data.git import git
from data.objects import Objects
from data.partitions import Partitions

TAG = "data-"
SUBJECT = re.compile(r"(.+): (.+) ([0-9a-f]{32})")
IDENTITY = {
    "GIT_AUTHOR_NAME": "evergreen",
    "GIT_AUTHOR_EMAIL": "evergreen@localhost",
    "GIT_COMMITTER_NAME": "evergreen",
    "GIT_COMMITTER_EMAIL": "evergreen@localhost",
}


@dataclass(frozen=True)
class Snapshot:
    """One version of `data/raw`.

    Attributes:
        tag: the git tag.
        md5: by which DVC knows the folder.
        when: the moment it was recorded, ISO 8601 with zone.
    """

    tag: str
    md5: str
    when: str


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one checkout.

    Attributes:
        checkout: the git and DVC repository.
        raw: the folder of partitions in it.
        workspace: scratch space outside the work tree.
    """

    checkout: Path
    raw: Path
    workspace: Path

    @property
    def place(self) -> str:
        """The folder, as tags and pointers name it: `data/raw`, or that of another problem."""
        return f"data/{self.raw.name}"

    def record(self, name: str, when: datetime) -> Snapshot:
        """Put `data/raw` as it is under DVC and tag it; the same content gives the same tag.

        Args:
            name: what changed, such as the period; part of the tag.
            when: the moment of recording, with zone; dates a new snapshot.

        Raises:
            EvergreenError: if a partition is damaged, or git or DVC refuse; the partitions stay as
                they are.
        """
        with self._lock():
            pointer = self._add()
            md5 = str(yaml.safe_load(pointer)["outs"][0]["md5"]).removesuffix(".dir")
            known = self.list()
            if same := [snapshot for snapshot in known if snapshot.md5 == md5]:
                return same[0]
            prefix = f"{TAG}{self.raw.name.removeprefix('raw').removeprefix('-')}"
            prefix += "" if prefix == TAG else "-"
            tag = f"{prefix}{name}-{md5[:8]}"
            if tag in {snapshot.tag for snapshot in known}:
                tag = f"{prefix}{name}-{md5}"
            self._tag(tag, pointer, f"{name}: {self.place} {md5}", _after(known, when))
            return self.list()[-1]

    def list(self) -> list[Snapshot]:
        """All snapshots, oldest first; other tags that begin alike do not count."""
        lines = git(
            self.checkout,
            "for-each-ref",
            "--sort=creatordate",
            "--format=%(refname:lstrip=2) %(creatordate:iso-strict) %(contents:subject)",
            f"refs/tags/{TAG}*",
        ).splitlines()
        found = []
        for tag, when, subject in (line.split(" ", 2) for line in lines):
            match = SUBJECT.fullmatch(subject)
            if match and match[2] == self.place:
                found.append(Snapshot(tag, match[3], when))
        return found

    def latest(self) -> Snapshot | None:
        return found[-1] if (found := self.list()) else None

    def find(self, reference: str) -> Snapshot:
        """The snapshot of a tag, an md5, or the beginning of either (`data-` may be left out).

        Raises:
            EvergreenError: if none or several fit.
        """
        found = self.matching(reference)
        if len(found) == 1:
            return found[0]
        if not found:
            raise EvergreenError(
                f"no snapshot is called {reference!r}: `evergreen data list` shows all, and "
                "`git fetch --tags` brings those of others"
            )
        raise EvergreenError(
            f"{reference!r} fits {len(found)} snapshots, such as {found[0].tag} and "
            f"{found[-1].tag}: write more of it"
        )

    def matching(self, reference: str) -> Sequence[Snapshot]:
        """Every snapshot whose tag or md5 is, or begins, so."""
        known = self.list()
        same = [s for s in known if reference in (s.tag, s.md5)]
        return same or [s for s in known if _begins(s, reference)]

    @contextmanager
    def objects(self) -> Iterator[Objects]:
        """The cache and the default remote.

        Raises:
            EvergreenError: if DVC's configuration is wrong.
        """
        try:
            self._prepare()
            with Repo(str(self.workspace)) as repo:
                name = repo.config["core"].get("remote")
                remote = repo.cloud.get_remote_odb(name) if name else None
                yield Objects(repo.cache.local, remote, name or "")
        except (ConfigError, DvcException) as error:
            raise EvergreenError(f"DVC cannot open {self.checkout}: {error}") from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.workspace.mkdir(parents=True, exist_ok=True)
        with _waiting(FileLock(self.workspace / ".lock", timeout=120)):
            yield

    def restore(self, md5: str, folder: Path, *, trust_cache: bool = True) -> None:
        """Bring the files of a snapshot into a new folder: from the cache, or the default remote.

        Args:
            md5: the snapshot's; its git tag need not be there any more.
            trust_cache: False leaves the cache aside and reads the remote only.

        Raises:
            EvergreenError: if neither has all of its files.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            workspace = Path(scratch)
            Snapshots(self.checkout, self.raw, workspace)._prepare()
            own = {} if trust_cache else {"cache": {"dir": str(workspace / "cache")}}
            out = {"md5": f"{md5}.dir", "hash": "md5", "path": "raw"}
            (workspace / "raw.dvc").write_text(yaml.safe_dump({"outs": [out]}))
            try:
                with Repo(scratch, config=own) as repo:
                    repo.pull()
            except DvcException as error:
                raise EvergreenError(
                    f"snapshot {md5} is neither in the DVC cache nor in the default remote as a "
                    f"whole ({str(error).splitlines()[0]}): bring the remote back"
                ) from error
            (workspace / "raw").replace(folder)

    def _add(self) -> str:
        """`dvc add` a copy of `data/raw` in the workspace; the text of its `.dvc` file."""
        self._prepare()
        copy = self._copy()
        try:
            with Repo(str(self.workspace)) as repo:
                repo.add(str(copy))
                repo.push()
        except DvcException as error:
            raise EvergreenError(f"DVC could not record {self.raw}: {error}") from error
        return copy.with_suffix(".dvc").read_text()

    def _copy(self) -> Path:
        """The manifest and every partition that it names, hashed; no link shares their bytes."""
        copy, partitions = self.workspace / self.place, Partitions(self.raw)
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        with writing(partitions):
            manifest = partitions.manifest()
            if not manifest:
                raise EvergreenError(f"{self.raw} holds no partition: nothing can be recorded")
            shutil.copyfile(self.raw / MANIFEST, copy / MANIFEST)
            for name, entry in manifest.items():
                if (self.raw / name).is_file():
                    shutil.copyfile(self.raw / name, copy / name)
                if not fits(copy / name, entry["sha256"]):
                    raise EvergreenError(
                        f"{self.raw / name} is lost or damaged, so {self.raw} is not recorded: run "
                        f"`evergreen data repair {name.split('.')[0]}`"
                    )
        return copy

    def _prepare(self) -> None:
        """A DVC workspace without git, with the checkout's configuration, cache and remote."""
        if not (self.workspace / ".dvc" / "config").exists():
            logging.getLogger("dvc").setLevel(logging.WARNING)  # no welcome
            self.workspace.mkdir(parents=True, exist_ok=True)
            Repo.init(str(self.workspace), no_scm=True, force=True).close()
        source = self.checkout / ".dvc"
        (self.workspace / ".dvc" / "config.local").unlink(missing_ok=True)
        for name in ("config", "config.local"):
            if (source / name).exists():
                lines = (source / name).read_text().splitlines()
                text = "\n".join(_absolute(line, source) for line in lines)
                text = text.replace("[core]", "[core]\n    no_scm = True")
                write_atomically(self.workspace / ".dvc" / name, text + "\n")

    def _tag(self, tag: str, pointer: str, message: str, seconds: int) -> None:
        """Commit the pointer through an index of its own and tag the commit."""
        config = (self.checkout / ".dvc" / "config").read_text()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            for name, content in ((f"{self.place}.dvc", pointer), (".dvc/config", config)):
                blob = git(self.checkout, "hash-object", "-w", "--stdin", text=content)
                entry = f"100644,{blob},{name}"
                git(self.checkout, "update-index", "--add", "--cacheinfo", entry, env=index)
            tree = git(self.checkout, "write-tree", env=index)
        parent = git(self.checkout, "rev-parse", "--verify", "--quiet", "HEAD", optional=True)
        parents = ["-p", parent] if parent else []
        date = {f"GIT_{who}_DATE": f"{seconds} +0000" for who in ("AUTHOR", "COMMITTER")}
        commit = git(
            self.checkout, "commit-tree", tree, *parents, "-m", message, env={**IDENTITY, **date}
        )
        git(self.checkout, "tag", "--no-sign", tag, commit)


def writing(partitions: Partitions) -> AbstractContextManager[None]:
    """Held while `data/raw` is copied or mended: no partition comes in meanwhile."""
    return _waiting(partitions.lock())


@contextmanager
def _waiting(lock: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except Timeout as error:
            raise EvergreenError(f"{error} Another process works on it: try again") from error
        yield


def fits(path: Path, sha256: str) -> bool:
    """Whether a file is there with exactly these bytes."""
    return path.is_file() and sha256_file(path) == sha256


def _begins(snapshot: Snapshot, reference: str) -> bool:
    by_md5 = len(reference) >= 4 and snapshot.md5.startswith(reference)
    return by_md5 or snapshot.tag.startswith((reference, f"{TAG}{reference}"))


def _after(known: list[Snapshot], when: datetime) -> int:
    """`when` in seconds, but later than every snapshot: their dates are their order."""
    last = max((int(datetime.fromisoformat(s.when).timestamp()) for s in known), default=0)
    return max(int(when.timestamp()), last + 1)


def _absolute(line: str, base: Path) -> str:
    """A `dir = ../x` or `url = ../x` of a DVC configuration, read from where it stands."""
    name, separator, value = line.partition(" = ")
    if name.strip() in ("dir", "url") and value.startswith(".."):
        return f"{name}{separator}{(base / value).resolve()}"
    return line
