"""The machine under Evergreen: interpreter, packages, ports, processes, disk, clock, variables."""

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.metadata import distributions
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil

from bento import supervisor
from data.errors import EvergreenError
from flows import leftovers, packages
from flows.finding import Finding, fail, few, ok, standing, warn
from flows.settings import Settings

PYTHONS = ((3, 11), (3, 14))
SYNC = "`rm .venv/.ready; make setup` installs what requirements.lock says"
# What another version than the locked one does; which one that is stands in the lock alone.
BREAKS = {
    "bentoml": "the service is loaded by a function that BentoML may change",
    "fastapi": "the Prefect API may refuse its own requests",
    "mlflow": "it may change its database, which the locked one then does not read",
    "onnxruntime": "answers may differ in their bits",
    "prefect": "server, worker and database have to be of one version",
    "scikit-learn": "a retrained model may differ in its bits",
    "sqlalchemy": "schedules may produce no runs, without a word",
    "xgboost": "a retrained model may differ in its bits",
}
NAMED = ("prefect", "mlflow", "dvc", "bentoml", "xgboost")
LITTLE, NONE_LEFT = 5 << 30, 500 << 20
FEW_FILES = 10_000
FOREIGN = ("PREFECT_", "MLFLOW_", "BENTOML_", "DVC_")
HARMLESS = ("PREFECT_LOGGING_", "DVC_NO_ANALYTICS")
ELSEWHERE = (
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_WORK_TREE",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PYTHONHOME",
)


def python(version: tuple[int, ...]) -> Finding:
    """Whether this interpreter is one of those that the packages are locked for."""
    text = ".".join(map(str, version[:3]))
    low, high = PYTHONS
    if low <= version[:2] < high:
        return ok("python", text)
    fix = "`make setup PYTHON=/path/to/python3.11` (3.12 and 3.13 do, too)"
    return fail("python", f"{text}, not 3.11 to 3.13", fix)


def locked(lock: Path, path: Sequence[str]) -> Finding:
    """Whether the packages below `path`, as sys.path has it, are those of the lock."""
    text, here = lock.read_text(), _installed(path)
    if missing := packages.missing(text, here):
        return fail("packages", f"not installed: {few(missing)}", SYNC)
    others = packages.other_versions(text, here)
    grave = [each for each in others if each.split()[0] in BREAKS]
    if grave:
        effect = BREAKS[grave[0].split()[0]]
        return fail("packages", f"the lock has {few(grave)}: {effect}", SYNC)
    if others:
        return warn("packages", f"the lock has {few(others)}", SYNC)
    named = ", ".join(f"{name} {here[name]}" for name in NAMED if name in here)
    return ok("packages", f"as requirements.lock says: {named}")


def _installed(path: Sequence[str]) -> dict[str, str]:
    """Package -> version; of two the one that is imported."""
    found: dict[str, str] = {}
    for each in distributions(path=list(path)):
        found.setdefault(packages.normal(each.name), each.version)
    return found


def wheels(path: Sequence[str]) -> Finding:
    """Whether every compiled package is a published wheel, not one that was built here."""
    built = []
    for each in distributions(path=list(path)):
        tags = re.findall(r"^Tag: .*-(\S+)$", each.read_text("WHEEL") or "", re.MULTILINE)
        if any(tag.startswith("linux_") for tag in tags):
            built.append(each.name)
    if built:
        said = f"compiled on this machine: {few(sorted(built))}; its bits are no one else's"
        return warn("wheels", said, SYNC)
    return ok("wheels", "nothing was compiled on this machine")


def tools(path: str | None) -> Finding:
    """Whether git, which snapshots and lineage are made with, is there."""
    found = shutil.which("git", path=path)
    if found is None:
        return fail("git", "no git on the PATH", "install git (Debian: `apt-get install git`)")
    return ok("git", found)


def disk(name: str, folder: Path) -> Finding:
    """Whether the file system of a folder has room for some retrains, and for their files."""
    place = standing(folder)
    free, stat = shutil.disk_usage(place).free, os.statvfs(place)
    said = f"{free / 2**30:.1f} GiB free for {folder}"
    fix = (
        f"make room, or move the state with EVERGREEN_HOME; `du -sh {folder}/*` says what is large"
    )
    if free < NONE_LEFT:
        return fail(name, said, fix)
    if stat.f_files and stat.f_favail < FEW_FILES:
        return fail(name, f"{stat.f_favail} files may still be made for {folder}", fix)
    return warn(name, said, fix) if free < LITTLE else ok(name, said)


