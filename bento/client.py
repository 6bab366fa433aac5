"""The one place that talks HTTP: timeouts on everything, and errors that a person can read."""

from dataclasses import dataclass
from typing import Any

import requests

from data.errors import EvergreenError

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 10.0


@dataclass(frozen=True)
class Reply:
    """Status and decoded JSON body; `value` is None where the body is not JSON."""

    status: int
    value: Any


def get(url: str, headers: dict[str, str] | None = None) -> Reply:
    """GET; see `call`."""
    return call("GET", url, headers=headers)


def text(url: str) -> str:
    """The body of a GET as it is, such as a page of metrics.

    Raises:
        EvergreenError: if nobody answers, or not with 200.
    """
    response = _send("GET", url, None, None, READ_TIMEOUT)
    if response.status_code != 200:
        raise EvergreenError(f"{url} answers {response.status_code}")
    return response.text


def call(
    method: str,
    url: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout: float = READ_TIMEOUT,
) -> Reply:
    """One request on a fresh connection, so that the gateway chooses the server anew.

    Args:
        body: sent as JSON unless None.
        timeout: seconds to wait for the answer.

    Raises:
        EvergreenError: if nobody answers.
    """
    response = _send(method, url, body, headers, timeout)
    try:
        return Reply(response.status_code, response.json())
    except ValueError:
        return Reply(response.status_code, None)


def _send(
    method: str, url: str, body: Any, headers: dict[str, str] | None, timeout: float
) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is not meant for loopback
        try:
            return session.request(
                method, url, json=body, headers=headers, timeout=(CONNECT_TIMEOUT, timeout)
            )
        except requests.RequestException as error:
            raise EvergreenError(f"{url} does not answer ({type(error).__name__})") from error
