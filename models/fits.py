"""The models of a replay, each fitted once: their answers are kept on disk, so that a replay that
was stopped goes on, and one with other policies starts from them."""

import io
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from data import features
from data.digests import digest_of, sha256_file, write_atomically
from models import candidates, replay
from models.candidates import Settings
from models.replay import Answers, Season

CODE = (features, candidates, replay)


@dataclass(frozen=True)
class Task:
    """One model: of a season, as of a slot, with a seed."""

    season: Season
    as_of: int
    seed: int


@dataclass(frozen=True)
class Fits:
    """Answers under `folder`, whose name says what they were made from.

    Attributes:
        kind, settings: the candidate that every model of the replay is.
    """

    folder: Path
    kind: str
    settings: Settings

    @classmethod
    def of(
        cls,
        root: Path,
        kind: str,
        settings: Settings,
        contents: Mapping[str, str],
        first: int,
    ) -> "Fits":
        """The place for models of these contents (sha256 by file), settings and this code."""
        made_from: dict[str, Any] = {
            "contents": dict(contents),
            "kind": kind,
            "settings": dict(settings),
            "first": first,
            "xgboost": xgboost.__version__,
            "code": [sha256_file(Path(str(module.__file__))) for module in CODE],
        }
        return cls(root / digest_of(made_from)[:16], kind, settings)

    def path(self, task: Task) -> Path:
        return self.folder / f"{task.season.name}-{task.as_of:03d}-{task.seed}.npz"

    def get(self, task: Task) -> Answers:
        """A model's answers; fitted now if they are not there."""
        if not self.path(task).exists():
            self.fit(task)
        with np.load(self.path(task)) as found:
            margin, seconds = found["margin"], float(found["seconds"])
        ends = np.cumsum(replay.lengths(task.season, task.as_of))[:-1]
        return Answers(task.as_of, tuple(np.split(margin, ends)), seconds)

    def fit(self, task: Task) -> None:
        made = replay.answers(task.season, task.as_of, self.kind, self.settings, task.seed)
        buffer = io.BytesIO()
        np.savez(buffer, margin=np.concatenate(made.margins), seconds=np.float64(made.seconds))
        write_atomically(self.path(task), buffer.getvalue())

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        return [task for task in tasks if not self.path(task).exists()]

    def make(self, tasks: Iterable[Task], jobs: int, done: Callable[[Task], None]) -> None:
        """Fit what is missing, `jobs` at a time: a fit uses one thread and leaves Python free."""
        with ThreadPoolExecutor(jobs) as pool:
            waiting = {pool.submit(self.fit, task): task for task in self.missing(tasks)}
            try:
                for future in as_completed(waiting):
                    future.result()
                    done(waiting[future])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
