"""The past lived again under other policies: which would have been worth its retrains?

No server, nothing registered, `data/raw` only read: what comes of it lies in `replay/` of the home.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from data.digests import canonical_json, write_atomically
from data.errors import EvergreenError
from data.ingest import deliver, ingest
from data.partitions import Partitions
from data.periods import Period
from flows.project import Project
from models import overseer, policies, replay, replayed
from models.fits import Fits, Task
from models.learned import Profiles
from models.lives import Life, live
from models.overseer import Overseer
from models.policies import ALWAYS, LEVEL, NEVER, OURS
from models.replay import Season
from models.replayed import Evens, Line, Prices
from models.scene import Scene

PRICES = Prices(retrain=100.0, error=1.0)
USUAL = (NEVER, "every-8", "every-4", ALWAYS, "alarm", NEVER + LEVEL, f"every-8{LEVEL}",
         f"every-4{LEVEL}", OURS)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What to replay.

    Attributes:
        policies: names, see `models.policies`; never and always are added, regret needs them.
        starts: the first period of each season; empty: four, at equal distances.
        seeds: how many; each trains all models again.
        first: periods that the first model learns.
        ingested: only the periods that are in `data/raw`.
    """

    policies: tuple[str, ...] = USUAL
    starts: tuple[str, ...] = ()
    seeds: int = 1
    first: int = 8
    jobs: int = 2
    prices: Prices = PRICES
    ingested: bool = False


def run_replay(project: Project, asked: Asked, progress: Progress) -> dict[str, Any]:
    """Replay every season with every seed under every policy; what came of it, as JSON.

    Raises:
        EvergreenError: if a policy or a start is unknown, or periods are too few.
    """
    params, root = project.params, project.settings.home / "replay"
    wanted = dict.fromkeys([NEVER, ALWAYS, *asked.policies])
    chosen = [policies.parse(name, params.governor) for name in wanted]
    places = _places(project, root / "raw", asked.ingested, progress)
    rows = replay.read(project.problem, places)
    seasons = [
        replay.season(project.problem, rows, Period.parse(start), asked.first)
        for start in asked.starts or _starts(sorted(places))
    ]
    kind, contents = params.candidates[-1], _contents(places)
    settings = getattr(params, kind).model_dump()
    fits = Fits.of(root / "fits", kind, settings, contents, asked.first)
    seeds = [params.train.seed + i for i in range(asked.seeds)]
    tasks = [Task(s, as_of, seed) for s in seasons for seed in seeds for as_of in s.fits]
    _fit(fits, tasks, asked.jobs, progress)
    profiles = Profiles(fits, params, asked.jobs)
    scenes = [_scene(profiles, season, seed) for season in seasons for seed in seeds]
    shown = progress.add_task("lives", total=len(scenes) * (len(chosen) + 1))
    lives: list[Life] = []
    for scene in scenes:
        for policy in chosen:
            lives.append(live(scene, policy))
            progress.advance(shown)
    evens = Evens.of(scenes, lives, lambda: progress.advance(shown))
    found = replayed.lines(lives, evens, asked.prices)
    return _content(project, asked, seasons, lives, evens, found)


def _places(
    project: Project, folder: Path, ingested: bool, progress: Progress
) -> dict[Period, Partitions]:
    """Where each period lies: in `data/raw`, else in `folder`, ingested there if need be."""
    own, further = project.partitions, Partitions(folder)
    places = dict.fromkeys(own.periods(), own)
    if ingested:
        if not places:
            raise EvergreenError(f"{own.folder} has no period: run `evergreen ingest` first")
        return places
    missing = [p for p in map(Period.parse, project.problem.periods()) if p not in places]
    there = set(further.periods())
    shown = progress.add_task("periods that data/raw lacks", total=len(missing))
    for period in missing:
        if period not in there:
            ingest(project.problem, further, period, deliver(project.problem, period))
        places[period] = further
        progress.advance(shown)
    return places


def _contents(places: Mapping[Period, Partitions]) -> dict[str, str]:
    """sha256 by file of all that is replayed."""
    found: dict[str, str] = {}
    for partitions in set(places.values()):
        mine = [period for period, other in places.items() if other == partitions]
        found |= partitions.fingerprint(mine)
    return found


def _starts(periods: Sequence[Period]) -> list[str]:
    """Four periods at equal distances, from the first on."""
    return [periods[i * len(periods) // 4].name for i in range(4)]


def _fit(fits: Fits, tasks: Sequence[Task], jobs: int, progress: Progress) -> None:
    missing = fits.missing(tasks)
    shown = progress.add_task("models", total=len(tasks), completed=len(tasks) - len(missing))
    fits.make(missing, jobs, lambda task: progress.advance(shown))


def _scene(profiles: Profiles, season: Season, seed: int) -> Scene:
    def task(as_of: int) -> Task:
        return Task(season, as_of, seed)

    params, fits = profiles.params, profiles.fits
    watch = Overseer(season, params, lambda as_of: profiles.get(task(as_of)))
    return Scene(season, seed, params, lambda as_of: fits.get(task(as_of)), watch)


def _content(
    project: Project,
    asked: Asked,
    seasons: Sequence[Season],
    lives: Sequence[Life],
    evens: Evens,
    found: Sequence[Line],
) -> dict[str, Any]:
    """Everything that the table, the chart and the page show."""
    params, first, best = project.params, seasons[0], replayed.recommend(found)
    periods = sorted(slot.period for slot in first.slots)
    kind = params.candidates[-1]
    return {
        "problem": project.problem.name,
        "task": first.task.to_json(),
        "periods": [periods[0].name, periods[-1].name, len(periods)],
        "rows": sum(len(slot.rows) for slot in first.slots),
        "starts": [season.name for season in seasons],
        "seeds": asked.seeds,
        "first": asked.first,
        "decisions": len(first.decisions),
        "kind": kind,
        "settings": getattr(params, kind).model_dump(),
        "governor": params.governor.model_dump(),
        "monitors": list(overseer.MONITORS),
        "prices": asdict(asked.prices),
        "policies": [asdict(line) for line in found],
        "recommended": best.policy,
        "evenly": evens.summary(),
        "lives": [_life(life) for life in lives],
        "quarters": replayed.quarters(lives),
        "weeks": _weeks(lives, first),
    }


def _life(life: Life) -> dict[str, Any]:
    """One life in a line."""
    return {
        "policy": life.policy,
        "season": life.season,
        "seed": life.seed,
        "log_loss": life.mean("log_loss"),
        "roc_auc": life.mean("roc_auc"),
        "retrains": life.retrains,
        "recalibrations": life.recalibrations,
        "vain": life.vain,
    }


def _weeks(lives: Sequence[Life], first: Season) -> dict[str, Any]:
    """ROC-AUC of every period of the first season with its first seed, by policy."""
    mine = [life for life in lives if (life.season, life.seed) == (first.name, lives[0].seed)]
    return {
        "periods": [week.period for week in mine[0].weeks],
        "roc_auc": {life.policy: [week.quality.roc_auc for week in life.weeks] for life in mine},
        "retrained": {
            life.policy: [week.period for week in life.weeks if week.promoted] for life in mine
        },
    }


def keep(content: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Write it as JSON, rounded so that a page's figures are those of the file."""
    path = folder / f"{name}.json"
    write_atomically(path, canonical_json(rounded(content)))
    return path


def rounded(value: Any) -> Any:
    """Floats with five digits behind the point."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value
