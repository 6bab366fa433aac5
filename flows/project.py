"""One problem in one checkout, with the stores that belong to it."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from data.digests import digest_of, sha256_file
from data.errors import EvergreenError
from data.labels import coverage_of
from data.params import Params, load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.problem import Problem, load_problem
from data.quarantine import Quarantine
from data.snapshots import Snapshot, Snapshots
from flows import packages, source, stores
from flows.settings import Settings
from flows.source import Source
from models.ledger import Ledger
from models.signing import Keys

if TYPE_CHECKING:
    from models.registry import Registry


@dataclass(frozen=True)
class Project:
    """Everything that a step needs, opened from the settings."""

    settings: Settings
    params: Params
    problem: Problem

    @classmethod
    def open(cls, settings: Settings | None = None) -> "Project":
        """The project of this checkout.

        Raises:
            EvergreenError: if params.yaml or the problem is wrong.
        """
        settings = settings or Settings.read(os.environ)
        os.environ.update(settings.child_environment())
        if settings.team:  # a host without a stack pushes and pulls, too
            stores.configure_dvc(settings)
        params = load_params(settings.params)
        return cls(settings, params, load_problem(params.problem))

    @property
    def partitions(self) -> Partitions:
        return Partitions(self.settings.raw)

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.settings.home / "quarantine")

    @property
    def snapshots(self) -> Snapshots:
        checkout, home = self.settings.checkout, self.settings.home
        return Snapshots(checkout, self.partitions.folder, home / "snapshots")

    def record(self, name: str) -> Snapshot:
        """Make `data/raw` as it is now a snapshot; `name` says what changed."""
        return self.snapshots.record(name, datetime.now(UTC))

    @property
    def keys(self) -> Keys:
        """What registered models are signed with."""
        return Keys(self.settings.signing_key)

    @property
    def ledger(self) -> Ledger:
        return stores.ledger(self.settings)

    @cached_property
    def registry(self) -> "Registry":
        """Opened when it is first asked for: MLflow takes seconds to import.

        Raises:
            EvergreenError: if a team's database does not answer.
        """
        stores.must_answer(self.settings)
        from models.registry import Registry
        from models.tracking import Tracking

        home = self.settings.home / "mlflow"
        home.mkdir(parents=True, exist_ok=True)
        where = stores.artifacts(self.settings)
        tracking = Tracking(self.settings.tracking_uri, where, self.problem.name)
        lock, cache = home / "promotion.lock", stores.cache(self.settings)
        return Registry(tracking, lock, self.ledger, self.keys.public, cache)

    def newest_labelled(self) -> Period:
        """The newest period of which enough labels have matured to learn from it.

        Raises:
            EvergreenError: if there is none.
        """
        minimum, delay = self.params.train.minimum_label_coverage, self.problem.label_delay
        for period in reversed(self.partitions.periods()):
            due = period.end + delay
            if coverage_of(self.partitions, period, due).share >= minimum:
                return period
        raise EvergreenError(
            f"no period with labels is in {self.partitions.folder} (at least {minimum:.0%} of "
            f"those due): run `evergreen ingest {self.params.train.first_period}` first"
        )

    def as_of(self, text: str | None) -> str:
        """`text` if it is a moment of logical time, the newest labelled period without one."""
        if text is None:
            return self.newest_labelled().name
        parse_as_of(text, self.problem.label_delay)
        return text

    def source(self) -> Source:
        """The code of this checkout, as far as it shapes a model."""
        return source.read(self.settings.checkout, self.params.problem, self.settings.params)

    def lineage(self, code: Source, snapshot: Snapshot) -> dict[str, str]:
        """Tags that say which code, data, parameters and packages a model is made from."""
        lock = self.settings.checkout / "requirements.lock"
        wrong = packages.other_versions(lock.read_text(), packages.installed())
        return {
            **code.tags(),
            "snapshot": snapshot.md5,
            "snapshot_tag": snapshot.tag,
            "params": digest_of(self.params.model_dump())[:16],
            "lock": sha256_file(lock)[:16],
            "packages": "; ".join(wrong)[:5000] or "as locked",
            "python": platform.python_version(),
        }
