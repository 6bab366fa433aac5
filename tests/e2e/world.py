"""A checkout of its own, with the planted problem, its own home and its own ports."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.e2e.warm import Warm

ROOT = Path(__file__).parents[2]
SERVICES = ("prefect", "mlflow", "board", "gateway", "blue", "green")
ROOMS = ("bento", "data", "flows", "models")
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]


@dataclass(frozen=True)
class World:
    """A copy of the checkout; `run` calls its command line as a person would.

    Attributes:
        warm: forks what runs, which pays where there are more than three commands.
    """

    checkout: Path
    environment: dict[str, str]
    warm: Warm | None = None

    def run(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return self.python("flows.cli", *arguments, timeout=timeout)

    def python(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """`python -m` in this checkout."""
        if self.warm is not None:
            return self.warm.run(*arguments, environment=self.environment, timeout=timeout)
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    @property
    def home(self) -> Path:
        return self.checkout / "var"

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.environment[f'EVERGREEN_{service.upper()}_PORT']}"

    def prefect(self, path: str, **body: object) -> Any:
        """What the Prefect server answers; it says 503 while its database is locked."""
        busy = Retry(total=8, backoff_factor=0.5, status_forcelist=[503], allowed_methods=None)
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", HTTPAdapter(max_retries=busy))
            reply = session.post(f"{self.url('prefect')}/api/{path}", json=body, timeout=30)
        assert reply.status_code in (200, 201), reply.text
        return reply.json()

    def deployment(self, name: str) -> Callable[..., str]:
        """Starts a run of it as the UI does; the run's id."""
        (found,) = (d for d in self.prefect("deployments/filter") if d["name"] == name)
        path = f"deployments/{found['id']}/create_flow_run"
        return lambda **parameters: str(self.prefect(path, parameters=parameters)["id"])

    def ended(self, run: str) -> dict[str, Any] | None:
        """The state in which a run has ended, if it has."""
        (found,) = self.prefect("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
        state: dict[str, Any] = found["state"]
        return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    def processes(self, *words: str, run: str = "") -> list[psutil.Process]:
        """The stack's processes with these words in their command line; of a flow run, all."""
        found = []
        for process in processes_of(self):
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("PREFECT__FLOW_RUN_ID", "")
                if mine == run and set(words) <= set(process.cmdline()):
                    found.append(process)
        return found


def make_world(folder: Path, told: Mapping[str, str] | None = None) -> World:
    """Copy what git would commit, put the planted problem in, and commit.

    Args:
        told: environment variables, such as those of a team.
    """
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for room in ROOMS:
        for compiled in (ROOT / room).glob("**/*.cpython-*[0-9].pyc"):
            place = folder / compiled.relative_to(ROOT)
            place.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, place)  # it fits the source by that one's time
    (folder / "dvc.lock").unlink(missing_ok=True)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["problem"] = "tests/planted.py"
    params["train"] |= {"as_of": "2024-W09", "first_period": "2024-W01"}
    params["xgboost"] |= {"n_estimators": 60, "learning_rate": 0.1, "min_child_weight": 5.0}
    params["gates"] |= {"minimum_rows": 300, "parity_rows": 500}
    params["importance"] |= {"repeats": 2, "maximum_shift": 0.95}  # the planted change is total
    params["demo"] = {"first_train": "2024-W09", "last_period": "2024-W16", "rows_per_request": 50}
    params["demo"]["recalibrations"] = 0  # the story is of one retrain; another test does them
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run([*GIT, "init", "-q", "-b", "main", str(folder)], check=True)
    subprocess.run([*GIT, "-C", str(folder), "add", "-A"], check=True)
    subprocess.run([*GIT, "-C", str(folder), "commit", "-qm", "planted"], check=True)
    return World(folder, {**_environment(folder), **(told or {})})


def _environment(folder: Path) -> dict[str, str]:
    (folder / "var" / "nobody").mkdir(parents=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN", "PREFECT"))}
    ports = {f"EVERGREEN_{s.upper()}_PORT": str(p) for s, p in zip(SERVICES, _free(), strict=True)}
    home = {"HOME": str(folder / "var" / "nobody"), "PYTHONPATH": str(folder)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **ports, **home, "PATH": path, "EVERGREEN_EXPLAIN": "on"}


def _free() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in SERVICES]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def processes_of(world: World) -> list[psutil.Process]:
    """Everything that was started for this world's stack."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("EVERGREEN_STACK") == str(world.home):
                found.append(process)
    return found
