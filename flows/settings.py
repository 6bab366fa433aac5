"""The environment: where state lives, which ports are used, and what child processes are told."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import data
from bento.access_log import ONE_IN, VARIABLE
from bento.slots import RATE_LIMIT, SOCKET_LIMIT, Cluster, Serving
from data.errors import EvergreenError
from flows import cluster, users
from flows.team import Team

HOST = "127.0.0.1"
PARAMS = "params.yaml"
SIGNING_KEY = "keys/signing.pem"
PROBLEM = "EVERGREEN_PROBLEM"
BLOCKS = 60  # of ports
PORTS = {
    "prefect": 4200,
    "mlflow": 5000,
    "board": 4300,
    "gateway": 3000,
    "blue": 3001,
    "green": 3002,
}


@dataclass(frozen=True)
class Settings:
    """Read once from the environment; everything else is told.

    Attributes:
        checkout: the repository.
        root: of all state, `var/` or EVERGREEN_HOME.
        ports: by service; each can be set, such as EVERGREEN_GATEWAY_PORT.
        problem: which one of `problems/`, EVERGREEN_PROBLEM; empty for that of params.yaml.
        user: who runs this, EVERGREEN_USER; empty if nobody said.
        sign_in: everybody shows a token; EVERGREEN_SIGN_IN=on, or as soon as there are users.
        identities: EVERGREEN_IDENTITIES=on; who made a version may not approve it then.
        key: signs registered models, where EVERGREEN_SIGNING_KEY names one.
        explain: whether the endpoint answers /explain; EVERGREEN_EXPLAIN=on.
        access_log: one in how many requests is logged; 0: failures only; EVERGREEN_ACCESS_LOG.
        bind: where the gateway listens, EVERGREEN_HOST; everything else stays on loopback.
        certificate: a PEM with chain and key, EVERGREEN_TLS_CERTIFICATE: the gateway speaks TLS.
        notify: Apprise's addresses for alerts, secrets each, EVERGREEN_NOTIFY; one to a line.
        heartbeat: asked for when the monitor has worked, a secret, EVERGREEN_HEARTBEAT.
        rate_limit: requests a second of a key, or an address; 0 for none; EVERGREEN_RATE_LIMIT.
        dask: a scheduler's address for `train.engine: dask`, EVERGREEN_DASK; empty: processes here.
        cluster: where serving lives with EVERGREEN_TARGET=kubernetes; None: on this machine.
        team: the stores that hosts share, `flows.team`; None on a laptop.
    """

    checkout: Path
    root: Path
    ports: Mapping[str, int]
    problem: str = ""
    user: str = ""
    sign_in: bool = False
    identities: bool = False
    key: Path | None = None
    explain: bool = False
    access_log: int = ONE_IN
    bind: str = HOST
    certificate: Path | None = None
    notify: tuple[str, ...] = field(default=(), repr=False)
    heartbeat: str = field(default="", repr=False)
    rate_limit: int = RATE_LIMIT
    dask: str = ""
    cluster: Cluster | None = None
    team: Team | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Settings from environment variables.

        Raises:
            EvergreenError: if a port, a number or an address is not one, a switch neither on nor
                off, or the problem is none.
        """
        checkout = Path(data.__file__).parents[1]
        root = Path(environment.get("EVERGREEN_HOME") or checkout / "var").absolute()
        problem = _problem(checkout, environment.get(PROBLEM, "").strip())
        shift = 10 * (1 + crc32(problem.encode()) % BLOCKS) if problem else 0
        ports = {service: _port(service, shift, environment) for service in PORTS}
        if len(set(ports.values())) < len(ports):
            raise EvergreenError(f"two services have the same port: {ports}; set them apart")
        sign_in = _switch("EVERGREEN_SIGN_IN", environment) or users.exist(root)
        key = environment.get("EVERGREEN_SIGNING_KEY") or _home(root, problem) / SIGNING_KEY
        certificate = environment.get("EVERGREEN_TLS_CERTIFICATE")
        return cls(
            checkout=checkout,
            root=root,
            ports=ports,
            problem=problem,
            user=environment.get("EVERGREEN_USER", "").strip(),
            sign_in=sign_in,
            identities=_switch("EVERGREEN_IDENTITIES", environment) or sign_in,
            key=Path(key).absolute(),
            explain=_switch("EVERGREEN_EXPLAIN", environment),
            access_log=_count(VARIABLE, ONE_IN, environment),
            bind=environment.get("EVERGREEN_HOST") or HOST,
            certificate=Path(certificate).absolute() if certificate else None,
            notify=tuple((environment.get("EVERGREEN_NOTIFY") or "").split()),
            heartbeat=_address("EVERGREEN_HEARTBEAT", environment),
            rate_limit=_count("EVERGREEN_RATE_LIMIT", RATE_LIMIT, environment),
            dask=environment.get("EVERGREEN_DASK", "").strip(),
            cluster=cluster.read(environment),
            team=Team.read(environment),
        )

    @property
    def home(self) -> Path:
        """The state of this problem."""
        return _home(self.root, self.problem)

    @property
    def params(self) -> Path:
        """The parameters of this problem."""
        if not self.problem:
            return self.checkout / PARAMS
        return self.checkout / "problems" / self.problem / PARAMS

    @property
    def pipeline(self) -> str:
        """Where `dvc repro` leaves what it makes, relative to the checkout."""
        return f"var/problems/{self.problem}/repro" if self.problem else "var/repro"

    @property
    def raw(self) -> Path:
        """The partitions of this problem."""
        return self.checkout / "data" / (f"raw-{self.problem}" if self.problem else "raw")

    def url(self, service: str) -> str:
        if service == "gateway":
            return self.serving.url
        if service == "prefect" and self.cluster is not None:
            return self.cluster.prefect
        return f"http://{HOST}:{self.ports[service]}"

    @property
    def addresses(self) -> dict[str, str]:
        """Where people and clients find the stack."""
        return {
            "board": self.url("board"),
            "prefect": self.url("prefect"),
            "mlflow": self.url("mlflow"),
            "endpoint": f"{self.url('gateway')}/predict",
        }

    @property
    def signing_key(self) -> Path:
        """The private key: the one that was named, or one that is made in the home."""
        return self.key or self.home / SIGNING_KEY

    @property
    def runtime(self) -> Path:
        """Where sockets lie: in the home, or in a short folder if its path is too long for them."""
        folder = self.home / "run"
        if len(os.fsencode(folder / "supervisor.sock")) <= SOCKET_LIMIT:
            return folder
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"evergreen-{name}"

    @property
    def serving(self) -> Serving:
        return Serving(
            folder=self.home / "serving",
            gateway_port=self.ports["gateway"],
            blue_port=self.ports["blue"],
            green_port=self.ports["green"],
            supervisor_socket=self.runtime / "supervisor.sock",
            host=HOST,
            bind=self.bind,
            certificate=self.certificate,
            rate_limit=self.rate_limit,
            cluster=self.cluster,
        )

    def child_environment(self) -> dict[str, str]:
        """What every child process is told: paths, addresses, and no telemetry.

        In a cluster Prefect is not ours, and its own settings stand.
        """
        told = self._told()
        if self.cluster is None:
            return told
        return {name: said for name, said in told.items() if not name.startswith("PREFECT_")}

    def _told(self) -> dict[str, str]:
        ports = {f"EVERGREEN_{s.upper()}_PORT": str(port) for s, port in self.ports.items()}
        return {
            **ports,
            **(self.team.child_environment(self.problem) if self.team else {}),
            "EVERGREEN_HOME": str(self.root),
            PROBLEM: self.problem,
            "EVERGREEN_SIGN_IN": "on" if self.sign_in else "off",
            "EVERGREEN_IDENTITIES": "on" if self.identities else "off",
            "EVERGREEN_SIGNING_KEY": str(self.signing_key),
            VARIABLE: str(self.access_log),
            "EVERGREEN_EXPLAIN": "on" if self.explain else "off",
            "EVERGREEN_HOST": self.bind,
            "EVERGREEN_TLS_CERTIFICATE": str(self.certificate or ""),
            "EVERGREEN_RATE_LIMIT": str(self.rate_limit),
            "EVERGREEN_DASK": self.dask,
            "PYTHONPATH": str(self.checkout),
            "DO_NOT_TRACK": "1",
            "BENTOML_DO_NOT_TRACK": "true",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.home / "dvc" / "site"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": str(self.home / "cache" / "matplotlib"),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            # Leases in memory would end long runs when the server restarts.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            # The second UI asks a host outside this machine.
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # By which the server knows that a run's process is gone, see `flows.automations`.
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }

    @property
    def tracking_uri(self) -> str:
        """Of MLflow's database; a team's password is in the environment instead."""
        return self.team.tracking_uri if self.team else self.local_tracking_uri

    @property
    def local_tracking_uri(self) -> str:
        return f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"


