"""Commands as forks of one interpreter that has the libraries already.

To import Prefect, MLflow and XGBoost takes a command most of its seconds. What is the checkout's
own each fork imports for itself, as it is on disk by then, and in the command's own order.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "alembic.command", "dvc.repo", "jinja2", "matplotlib.pyplot", "mlflow.data",
    "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
    "model_signing.signing", "onnxmltools", "onnxruntime", "optuna", "pandera.pandas",
    "prefect.artifacts", "prefect.automations", "prefect.cli.deploy",
    "prefect.client.orchestration", "prefect.input", "prefect.runner", "prefect.workers.process",
    "rich.markdown", "rich.progress", "ruamel.yaml", "sklearn.compose", "sklearn.ensemble",
    "sklearn.linear_model", "sklearn.metrics", "sqlalchemy.dialects.sqlite", "supervisor.xmlrpc",
    "typer", "xgboost",
)  # fmt: skip
OURS = ("bento", "data", "flows", "models")


class Warm:
    """`run` is as `subprocess.run` of `python -m` in this checkout."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.environment: dict[str, str] = {}  # in which the libraries were imported
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, *arguments: str, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        if self._server is None or self.environment != environment:
            self.close()
            self._start(environment)
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
            with theirs:
                given = [theirs.fileno(), out.fileno(), error.fileno()]
                socket.send_fds(self._control, [json.dumps(arguments).encode()], given)
            ours.settimeout(timeout)
            with ours.makefile() as said:
                pid = int(said.readline())
                try:
                    code = int(said.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise
            for file in (out, error):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), error.read())

    def close(self) -> None:
        """No more commands; what was started by one goes on."""
        if self._server is not None:
            self._control.close()
            self._server.wait()

    def _start(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.warm", str(theirs.fileno())],
                cwd=self.checkout,
                env=self.environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )


def _import() -> None:
    """The libraries, told what the command line tells them before it imports any."""
    from flows.settings import Settings

    told = dict(os.environ)
    os.environ.update(Settings.read(os.environ).child_environment())
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    for name in LIBRARIES:
        import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(told)


def _serve(control: socket.socket) -> None:
    """Fork once for each command, until there is nobody who could send one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, given, _, _ = socket.recv_fds(control, 65536, 3)
        if not message:
            os._exit(0)  # at once: nothing here is worth a tidy end
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _command(json.loads(message), *given)
        for each in given:
            os.close(each)


def _command(arguments: list[str], answer: int, out: int, error: int) -> None:
    """Fork the command itself, and tell its number and its end."""
    pid = os.fork()
    if pid:
        os.write(answer, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(error, 2)
    for each in (answer, out, error):
        os.close(each)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        END.code = 0
    except SystemExit as ended:
        END.code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise


class End:
    """The last thing that a command does: it leaves, and takes no library apart."""

    code = 1

    def __call__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


END = End()

if __name__ == "__main__":
    atexit.register(END)  # before any library's own, which are called in turn from the last
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _import()
        gc.freeze()  # a fork that collects them copies them
        _serve(given)
