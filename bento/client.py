"""The one place that talks HTTP: timeouts on everything, and errors that a person can read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from bento import tls
from data.errors import EvergreenError

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 10.0


@dataclass(frozen=True)
class Reply:
    """Status and decoded JSON body; `value` is None where the body is not JSON."""

    status: int
    value: Any


class _Pinned(HTTPAdapter):
    """Takes exactly one certificate, whatever name or address it was issued for."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"assert_fingerprint": self._fingerprint, "assert_hostname": False}
        super().init_poolmanager(*args, **kwargs)


@dataclass(frozen=True)
class Door:
    """An address, and what opens it.

    Attributes:
        url: without a path.
        key: sent along, if there is one.
        certificate: a PEM file; the other side has to show the first certificate in it.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    certificate: Path | None = None

    def session(self) -> requests.Session:
        """Connections to this address."""
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment is not meant for loopback
        if self.key is not None:
            session.headers["authorization"] = f"Bearer {self.key}"
        if self.certificate is not None:
            # Which authority signed it does not matter: it has to be this very certificate.
            session.verify = False
            session.mount("https://", _Pinned(tls.fingerprint(self.certificate)))
        return session

    def get(self, path: str = "", headers: dict[str, str] | None = None) -> Reply:
        """GET; see `call`."""
        return self.call("GET", path, headers=headers)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Reply:
        """One request on a fresh connection, so that the gateway chooses the server anew.

        Args:
            body: sent as JSON unless None.
            timeout: seconds to wait for the answer.

        Raises:
            EvergreenError: if nobody answers, or with another certificate.
        """
        response = self._send(method, path, body, headers, timeout)
        try:
            return Reply(response.status_code, response.json())
        except ValueError:
            return Reply(response.status_code, None)

    def text(self, path: str = "") -> str:
        """The body of a GET as it is, such as a page of metrics.

        Raises:
            EvergreenError: if nobody answers, or not with 200.
        """
        response = self._send("GET", path, None, None, READ_TIMEOUT)
        if response.status_code != 200:
            raise EvergreenError(f"{self.url}{path} answers {response.status_code}")
        return response.text

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str] | None,
        timeout: float,
    ) -> requests.Response:
        url = f"{self.url}{path}"
        with self.session() as session:
            try:
                return session.request(
                    method, url, json=body, headers=headers, timeout=(CONNECT_TIMEOUT, timeout)
                )
            except requests.exceptions.SSLError as error:
                raise EvergreenError(
                    f"{url} does not show the certificate in {self.certificate}: if that was "
                    "renewed, `evergreen reload`"
                ) from error
            except requests.RequestException as error:
                raise EvergreenError(f"{url} does not answer ({type(error).__name__})") from error


def get(url: str) -> Reply:
    """GET where nothing is locked; see `Door.call`."""
    return Door(url).get()
