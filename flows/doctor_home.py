"""What is kept: parameters, problem, work tree, keys, ledger, rollout, locks and DVC's places."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from configparser import ConfigParser, Error
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bento import experiment, target, tls
from data.errors import EvergreenError
from data.git import git
from data.params import load_params
from data.pipelines import stale
from flows import source
from flows.finding import Finding, fail, few, ok, standing, warn
from flows.settings import Settings
from models.ledger import Ledger
from models.signing import Keys

LOAD = "import sys; from data.problem import load_problem; load_problem(sys.argv[1])"
PATIENCE = 20.0
LOCKS = ("*/*.lock", "*/*/*.lock")
PORTS = {"http": 80, "https": 443, "ssh": 22}
REACH_SECONDS = 1.0


def parameters(path: Path) -> Finding:
    """Whether params.yaml is what the code expects."""
    try:
        return ok("params.yaml", f"read, the problem is {load_params(path).problem}")
    except EvergreenError as error:
        return fail("params.yaml", str(error), "`git diff params.yaml` shows what changed in it")


def importing(checkout: Path, params: Path) -> subprocess.Popen[str] | None:
    """Begin to import the problem in a process of its own, which writes nothing."""
    try:
        problem = load_params(params).problem
    except EvergreenError:
        return None
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-B", "-c", LOAD, problem]
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def problem(started: subprocess.Popen[str] | None) -> Finding:
    """Whether the import that was begun came to its end."""
    if started is None:
        return warn("problem", "not looked at: params.yaml is not readable", "mend params.yaml")
    try:
        _, said = started.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        fix = "a problem's file only defines: let it read data in its functions"
        return fail("problem", f"its import takes more than {PATIENCE:.0f} seconds", fix)
    if started.returncode:
        last = (said.strip() or f"exit {started.returncode}").splitlines()[-1]
        return fail("problem", last, "mend the file that params.yaml names as `problem`")
    return ok("problem", "it can be imported")


def tree(checkout: Path, params: Path) -> Finding:
    """Whether a version that is trained now could ever serve."""
    try:
        named = load_params(params).problem
    except EvergreenError:
        named = "params.yaml"
    code = source.read(checkout, named, params)
    if code.commit == "none":
        fix = f"`git -C {checkout} init`, and commit: a version without a commit never serves"
        return warn("work tree", "there is no commit", fix)
    if code.changed:
        fix = "`git commit` or `git stash`: a version trained from it never serves"
        return warn("work tree", f"differs from {code.commit[:10]}: {few(code.changed)}", fix)
    return ok("work tree", f"as commit {code.commit[:10]}")


def pipelines(checkout: Path) -> Finding:
    """Whether the pipeline of each problem is made from the dvc.yaml of now."""
    names = list(stale(checkout))
    if names:
        fix = "; ".join(f"`evergreen new-problem {name} --refresh`" for name in names)
        said = (
            f"made from another dvc.yaml, so that `dvc repro` may overlook a change: {few(names)}"
        )
        return warn("pipelines", said, f"{fix}, and commit; a change of your own is lost by it")
    return ok("pipelines", "as dvc.yaml is")


def signing_key(private: Path) -> Finding:
    """Whether the key pair is whole, this user's, and nobody else's to read."""
    keys = Keys(private)
    if not private.exists() and not keys.public.exists():
        return ok("signing key", f"none yet: the first training makes {private}")
    try:
        keys.check()
    except EvergreenError as error:
        return fail("signing key", str(error), "as said; then `evergreen verify`")
    if not os.access(private, os.R_OK):
        return fail("signing key", f"{private} may not be read", f"`chown $USER {private}`")
    return ok("signing key", f"{private}, for its owner alone")


def certificate(path: Path | None, now: datetime) -> Finding:
    """Whether the gateway could show its certificate."""
    if path is None:
        return ok("certificate", "none is named: the gateway speaks plain http")
    try:
        tls.check(path, now)
    except EvergreenError as error:
        return fail("certificate", str(error), "as said; then `evergreen reload`")
    return ok("certificate", f"{path} is valid")


def ledger(kept: Ledger) -> Finding:
    """Whether every line is as it was written; MLflow's word on its end is for `verify`."""
    try:
        entries, torn = kept.read(), kept.torn()
    except (EvergreenError, OSError) as error:
        return fail(
            "ledger", str(error), f"put {kept.place} back from a backup, `evergreen verify`"
        )
    if torn:
        fix = "none is needed: the next command that writes sets it aside"
        return warn("ledger", "a killed writer left a part of a line at its end", fix)
    return ok("ledger", f"{len(entries)} lines, each as it was written")


def rollout(settings: Settings) -> Finding:
    """Whether the gateway's state can be read, and no release left it half way."""
    try:
        state = target.load(settings.serving)
    except EvergreenError as error:
        return fail("rollout", str(error), "as said; `evergreen verify` shows what should serve")
    if experiment.abandoned(state, target.of(settings.serving).alive):
        fix = "`evergreen release` goes on with it, `evergreen rollback --reason WHY` ends it"
        return warn("rollout", "a killed release left a canary with a share of the traffic", fix)
    active = state.slots[state.active] if state.active else None
    said = f"version {active.version} in slot {state.active}" if active else "nothing serves yet"
    return ok("rollout", said)


