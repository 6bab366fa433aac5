"""Which code a model is made by: the commit, and whatever is not as that commit has it."""

from dataclasses import dataclass
from pathlib import Path

from data.git import git

LOCK = "requirements.lock"
ROOMS = ("data", "models", "bento", "flows")


@dataclass(frozen=True)
class Source:
    """The commit of a checkout (`none` if there is none) and the files that differ from it."""

    commit: str
    changed: tuple[str, ...]

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not bring this code back."""
        return bool(self.changed) or self.commit == "none"

    def tags(self) -> dict[str, str]:
        return {
            "git_sha": self.commit,
            "git_dirty": str(self.dirty).lower(),
            "git_changed": "\n".join(self.changed)[:5000],
        }


def read(checkout: Path, problem: str, params: Path = Path("params.yaml")) -> Source:
    """The code of a checkout, as far as it shapes a model.

    That is the four rooms, the parameters, the lock and the problem's own file: an edit of a README
    or of a test gives the same model, so it is no reason to refuse one. In the rooms a new `.py`
    file counts before git knows it, because it can be imported; a DVC pointer is data, not code.

    Args:
        problem: path of the problem's file, relative to the checkout.
        params: the problem's parameters, relative to the checkout or absolute.
    """
    status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"]
    paths = ["--", *ROOMS, str(params), LOCK, problem, ":(exclude)*.dvc"]
    entries = [
        entry for entry in git(checkout, *status, *paths, optional=True).split("\0") if entry
    ]
    changed = [entry[3:] for entry in entries if entry[:2] != "??" or entry.endswith(".py")]
    head = git(checkout, "rev-parse", "--verify", "--quiet", "HEAD", optional=True)
    return Source(head or "none", (*changed,))


def since(checkout: Path, commit: str, problem: str) -> list[str]:
    """Files that shape a model and are not as a commit has them; parameters are not looked at.

    Args:
        problem: path of the problem's file, relative to the checkout.
    """
    paths = ["--", *ROOMS, LOCK, problem, ":(exclude)*.dvc"]
    changed = git(checkout, "diff", "--name-only", "--no-renames", "-z", commit, *paths)
    new = git(checkout, "ls-files", "--others", "--exclude-standard", "-z", *paths)
    found = [*changed.split("\0"), *(name for name in new.split("\0") if name.endswith(".py"))]
    return [name for name in found if name]
