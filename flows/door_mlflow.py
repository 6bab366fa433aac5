"""Who may do what at MLflow's server, which asks this module at each request.

MLflow itself lets everybody read and nobody change what is not theirs (`sign-in.ini`); operators
are granted runs and experiments here. Versions and aliases are moved by the installation alone,
which writes to the database and not through this server: nobody promotes behind the ledger's back.
"""

import os
import re
import secrets
from functools import lru_cache

from flask import Response, request
from mlflow.exceptions import MlflowException
from werkzeug.datastructures import Authorization

from flows import access
from flows.access import Role
from flows.door import CHALLENGE, NOT_KNOWN, Doorkeeper
from flows.settings import Settings

API = r"/(ajax-)?api/\d\.\d/mlflow"
READS = re.compile(
    f"{API}/(runs|experiments|logged-models|traces|registered-models|model-versions)/search"
    f"|{API}/experiments/search-datasets|(/(ajax-)?api/\\d\\.\\d/mlflow)?/graphql"
)
# What somebody works out in a notebook, and remarks on what is there. No experiments: who made one
# would name the folder of its files.
NOTES = re.compile(
    f"{API}/(runs/(create|update|set-tag|delete-tag|log-[a-z]+)|experiments/set-experiment-tag)"
)
ACCOUNTS = re.compile(r".*/(users|roles)/.*|/signup")
GRANTED = ("experiment", "run")


def needed(method: str, path: str) -> Role | None:
    """The role that a request takes; None if no person may make it."""
    if ACCOUNTS.fullmatch(path):
        return Role.VIEWER if path.endswith("/users/current") and method == "GET" else None
    if method in ("GET", "HEAD", "OPTIONS"):
        return Role.VIEWER
    if method == "POST" and READS.fullmatch(path):
        return Role.VIEWER
    return Role.OPERATOR if method in ("POST", "PATCH") and NOTES.fullmatch(path) else None


def authorize() -> Authorization | Response:
    """Who asks, as MLflow wants to know it; a refusal says the role that is needed."""
    user = _keeper().user(request.headers.get("authorization", ""))
    if user is None:
        return Response(f"{NOT_KNOWN}\n", 401, CHALLENGE)
    wanted, what = needed(request.method, request.path), f"{request.method} {request.path}"
    if said := access.refusal(user.name, user.role, wanted, what):
        return Response(f"{said}\n", 403)
    _register(user.name, user.role)
    return Authorization("basic", {"username": user.name, "password": ""})


@lru_cache(maxsize=1)
def _keeper() -> Doorkeeper:
    return Doorkeeper.of(Settings.read(os.environ))


@lru_cache(maxsize=4096)
def _register(name: str, role: Role) -> None:
    """Have MLflow know somebody, by a password that nobody does, with what their role grants."""
    from mlflow.server.auth import store

    if not store.has_user(name):
        store.create_user(name, secrets.token_urlsafe(32))
    if role.includes(Role.OPERATOR):
        for kind in GRANTED:
            _grant(name, kind)


def _grant(name: str, kind: str) -> None:
    from mlflow.server.auth import store

    try:
        store.grant_user_resource_permission(name, kind, "*", "EDIT")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
