"""The local stack under one supervisord: Prefect, MLflow, the board, gateway and slots."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bento import client, gateway, rollout, slots, supervisor, tls
from data.digests import write_atomically
from data.errors import EvergreenError
from flows import service, stores
from flows.leftovers import STACK, check_ports, end_orphans
from flows.settings import HOST, Settings

POOL = "evergreen"
START_SECONDS = 90


def is_up(settings: Settings) -> bool:
    """Whether this home's supervisord answers."""
    try:
        supervisor.state(settings.serving.supervisor_socket, "prefect")
    except EvergreenError:
        return False
    return True


def up(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Start everything, and register deployments and automations.

    All but the gateway listens on loopback in any case.

    Raises:
        EvergreenError: if it is up already, a port is taken, the gateway may not listen where it is
            meant to, its certificate cannot be used, or a part does not come up.
    """
    if settings.cluster is not None:
        raise EvergreenError(
            "EVERGREEN_TARGET=kubernetes: the cluster runs what `deploy/k8s` says; unset it to run "
            "a stack of this machine"
        )
    if is_up(settings):
        raise EvergreenError(
            "the stack is up already: `evergreen status` shows it, `evergreen down` stops it"
        )
    _check_gateway(settings, say)
    end_orphans(settings, say)
    _pidfile(settings).unlink(missing_ok=True)
    check_ports(settings)
    _prepare(settings)
    try:
        _start(settings, say)
    except BaseException:
        if is_up(settings):
            down(settings)
        raise


def reload(settings: Settings, say: Callable[[str], None]) -> None:
    """Follow the running gateway with one that has the settings of now; no request is lost.

    Raises:
        EvergreenError: if the stack is not up, or as for `up`.
    """
    _check_gateway(settings, say)
    gateway.reload(settings.serving)


def _check_gateway(settings: Settings, say: Callable[[str], None]) -> None:
    at, certificate = datetime.now(UTC), settings.certificate
    gateway.check_public(settings.serving, at)
    if certificate is not None:
        tls.check(certificate, at)
    elif settings.serving.public:
        say("keys and rows will cross the network in clear: name EVERGREEN_TLS_CERTIFICATE")


def _start(settings: Settings, say: Callable[[str], None]) -> None:
    from flows.registration import register_all

    say("starting Prefect server, gateway and MLflow")
    _launch(settings)
    _wait_for(settings, "prefect", f"{settings.url('prefect')}/api/health")
    say("registering deployments and automations")
    register_all(settings.checkout, POOL, "--type", "process")
    _program(settings, "worker")
    _wait_for(settings, "mlflow", f"{settings.url('mlflow')}/health")
    _wait_for(settings, "board", f"{settings.url('board')}/healthz")
    rollout.resume(settings.serving)


def down(settings: Settings) -> None:
    """Stop the programs of this home, and nothing else.

    Raises:
        EvergreenError: if the stack is not up.
    """
    if not is_up(settings):
        raise EvergreenError(
            f"the stack is not up (nothing answers at {settings.serving.supervisor_socket}): "
            "nothing was stopped"
        )
    process = psutil.Process(supervisor.pid(settings.serving.supervisor_socket))
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except psutil.TimeoutExpired as error:
        raise EvergreenError(f"supervisord ({process.pid}) does not stop: see its log") from error


def _pidfile(settings: Settings) -> Path:
    return settings.home / "run" / "supervisord.pid"


def prepare(settings: Settings) -> None:
    """Folders, DVC's configuration and MLflow's database, for flows without a stack."""
    _prepare(settings)
    _make_mlflow(settings)


def _prepare(settings: Settings) -> None:
    """Folders, the gateway's configuration, supervisord's, and MLflow's database."""
    for folder in ("run", "logs", "mlflow", "serving"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    (settings.root / "dvc" / "remote").mkdir(parents=True, exist_ok=True)
    service.make(settings)
    settings.runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(settings.home / "run" / "supervisord.conf", _configuration(settings))
    stores.configure_dvc(settings)
    stores.prepare(settings)


def _configuration(settings: Settings) -> str:
    run, serving = settings.home / "run", settings.serving
    socket = serving.supervisor_socket
    head = (
        f"[supervisord]\nlogfile={settings.home / 'logs' / 'supervisord.log'}\n"
        f"pidfile={run / 'supervisord.pid'}\nchildlogdir={settings.home / 'logs'}\n"
        f"directory={settings.checkout}\n\n"
        f"[unix_http_server]\nfile={socket}\nchmod=0700\n\n"
        f"[rpcinterface:supervisor]\n"
        f"supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    )
    ports = settings.ports
    prefect = ["server", "start", "--host", HOST, "--port", str(ports["prefect"])]
    worker = ["worker", "start", "--pool", POOL, "--type", "process"]
    mlflow = ["server", "--backend-store-uri", settings.tracking_uri, "--workers", "1"]
    if settings.team:
        mlflow += ["--artifacts-destination", settings.team.s3("mlflow")]
    mlflow += ["--host", HOST, "--port", str(ports["mlflow"])]
    board = ["--factory", "flows.board:served", "--host", HOST, "--port", str(ports["board"])]
    board += ["--log-level", "warning", "--no-server-header"]
    programs = [
        _section(settings, "prefect", service.prefect_server(settings, prefect), True),
        _section(settings, "worker", service.launched(settings, ["-m", "prefect", *worker]), False),
        _section(settings, "mlflow", service.mlflow_server(settings, mlflow), False),
        _section(settings, "board", ["-m", "uvicorn", *board], True),
    ]
    return "\n".join([head, *programs, slots.programs(serving, settings.checkout)])


def _section(settings: Settings, name: str, arguments: list[str], autostart: bool) -> str:
    command = shlex.join([sys.executable, *arguments]).replace("%", "%%")
    log = settings.home / "logs" / f"{name}.log"
    return (
        f"[program:{name}]\ncommand={command}\ndirectory={settings.checkout}\n"
        f"autostart={str(autostart).lower()}\nautorestart=true\nstartsecs=2\nstopwaitsecs=20\n"
        f"stopasgroup=true\nkillasgroup=true\nredirect_stderr=true\nstdout_logfile={log}\n"
        f"stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=2\n"
    )


def _launch(settings: Settings) -> None:
    """supervisord, and MLflow once its database is there: its first start races with clients."""
    configuration = str(settings.home / "run" / "supervisord.conf")
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", configuration]
    told = service.without(_environment(settings))
    done = subprocess.run(command, capture_output=True, text=True, env=told)
    if done.returncode:
        raise EvergreenError(f"supervisord does not start: {done.stderr.strip()}")
    _wait(lambda: None if is_up(settings) else "supervisord does not answer", 15)
    _make_mlflow(settings)
    _program(settings, "mlflow")


def _make_mlflow(settings: Settings) -> None:
    from models.tracking import Tracking

    with stores.alone(settings):
        Tracking(settings.tracking_uri, stores.artifacts(settings), "-").client()


def _program(settings: Settings, name: str) -> None:
    supervisor.start(settings.serving.supervisor_socket, name)


def _environment(settings: Settings) -> dict[str, str]:
    """A mark of the home goes along, by which `up` knows what a killed stack left behind.

    Who starts the stack is not who starts its runs.
    """
    mine = {STACK: str(settings.home), "EVERGREEN_USER": ""}
    return {**os.environ, **settings.child_environment(), **mine}


def _wait_for(settings: Settings, service: str, url: str) -> None:
    log = settings.home / "logs" / f"{service}.log"

    def trouble() -> str | None:
        try:
            status = client.get(url).status
        except EvergreenError as error:
            return f"{error}"
        return None if status == 200 else f"{url} answers {status}"

    try:
        _wait(trouble, START_SECONDS)
    except EvergreenError as error:
        raise EvergreenError(f"{service} does not come up: {error}; its log is {log}") from error


def _wait(trouble: Callable[[], str | None], seconds: float) -> None:
    """Until nothing is wrong.

    Raises:
        EvergreenError: with what is wrong still, when the time has run out.
    """
    deadline = time.monotonic() + seconds
    while (found := trouble()) is not None:
        if time.monotonic() > deadline:
            raise EvergreenError(found)
        time.sleep(0.2)
