"""Do the packages of an interpreter follow a lock? If not, make one whose packages do."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from uv import find_uv_bin

from data.digests import sha256_file
from data.errors import EvergreenError

PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)( ;)?", re.MULTILINE)
LISTING = (
    "import json; from importlib.metadata import distributions as d; "
    "print(json.dumps({x.name: x.version for x in d()}))"
)


def installed(python: Path | None = None) -> dict[str, str]:
    """Package -> version of an interpreter, this one without a path.

    Raises:
        EvergreenError: if it does not run.
    """
    command = [str(python or sys.executable), "-c", LISTING]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.CalledProcessError) as error:
        raise EvergreenError(
            f"{python} does not run ({error}): name a Python 3 with --python"
        ) from error


def other_versions(lock: str, installed: Mapping[str, str]) -> list[str]:
    """Installed packages that a lock pins to another version; what it has twice may be either."""
    pins: dict[str, set[str]] = {}
    for name, version, _ in PIN.findall(lock):
        pins.setdefault(normal(name), set()).add(version)
    here = {normal(name): version for name, version in installed.items()}
    return [
        f"{name} {' or '.join(sorted(wanted))}, here {here[name]}"
        for name, wanted in sorted(pins.items())
        if name in here and here[name] not in wanted
    ]


def missing(lock: str, installed: Mapping[str, str]) -> list[str]:
    """Packages that a lock wants on every machine, and that are not installed."""
    wanted = {normal(name) for name, _, marker in PIN.findall(lock) if not marker}
    return sorted(wanted - {normal(name) for name in installed})


def environment(lock: Path, home: Path) -> Path:
    """An interpreter whose packages follow a lock: this one, or one that is made once per lock.

    Args:
        home: folder of the environments.

    Raises:
        EvergreenError: if uv cannot install the locked packages.
    """
    if not other_versions(lock.read_text(), installed()):
        return Path(sys.executable)
    folder = home / sha256_file(lock)[:16]
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        sync = ["pip", "sync", "--require-hashes", "--compile-bytecode", "--python", str(python)]
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv(*sync, str(lock))
        ready.touch()
    return python


def _uv(*arguments: str) -> None:
    done = subprocess.run([find_uv_bin(), "--quiet", *arguments], capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"uv ended with {done.returncode}"
        raise EvergreenError(
            f"the recorded packages cannot be installed ({said[:300]}): bring the package index "
            "back, or name an interpreter that has them with --python"
        )


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
