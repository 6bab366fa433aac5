"""DVC versions of `data/raw`: each accepted change is a snapshot under a git tag.

A snapshot is a commit that holds `data/raw.dvc` and nothing of the user's work: HEAD, index and
work tree stay as they are, and `dvc get . data/raw --rev TAG` brings any of them back. `dvc add`
runs in a workspace of its own that shares the repository's cache and remote, because a `.dvc` file
beside the pipeline's own output would declare the same data twice.
"""

import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from filelock import FileLock

from data.errors import EvergreenError

TAG = "data-"
IDENTITY = {
    "GIT_AUTHOR_NAME": "evergreen",
    "GIT_AUTHOR_EMAIL": "evergreen@localhost",
    "GIT_COMMITTER_NAME": "evergreen",
    "GIT_COMMITTER_EMAIL": "evergreen@localhost",
}


@dataclass(frozen=True)
class Snapshot:
    """One version of `data/raw`: the git tag, and the md5 by which DVC knows the folder."""

    tag: str
    md5: str


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

    def record(self, name: str) -> Snapshot:
        """Put `data/raw` as it is under DVC and tag it; the same content gives the same tag.

        Args:
            name: what changed, such as the period; part of the tag.

        Raises:
            EvergreenError: if git or DVC refuse; the partitions stay as they are.
        """
        self.workspace.mkdir(parents=True, exist_ok=True)
        with FileLock(self.workspace / ".lock", timeout=120):
            pointer = self._add()
        md5 = str(yaml.safe_load(pointer)["outs"][0]["md5"]).removesuffix(".dir")
        for existing in self.list():
            if existing.tag.endswith(md5[:8]):
                return existing
        tag = f"{TAG}{name}-{md5[:8]}"
        self._tag(tag, pointer, f"{name}: data/raw {md5}")
        return Snapshot(tag, md5)

    def list(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        lines = self._git(
            "for-each-ref",
            "--sort=creatordate",
            "--format=%(refname:short) %(contents:subject)",
            f"refs/tags/{TAG}*",
        ).splitlines()
        return [Snapshot(line.split()[0], line.split()[-1]) for line in lines]

    def latest(self) -> Snapshot | None:
        return found[-1] if (found := self.list()) else None

    def find(self, text: str) -> Snapshot | None:
        """The snapshot of that tag, or whose md5 begins so; None if there is none."""
        known = self.list()
        same = [s for s in known if s.tag == text] or [s for s in known if s.md5.startswith(text)]
        return same[-1] if same else None

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
        copy = self.workspace / "data" / "raw"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for path in self.raw.iterdir():
            if not path.name.startswith("."):
                os.link(path, copy / path.name)
        try:
            with Repo(str(self.workspace)) as repo:
                repo.add(str(copy))
                repo.push()
        except DvcException as error:
            raise EvergreenError(f"DVC could not record {self.raw}: {error}") from error
        return copy.with_suffix(".dvc").read_text()

    def _prepare(self) -> None:
        """A DVC workspace without git, with the checkout's configuration, cache and remote."""
        if not (self.workspace / ".dvc").exists():
            logging.getLogger("dvc").setLevel(logging.WARNING)  # no welcome
            Repo.init(str(self.workspace), no_scm=True).close()
        source = self.checkout / ".dvc"
        for name in ("config", "config.local"):
            if (source / name).exists():
                lines = (source / name).read_text().splitlines()
                text = "\n".join(_absolute(line, source) for line in lines)
                text = text.replace("[core]", "[core]\n    no_scm = True")
                (self.workspace / ".dvc" / name).write_text(text + "\n")

    def _tag(self, tag: str, pointer: str, message: str) -> None:
        """Commit the pointer through an index of its own and tag the commit."""
        config = (self.checkout / ".dvc" / "config").read_text()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            for name, content in (("data/raw.dvc", pointer), (".dvc/config", config)):
                blob = self._git("hash-object", "-w", "--stdin", text=content)
                entry = f"100644,{blob},{name}"
                self._git("update-index", "--add", "--cacheinfo", entry, env=index)
            tree = self._git("write-tree", env=index)
        parent = self._git("rev-parse", "--verify", "--quiet", "HEAD", optional=True)
        parents = ["-p", parent] if parent else []
        commit = self._git("commit-tree", tree, *parents, "-m", message, env=IDENTITY)
        self._git("tag", tag, commit)

    def _git(
        self,
        *arguments: str,
        text: str | None = None,
        env: dict[str, str] | None = None,
        optional: bool = False,
    ) -> str:
        command = ["git", "-C", str(self.checkout), *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env={**os.environ, **(env or {})}
        )
        if done.returncode and not optional:
            said = done.stderr.strip() or f"exit {done.returncode}"
            raise EvergreenError(f"git could not `{' '.join(arguments[:3])} …`: {said}")
        return done.stdout.strip()


def _absolute(line: str, base: Path) -> str:
    """A `dir = ../x` or `url = ../x` of a DVC configuration, read from where it stands."""
    name, separator, value = line.partition(" = ")
    if name.strip() in ("dir", "url") and value.startswith(".."):
        return f"{name}{separator}{(base / value).resolve()}"
    return line
