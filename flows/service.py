"""The installation's own secret, by which its parts trust each other; people never get it.

It is EVERGREEN_SERVICE_SECRET, or made at the first `up` in a file that only its owner reads. What
a part is told is derived from it, so that none can be used in the place of another.
"""

import hashlib
import hmac
import os
import runpy
import secrets
import sys
from pathlib import Path

from data.digests import write_atomically
from data.errors import EvergreenError, stop_on_error
from flows.settings import Settings

SECRET, VARIABLE = "keys/service.key", "EVERGREEN_SERVICE_SECRET"
SHORTEST = 32
PREFECT_SECRETS = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")
MLFLOW_CONFIGURATION = "mlflow/sign-in.ini"
MLFLOW_USERS = "mlflow/users.db"


def make(settings: Settings) -> None:
    """Where people sign in, have a secret, tell it this process, and MLflow who lets them in."""
    if not settings.sign_in:
        return
    if not known(settings):
        write_atomically(settings.root / SECRET, secrets.token_urlsafe(32), mode=0o600)
    (settings.home / MLFLOW_USERS).parent.mkdir(parents=True, exist_ok=True)
    (settings.home / MLFLOW_USERS).touch(mode=0o600)
    write_atomically(
        settings.home / MLFLOW_CONFIGURATION,
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{settings.home / MLFLOW_USERS}\n"
        "admin_username = installation\n"
        "authorization_function = flows.door_mlflow:authorize\n",
        mode=0o600,
    )
    tell(settings, "prefect")


def without(environment: dict[str, str]) -> dict[str, str]:
    """What every program may know; those that need a secret take it themselves, see `launched`."""
    return {name: value for name, value in environment.items() if name not in PREFECT_SECRETS}


def known(settings: Settings) -> bool:
    """Whether there is a secret: before the first `up` there is nothing that would ask for it."""
    return bool(os.environ.get(VARIABLE)) or (settings.root / SECRET).exists()


def derived(settings: Settings, purpose: str) -> str:
    """What one part is told.

    Raises:
        EvergreenError: if there is no secret, or it is too short to be one.
    """
    path = settings.root / SECRET
    try:
        secret = os.environ.get(VARIABLE) or path.read_text()
    except OSError as error:
        raise EvergreenError(
            f"{path} cannot be read ({type(error).__name__}), but sign-in is on: `evergreen up` "
            f"makes it, its owner reads it, and {VARIABLE} stands in for it"
        ) from error
    if len(secret) < SHORTEST:
        raise EvergreenError(f"the service secret has under {SHORTEST} characters: make it longer")
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def prefect(settings: Settings) -> str:
    """The one secret of Prefect's whole API."""
    return f"installation:{derived(settings, 'prefect')}"


def reading(settings: Settings) -> str | None:
    """What the board and `status` ask Prefect and MLflow with; None where nobody signs in."""
    return derived(settings, "reading") if settings.sign_in and known(settings) else None


def launched(settings: Settings, arguments: list[str]) -> list[str]:
    """`-m MODULE …` of a program, which is told its secrets where people sign in."""
    if not settings.sign_in:
        return arguments
    return ["-m", "flows.service", *arguments[1:]]


def prefect_server(settings: Settings, arguments: list[str]) -> list[str]:
    """The server, with our door in front where people sign in."""
    if not settings.sign_in:
        return ["-m", "prefect", *arguments]
    return ["-m", "flows.service", "flows.door_prefect"]


def mlflow_server(settings: Settings, arguments: list[str]) -> list[str]:
    """The server, with sign-in where it is on."""
    asks = ["--app-name", "basic-auth"] if settings.sign_in else []
    return launched(settings, ["-m", "mlflow", *arguments, *asks])


def tell(settings: Settings, program: str) -> None:
    """Put what a program needs into this process's environment: in no file, in no argument."""
    if program == "mlflow":
        told = {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings.home / MLFLOW_CONFIGURATION),
            "MLFLOW_AUTH_ADMIN_PASSWORD": derived(settings, "mlflow admin"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": derived(settings, "mlflow forms"),
            "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        }
    else:
        told = {"PREFECT_API_AUTH_STRING": prefect(settings)}
        if program == "flows.door_prefect":
            told["PREFECT_SERVER_API_AUTH_STRING"] = prefect(settings)
    os.environ.update(told)


def main() -> None:
    """Become the program that the arguments name."""
    program, *rest = sys.argv[1:]
    tell(Settings.read(os.environ), program)
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [program, *rest]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    stop_on_error(main)
