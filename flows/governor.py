"""What the governor asked for and what came of it: `governor.jsonl` in the home, only appended.

One line for each thing asked for, and for each run as it begins and as it ends. From it follow the
month's budget and the back-off, in which a run that was killed counts, too, and that a thousand
alarms about the same thing make one run: whatever has the same key (data, champion, cause) is asked
for once a minute at most, and done once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from data import windows
from data.digests import digest_of
from data.errors import EvergreenError
from data.periods import Period, parse_as_of
from flows.journal import Journal
from flows.project import Project
from flows.steps import Outcome, flow_run_id
from models.governor import Action, Attempt, over_budget
from models.registry import CHAMPION
from models.version import Version

ASKED, BEGAN, REFUSED, ENDED = "asked", "began", "refused", "ended"
ONCE = timedelta(minutes=1)
PATIENCE = 1800.0  # seconds that a run waits for the one before it


@dataclass(frozen=True)
class Line:
    """Something asked for, or a run that began, was refused before it came to anything, or ended.

    Attributes:
        at: UTC, ISO text; period: of the logical time.
        key: see `key_of`; empty for what a person asks for.
        seconds: of CPU time; promoted: whether what came of it serves; outcome: a sentence.
    """

    kind: str
    action: str
    at: str
    period: str
    key: str
    cause: str
    run: str = "none"
    seconds: float = 0.0
    promoted: bool = False
    outcome: str = ""


@dataclass(frozen=True)
class Record:
    """The file of lines."""

    path: Path

    @classmethod
    def of(cls, project: Project) -> "Record":
        return cls(project.settings.home / "governor.jsonl")

    def lines(self) -> list[Line]:
        """All lines, oldest first."""
        return [Line(**line) for line in self._journal.read()]

    def ask(self, line: Line) -> bool:
        """Add what is asked for; False if the same was done, or asked for within a minute."""
        with self._journal.held():
            since = datetime.fromisoformat(line.at) - ONCE
            same = [known for known in self.lines() if known.key == line.key]
            if any(k.kind == ENDED or datetime.fromisoformat(k.at) > since for k in same):
                return False
            self._journal.append(asdict(line))
            return True

    def add(self, line: Line) -> None:
        with self._journal.held():
            self._journal.append(asdict(line))

    def done(self, key: str) -> Line | None:
        """What came of it, if anything with this key has ended."""
        return next((k for k in self.lines() if key and k.key == key and k.kind == ENDED), None)

    def ended(self) -> list[Attempt]:
        """The retrains that ended, whatever came of them."""
        made = [
            line for line in self.lines() if (line.kind, line.action) == (ENDED, Action.RETRAIN)
        ]
        return [Attempt(Period.parse(line.period), line.seconds) for line in made]

    def attempts(self) -> list[Attempt]:
        """These, and those that were killed or are at work: as long as the others, in mean.

        Runs come one after the other, so that one without an end before the next was killed.
        """
        ended, began = self.ended(), None
        killed: list[Line | None] = []
        for line in self.lines():
            if line.kind == BEGAN:
                killed.append(began)
            if line.kind != ASKED:
                began = line if line.kind == BEGAN else None
        usual = sum(attempt.seconds for attempt in ended) / max(len(ended), 1)
        lost = [line for line in (*killed, began) if line and line.action == Action.RETRAIN]
        return [*ended, *(Attempt(Period.parse(line.period), usual) for line in lost)]

    @property
    def _journal(self) -> Journal:
        return Journal(self.path)


def key_of(project: Project, period: Period, champion: Version, cause: str) -> str:
    """The same for the same data up to a period, the same champion and the same cause."""
    periods = [known for known in project.partitions.periods() if known <= period]
    files = project.partitions.fingerprint(periods)
    return digest_of({"data": files, "champion": champion.digest, "cause": cause})[:16]


def governed(
    project: Project, action: Action, as_of: str, cause: str, key: str, work: Callable[[], Outcome]
) -> Outcome:
    """Do something that changes what serves, one at a time, and write down what it came to.

    Args:
        key: of what the monitor asked for: it is done once. Empty: a person asks, it is done again.

    Raises:
        EvergreenError: if another one is still at work after half an hour.
    """
    record = Record.of(project)
    with _alone(project, action):
        if (before := record.done(key)) is not None:
            return Outcome(f"already done at {before.at}: {before.outcome}", done=before.promoted)
        period, used = _period(project, as_of).name, _cpu()
        line = Line(BEGAN, action, now(), period, key, cause, flow_run_id())
        record.add(line)
        try:
            outcome = work()
        except EvergreenError as error:
            record.add(replace(line, kind=REFUSED, at=now(), outcome=str(error)))
            raise
        seconds = round(_cpu() - used, 1)
        record.add(
            replace(line, kind=ENDED, at=now(), seconds=seconds, promoted=outcome.done,
                    outcome=outcome.message)
        )  # fmt: skip
        return outcome


@contextmanager
def _alone(project: Project, action: Action) -> Iterator[None]:
    project.settings.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project.settings.home / "change.lock", timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise EvergreenError(
            f"this {action} waited {PATIENCE / 60:.0f} minutes for another retrain or "
            "recalibration: look at it in the Prefect UI, then start this one again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def overtaken(project: Project) -> str | None:
    """Why a scheduled retrain is not made: nothing newer than was looked at, or no budget."""
    champion = project.registry.alias(CHAMPION)
    if champion is None:
        return None
    newest, seen = project.newest_labelled(), champion.tags.get("as_of", "")
    looked_at = [attempt.as_of for attempt in Record.of(project).ended()]
    if newest in looked_at or (seen and _period(project, seen) >= newest):
        return f"nothing to do: {newest}, the newest labelled period, was looked at already"
    spent = over_budget(newest, project.params.governor, Record.of(project).attempts())
    return f"not now: {spent}" if spent else None


def _period(project: Project, as_of: str) -> Period:
    """The newest period that is complete at a moment of logical time."""
    moment = parse_as_of(as_of, project.problem.label_delay)
    return windows.last_complete(project.problem, moment)


def _cpu() -> float:
    """CPU seconds of this process and of the children that it waited for."""
    used: Sequence[float] = os.times()[:4]
    return sum(used)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
