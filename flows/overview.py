"""What a person wants to know now, in one value: the board shows it, and so does `status`.

Everything is read, nothing is changed. What cannot be read is named in `unknown`, and the rest is
shown all the same: this has to answer when something is broken.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

from bento import experiment, rollout, target
from bento.slots import Slot
from bento.target import Release, State
from data.errors import EvergreenError
from data.params import Params, load_params
from flows import ask, stack, stores, waiting, year
from flows.ask import Registered, Run
from flows.reports import silent
from flows.settings import Settings
from flows.waiting import Waiting
from flows.year import Kept, Report, Week
from models import standing
from models.ledger import Entry, Ledger
from models.standing import CHALLENGER, CHAMPION, PREVIOUS

PAGES = {"gate report": "gates.html", "model card": "card.html"}
LINES = 12
NO_LEDGER: tuple[tuple[Entry, ...], str | None] = ((), None)
TORN = (
    "the ledger ends with a part of a line, left by a killed writer; the next promotion, release "
    "or rollback sets it aside"
)
PATIENCE = 8.0  # seconds for everything that is asked at once
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """A line of the ledger, as people read it."""

    at: str
    kind: str
    version: str
    over: str | None
    by: str
    reason: str
    detail: Mapping[str, str]


@dataclass(frozen=True)
class Overview:
    """The state of one home at a moment (UTC, ISO text).

    Attributes:
        problem: the model's name in the registry; None where params.yaml names no problem.
        up: whether the stack runs.
        aliases: alias -> version; from the ledger where MLflow does not answer.
        slots, weights, active: what each slot holds, its share, and which one serves.
        experiment: the canary or A/B test in words, None without one.
        endpoint: what the gateway's /version answers; None if nothing does.
        problems: what does not fit, and the way out.
        unknown: what could not be read.
        waiting: what waits for a person.
        monitor: the newest report: period, version, decision, findings; None without one.
        year: every period that was watched, oldest first.
        runs: Prefect's runs that are on, late, to come, or ended badly.
        ledger: its last lines, newest first.
        addresses, links: where to look; links are by title.
    """

    at: str
    problem: str | None
    up: bool
    aliases: Mapping[str, str | None]
    active: Slot | None
    slots: Mapping[Slot, Release | None]
    weights: Mapping[Slot, int]
    experiment: str | None
    endpoint: Mapping[str, Any] | None
    problems: tuple[str, ...]
    unknown: tuple[str, ...]
    waiting: tuple[Waiting, ...]
    monitor: Report | None
    year: tuple[Week, ...]
    runs: tuple[Run, ...]
    ledger: tuple[Line, ...]
    addresses: Mapping[str, str]
    links: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "monitor": self.monitor and self.monitor.to_json()}


@dataclass
class _Reading:
    """Parts that are read one by one or at once; what fails is noted, and stands for nothing."""

    unknown: list[str] = field(default_factory=list)

    def get(self, what: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except EvergreenError as error:
            self.unknown.append(f"{what}: {error}")
        except Exception as error:
            self.unknown.append(f"{what}: cannot be read ({type(error).__name__}: {error})")
        return otherwise

    def at_once(self, questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """Answers by name; None for whoever failed, or did not answer in time."""
        pool = ThreadPoolExecutor(len(questions))
        asked = {name: pool.submit(question) for name, question in questions.items()}
        wait(asked.values(), timeout=PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)
        return {name: self.get(name, partial(_now, future), None) for name, future in asked.items()}


def _now(asked: Future[T]) -> T:
    if not asked.done():
        raise EvergreenError(f"no answer within {PATIENCE:.0f} s")
    return asked.result()


def gather(settings: Settings, at: datetime) -> Overview:
    """Everything as it is now, which is `at`."""
    reading = _Reading()
    params = reading.get("params.yaml", lambda: _params(settings), None)
    name = reading.get("the problem", lambda: _name(params.problem), None) if params else None
    entries, fault = reading.get("the ledger", lambda: _entries(settings), NO_LEDGER)
    state = reading.get("the rollout's state", lambda: target.load(settings.serving), State())
    kept = reading.get("reports", lambda: year.read(settings.home / "reports"), Kept())
    up = settings.cluster is not None or stack.is_up(settings)
    seen, mute = _asked(settings, name, at)
    known: Registered | None = seen["MLflow"]
    status: rollout.Status | None = seen["the endpoint"]
    aliases = _aliases(known, entries)
    runs: tuple[Run, ...] = tuple(seen["Prefect"] or ())
    served = status.problem if status and up else None
    late = reading.get("the monitor", lambda: _late(kept.newest, at), None)
    problems = [served, fault, *_problems(settings, state, aliases, entries, up), late]
    return Overview(
        at=at.isoformat(timespec="seconds"),
        problem=name,
        up=up,
        aliases=aliases,
        active=state.active,
        slots=state.slots,
        weights=state.weights,
        experiment=experiment.describe(state),
        endpoint=status.endpoint if status else None,
        problems=tuple(filter(None, problems)),
        unknown=(*reading.unknown, *kept.faults, *(mute if up else ())),
        waiting=tuple(waiting.find(params, known, entries, runs)),
        monitor=kept.newest,
        year=kept.year,
        runs=runs,
        ledger=tuple(_line(entry) for entry in reversed(entries[-LINES:])),
        addresses=settings.addresses,
        links=reading.get("links", lambda: _links(settings, known, aliases[CHAMPION]), {}),
    )


def chart(settings: Settings) -> Path:
    """The picture that a demo leaves."""
    return settings.home / "demo" / "chart.png"


def version_page(settings: Settings, number: str, page: str) -> Path | None:
    """A page that was kept with a version or its run; None if this home has no such one.

    Raises:
        EvergreenError: if MLflow or the store of files does not answer as it should.
    """
    known = ask.registered(settings, _name(_params(settings).problem)).versions
    if number not in known:
        return None
    if settings.team:
        return stores.page(settings, known[number], page)
    folder = Path(unquote(urlparse(known[number].source).path)).resolve()
    if not folder.is_relative_to(settings.home.resolve()):
        return None
    return folder / page if (folder / page).exists() else folder.parent / page


def _asked(settings: Settings, name: str | None, at: datetime) -> tuple[dict[str, Any], list[str]]:
    """What the running parts answer, and which of them do not."""
    reading = _Reading()
    questions: dict[str, Callable[[], Any]] = {
        "MLflow": lambda: ask.registered(settings, name) if name else None,
        "Prefect": lambda: ask.runs(settings, at),
        "the endpoint": lambda: rollout.status(settings.serving),
    }
    return reading.at_once(questions), reading.unknown


def _params(settings: Settings) -> Params:
    return _params_of(settings.params, settings.params.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _params_of(path: Path, changed: int) -> Params:
    return load_params(path)


@lru_cache(maxsize=4)
def _name(problem: str) -> str:
    """The problem's own name; its file imports pandas, which nothing else here needs."""
    from data.problem import load_problem

    return load_problem(problem).name