def writable(folder: Path) -> Finding:
    """Whether this user may write below a folder, or make it."""
    place = standing(folder)
    if os.access(place, os.W_OK | os.X_OK) and place.is_dir():
        return ok("home", f"{folder}{'' if place == folder else ', not made yet'}")
    fix = f"`chown -R $USER {place}`, mount it writable, or name another with EVERGREEN_HOME"
    return fail("home", f"{place} may not be written by this user", fix)


def ports(settings: Settings, mine: Collection[int]) -> Finding:
    """Whether every port is free or ours.

    Args:
        mine: the processes of this home.
    """
    strangers = leftovers.strangers(settings, mine)
    if strangers:
        said = ", ".join(
            f"{settings.ports[name]} of {name} by {who}" for name, who in strangers.items()
        )
        variables = ", ".join(f"EVERGREEN_{name.upper()}_PORT" for name in strangers)
        return fail("ports", f"taken: {said}", f"end it, or choose another with {variables}")
    return ok("ports", f"{', '.join(map(str, settings.ports.values()))} are free or ours")


def processes(settings: Settings, mine: Sequence[psutil.Process]) -> Finding:
    """Whether what runs of this home runs under its supervisord, and runs well."""
    socket = settings.serving.supervisor_socket
    try:
        head = psutil.Process(supervisor.pid(socket))
    except (EvergreenError, psutil.Error):
        if not mine:
            return ok("processes", "the stack is down, and nothing of it is left")
        named = few(f"{each.name()} (pid {each.pid})" for each in mine)
        fix = "`evergreen up` takes over from them; `evergreen down` then ends them"
        return warn("processes", f"left behind by a killed stack: {named}", fix)
    states = supervisor.states(socket)
    failed = [name for name, word in states.items() if word in supervisor.FAILED]
    if failed:
        fix = f"read its log below {settings.home}, then `evergreen down; evergreen up`"
        return fail("processes", f"supervisord cannot keep up {few(failed)}", fix)
    known = {head.pid, os.getpid(), *(each.pid for each in head.children(recursive=True))}
    others = [f"{each.name()} (pid {each.pid})" for each in mine if each.pid not in known]
    if others:
        fix = "`kill PID`, if it is none of your own commands"
        return warn("processes", f"of this home, but not under its supervisord: {few(others)}", fix)
    return ok("processes", f"the stack is up under supervisord (pid {head.pid})")


def clock(now: datetime, marks: Mapping[str, datetime], zone: str) -> Finding:
    """Whether the clock is behind what was already written, and its zone is a zone.

    Args:
        marks: moments that are surely past, by what they are of.
        zone: the variable TZ; empty where it is not set.
    """
    late = {name: at for name, at in marks.items() if at > now + timedelta(minutes=1)}
    if late:
        name, at = max(late.items(), key=lambda pair: pair[1])
        said = f"it is {now:%Y-%m-%d %H:%M} UTC here, but {name} is of {at:%Y-%m-%d %H:%M}"
        return fail(
            "clock", said, "set the clock (`timedatectl set-ntp true`) before anything else"
        )
    if zone and not zone.startswith((":", "/")):
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            fix = "`unset TZ`, or name a zone such as Europe/Berlin"
            return warn("clock", f"TZ={zone} is no zone of this machine: UTC is taken", fix)
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC, after all that was written here")


def variables(user: Mapping[str, str], told: Mapping[str, str]) -> Finding:
    """Whether the user's own variables lead tools elsewhere; values are not shown.

    Args:
        user: the environment as the shell gives it.
        told: what Evergreen tells its own processes, which counts for them.
    """
    loud = [name for name in ELSEWHERE if name in user]
    if _proxied(user):
        loud.append("HTTP_PROXY without 127.0.0.1 in NO_PROXY")
    if loud:
        fix = f"`unset {' '.join(name.split()[0] for name in loud)}`"
        if _proxied(user):
            fix += ", or `export NO_PROXY=127.0.0.1,localhost`"
        return fail("variables", f"set, and lead elsewhere: {few(loud)}", fix)
    quiet = [
        name
        for name, value in sorted(user.items())
        if name.startswith(FOREIGN) and not name.startswith(HARMLESS) and told.get(name) != value
    ]
    if quiet:
        said = f"{few(quiet)}: `evergreen` has its own, but other commands of this shell follow it"
        return warn("variables", said, f"`unset {' '.join(quiet)}`")
    return ok("variables", "none leads Prefect, MLflow, DVC or git elsewhere")


def _proxied(user: Mapping[str, str]) -> bool:
    """Whether requests to this machine would go to a proxy."""
    given = {name.lower(): value for name, value in user.items() if value}
    spared = given.get("no_proxy", "")
    named = given.get("http_proxy") or given.get("all_proxy")
    return bool(named) and spared != "*" and "127.0.0.1" not in spared.split(",")