def locks(places: Iterable[Path], table: Path = Path("/proc/locks")) -> Finding:
    """Whether a lock is held, and by whom; a file that nobody holds is no lock.

    Args:
        places: lock files.
        table: the kernel's list of locks.
    """
    found = [place for place in places if place.is_file()]
    foreign = [str(place) for place in found if not os.access(place, os.W_OK)]
    if foreign:
        fix = "`chown $USER` them: another user ran a command in this home"
        return fail("locks", f"may not be taken by this user: {few(foreign)}", fix)
    try:
        held = _held(table.read_text())
    except OSError:
        return warn("locks", f"who holds them cannot be seen: no {table}", "`lsof` shows it")
    taken = [
        (place, process)
        for place in found
        for pid in held.get(place.stat().st_ino, ())
        if (process := _with_open(pid, place))
    ]
    if taken:
        said = few(f"{place} by {process.name()} (pid {process.pid})" for place, process in taken)
        pids = " ".join(sorted({str(process.pid) for _, process in taken}))
        return warn("locks", f"held: {said}", f"wait until it is done; if it hangs, `kill {pids}`")
    return ok("locks", f"none of {len(found)} lock files is held")


def lock_files(settings: Settings) -> list[Path]:
    """Every file of home and checkout by which processes wait for each other."""
    found = [path for pattern in LOCKS for path in settings.home.glob(pattern)]
    tmp = settings.checkout / ".dvc" / "tmp"
    return [*sorted(found), settings.raw / ".lock", tmp / "lock", tmp / "rwlock.lock"]


def dvc_lock(path: Path) -> Finding:
    """Whether DVC's list of readers and writers can be read, and names only DVC.

    It drops the dead by itself; a number that another program has by now it takes for its own.
    """
    fix = f"when no dvc runs: `rm {path}`"
    try:
        content = json.loads(path.read_text())
        readers = [each for some in content.get("read", {}).values() for each in some]
        pids = {int(each["pid"]) for each in [*content.get("write", {}).values(), *readers]}
    except FileNotFoundError:
        return ok("dvc lock", "nobody works with DVC here")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return fail("dvc lock", f"{path} was cut off: DVC refuses to work", fix)
    alive = {pid: _command(pid) for pid in pids if psutil.pid_exists(pid)}
    strangers = [f"pid {pid} ({said})" for pid, said in alive.items() if "dvc" not in said]
    if strangers:
        return fail("dvc lock", f"held by what is not DVC: {few(strangers)}", fix)
    if alive:
        return warn("dvc lock", f"DVC works: pid {few(map(str, alive))}", "wait until it is done")
    return ok("dvc lock", "nobody works with DVC here")


def dvc_remote(checkout: Path, home: Path) -> Finding:
    """Whether DVC's cache is this home's, and its remote can be reached."""
    folder, config = checkout / ".dvc", ConfigParser()
    try:
        config.read([folder / "config", folder / "config.local"])
    except Error as error:
        said = str(error).splitlines()[0]
        return fail("dvc", said, "mend .dvc/config: `git checkout .dvc/config`")
    cache = (folder / config.get("cache", "dir", fallback="cache")).resolve()
    if not cache.is_relative_to(home.resolve()):
        said = f"its cache is {cache}, of another home than {home}"
        return warn("dvc", said, "`evergreen up` points DVC to this home")
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    if not url:
        return warn("dvc", "there is no default remote", "`dvc remote add -d NAME URL`")
    return _remote(name, url, folder)


def _remote(name: str, url: str, folder: Path) -> Finding:
    address = urlsplit(url)
    if not address.scheme or address.scheme == "file":
        place = (folder / address.path).resolve()
        if os.access(standing(place), os.W_OK):
            made = "" if place.exists() else ", not made yet"
            return ok("dvc", f"remote {name} is {place}{made}")
        return fail("dvc", f"remote {name}: {place} may not be written", f"`chown $USER {place}`")
    port = address.port or PORTS.get(address.scheme)
    if not address.hostname or not port:
        if address.scheme == "s3":
            return ok("dvc", f"remote {name} is {url}")
        fix = "`evergreen data push` shows whether it can be reached"
        return warn("dvc", f"remote {name} ({address.scheme}) was not looked at", fix)
    try:
        socket.create_connection((address.hostname, port), REACH_SECONDS).close()
    except OSError as error:
        fix = "bring network or host back; training goes on without, `evergreen data push` later"
        return warn("dvc", f"remote {name}: no answer of {address.hostname}:{port} ({error})", fix)
    return ok("dvc", f"remote {name}: {address.hostname}:{port} answers")


def past(kept: Ledger, checkout: Path) -> Mapping[str, datetime]:
    """Moments that are surely past: of the last commit and of the ledger's last line."""
    marks = {}
    committed = git(checkout, "log", "-1", "--format=%cI", optional=True)
    if committed:
        marks["the last commit"] = datetime.fromisoformat(committed)
    try:
        entries = kept.read()
    except (EvergreenError, OSError):
        entries = []
    if entries:
        marks["the ledger's last line"] = datetime.fromisoformat(entries[-1].at)
    return marks


def _held(table: str) -> dict[int, list[int]]:
    """Inode -> who holds a lock on it, by the kernel's table."""
    found: dict[int, list[int]] = {}
    for line in table.splitlines():
        words = line.split()
        if len(words) == 8 and words[1] in ("FLOCK", "POSIX", "OFDLCK"):
            found.setdefault(int(words[5].split(":")[2]), []).append(int(words[4]))
    return found


def _with_open(pid: int, place: Path) -> psutil.Process | None:
    """The process, if the file is among those it has open: numbers of inodes are not unique."""
    try:
        process = psutil.Process(pid)
        names = {each.path for each in process.open_files()}
        return process if str(place.resolve()) in names else None
    except (psutil.Error, ValueError):
        return None


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return "unseen"