def _home(root: Path, problem: str) -> Path:
    return root / "problems" / problem if problem else root


def _problem(checkout: Path, name: str) -> str:
    """A name under `problems/`, or none."""
    folder = checkout / "problems"
    known = sorted(path.parent.name for path in folder.glob(f"*/{PARAMS}"))
    if name and name not in known:
        raise EvergreenError(
            f"{PROBLEM}={name!r} is no folder of {folder} with a {PARAMS} (there are: "
            f"{', '.join(known) or 'none'}): `evergreen new-problem` makes one"
        )
    return name


def _port(service: str, shift: int, environment: Mapping[str, str]) -> int:
    name = f"EVERGREEN_{service.upper()}_PORT"
    text = environment.get(name) or str(PORTS[service] + shift)
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise EvergreenError(f"{name}={text!r} is not a port: use a number from 1024 to 65535")
    return int(text)


def _count(name: str, default: int, environment: Mapping[str, str]) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) > 1_000_000:
        raise EvergreenError(f"{name}={text!r} is no number: use 0 (none) to 1000000")
    return int(text)


def _address(name: str, environment: Mapping[str, str]) -> str:
    text = environment.get(name, "").strip()
    if text and not (text.startswith(("http://", "https://")) and urlsplit(text).hostname):
        raise EvergreenError(f"{name} is no address: write https://HOST/PATH, or nothing")
    return text


def _switch(name: str, environment: Mapping[str, str]) -> bool:
    text = environment.get(name) or "off"
    if text not in ("on", "off"):
        raise EvergreenError(f"{name}={text!r} is neither on nor off")
    return text == "on"
