"""A registered model version, as its tags describe it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.errors import EvergreenError

if TYPE_CHECKING:  # MLflow takes seconds to import, and not every reader needs it
    from mlflow.entities.model_registry import ModelVersion

JUDGED_AGAINST, RECALIBRATED_FROM = "judged_against", "recalibrated_from"


@dataclass(frozen=True)
class Version:
    """One registered model version."""

    number: str
    digest: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, version: "ModelVersion") -> "Version":
        tags = dict(version.tags)
        digest, run_id = tags.get("digest", ""), str(version.run_id)
        return cls(str(version.version), digest, run_id, str(version.source), tags)

    @property
    def judged_against(self) -> str | None:
        """Number of the champion that its gates compared it with; None if there was none."""
        number = self.tags.get(JUDGED_AGAINST, "none")
        return None if number == "none" else number

    @property
    def trained(self) -> str:
        """Number of the version whose training this is: another one's if it is recalibrated."""
        return self.tags.get(RECALIBRATED_FROM, self.number)

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
