"""The few requests to the Kubernetes API that a rollout needs, over `requests`.

The official client takes seconds to import; a rollback has none.
"""

import atexit
import base64
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
import yaml

from data.errors import EvergreenError

TIMEOUT = (2.0, 10.0)
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OTHERWISE = "run `kubectl proxy` and name its address in EVERGREEN_KUBERNETES_URL"


class ConflictError(EvergreenError):
    """The object has changed since it was read."""


class UnclearError(EvergreenError):
    """No answer, or an error of the server: whether it was done is not known."""


@dataclass(frozen=True)
class Api:
    """The Kubernetes API, and what lets this process in.

    Attributes:
        token: a file, for a token that is renewed, or the token itself.
        authority: a PEM file of the server's authority; None: those of the system.
        certificate: PEM files of a client's certificate and key.
    """

    url: str
    token: Path | str | None = field(default=None, repr=False)
    authority: Path | None = None
    certificate: tuple[Path, Path] | None = None

    @classmethod
    def find(cls, proxy: str | None, environment: Mapping[str, str] = os.environ) -> Self:
        """The API behind a `kubectl proxy`, of the cluster this runs in, or of the kubeconfig.

        Raises:
            EvergreenError: if there is none, or the kubeconfig logs in by a program.
        """
        if proxy:
            return cls(proxy.rstrip("/"))
        if host := environment.get("KUBERNETES_SERVICE_HOST"):
            port = environment.get("KUBERNETES_SERVICE_PORT", "443")
            name = f"[{host}]" if ":" in host else host
            return cls(f"https://{name}:{port}", ACCOUNT / "token", ACCOUNT / "ca.crt")
        return cls(**_kubeconfig(Path(environment.get("KUBECONFIG") or "~/.kube/config")))

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The object at a path, or a list of them."""
        return self._call("GET", path, params=query)

    def patch(self, path: str, change: Mapping[str, Any], kind: str = MERGE) -> dict[str, Any]:
        """The object as it is after a change.

        Raises:
            ConflictError: if `change` names another resourceVersion than the object has.
        """
        return self._call("PATCH", path, json=change, headers={"content-type": kind})

    def _call(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """One request.

        Raises:
            UnclearError: if the server does not answer, or fails.
            EvergreenError: if it refuses.
        """
        what = f"{method} {path} of the Kubernetes API at {self.url}"
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.authority) if self.authority else True
            if self.certificate:
                session.cert = str(self.certificate[0]), str(self.certificate[1])
            if token := self._token():
                session.headers["authorization"] = f"Bearer {token}"
            try:
                answer = session.request(method, f"{self.url}{path}", timeout=TIMEOUT, **given)
            except requests.RequestException as error:
                raise UnclearError(f"{what} is not answered ({type(error).__name__})") from error
        if answer.ok:
            return dict(answer.json())
        said = f"{what} is answered with {answer.status_code}: {_message(answer)}"
        if answer.status_code == 409:
            raise ConflictError(said)
        raise (UnclearError if answer.status_code >= 500 else EvergreenError)(said)

    def _token(self) -> str | None:
        return self.token.read_text().strip() if isinstance(self.token, Path) else self.token


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


def _kubeconfig(path: Path) -> dict[str, Any]:
    """What the current context of a kubeconfig says."""
    path = path.expanduser()
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
        if cluster.get("insecure-skip-tls-verify"):
            raise EvergreenError(f"{path} does not check the server's certificate: {OTHERWISE}")
        if "exec" in user or "auth-provider" in user:
            raise EvergreenError(f"{path} logs in by a program of its own: {OTHERWISE}")
        own = _pem(path, user, "client-certificate"), _pem(path, user, "client-key")
        return {
            "url": cluster["server"].rstrip("/"),
            "token": user.get("token") or (Path(f) if (f := user.get("tokenFile")) else None),
            "authority": _pem(path, cluster, "certificate-authority"),
            "certificate": own if all(own) else None,
        }
    except (
        OSError,
        LookupError,
        TypeError,
        AttributeError,
        StopIteration,
        yaml.YAMLError,
    ) as error:
        raise EvergreenError(
            f"{path} leads to no Kubernetes API ({error!r}): set KUBECONFIG, or {OTHERWISE}"
        ) from error


def _named(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    return dict(next(each for each in config[kind] if each["name"] == name))


def _pem(path: Path, entry: Mapping[str, str], name: str) -> Path | None:
    """A file of the kubeconfig, or its content as a file that only this user reads."""
    if found := entry.get(name):
        return path.parent / found
    if (content := entry.get(f"{name}-data")) is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="evergreen-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "pem").write_bytes(base64.b64decode(content))
    return folder / "pem"