def _entries(settings: Settings) -> tuple[tuple[Entry, ...], str | None]:
    """The ledger's lines, and what is wrong with it; None where it is whole."""
    if settings.team:
        return _entries_in(stores.ledger(settings))
    path = settings.home / "ledger.jsonl"
    if not path.exists():
        return NO_LEDGER
    stat = path.stat()
    return _entries_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _entries_of(path: Path, changed: int, size: int) -> tuple[tuple[Entry, ...], str | None]:
    return _entries_in(Ledger(path))


def _entries_in(ledger: Ledger) -> tuple[tuple[Entry, ...], str | None]:
    try:
        return tuple(ledger.read()), TORN if ledger.torn() else None
    except EvergreenError as error:
        return (), str(error)


def _late(newest: Report | None, at: datetime) -> str | None:
    return silent(newest.week.period, newest.made_at, at) if newest else None


def _line(entry: Entry) -> Line:
    return Line(
        entry.at, entry.kind, entry.version, entry.expected, entry.by, entry.reason, entry.detail
    )


def _aliases(known: Registered | None, entries: Sequence[Entry]) -> dict[str, str | None]:
    """As MLflow has them; where it does not answer, as the ledger's promotions have them."""
    if known is not None:
        return {name: known.aliases.get(name) for name in (CHAMPION, CHALLENGER, PREVIOUS)}
    champion, previous = standing.holders(entries)
    return {CHAMPION: champion, CHALLENGER: None, PREVIOUS: previous}


def _problems(
    settings: Settings,
    state: State,
    aliases: Mapping[str, str | None],
    entries: Sequence[Entry],
    up: bool,
) -> list[str]:
    """What does not fit together, each with the way out."""
    found = []
    active = state.slots[state.active] if state.active else None
    champion, decided = aliases[CHAMPION], standing.holders(entries)[0]
    if up and active and active.version != champion:
        found.append(
            f"version {active.version} serves, but the champion is {champion}: run "
            f"`evergreen release {champion}`"
        )
    if decided and decided != champion:
        found.append(
            f"the champion alias is {champion}, but the ledger promoted {decided}: "
            "`evergreen verify` says more"
        )
    if experiment.abandoned(state, target.of(settings.serving).alive):
        found.append(
            "a canary is left behind by a killed release: `evergreen release` or `evergreen "
            "rollback --reason WHY` ends it"
        )
    return found


def _links(settings: Settings, known: Registered | None, champion: str | None) -> dict[str, str]:
    """Pages about the champion, in MLflow and on the board itself."""
    found = {"endpoint's API": f"{settings.url('gateway')}/docs.json"}
    found |= {"the demo's chart": "/chart.png"} if chart(settings).exists() else {}
    if known is None or champion is None or champion not in known.versions:
        return found
    version = known.versions[champion]
    found |= {f"{name} of version {champion}": f"/versions/{champion}/{page}"
              for name, page in PAGES.items()}  # fmt: skip
    with suppress(EvergreenError):
        found[f"MLflow run of version {champion}"] = ask.run_page(settings, version.run_id)
    return found
