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
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is not meant for loopback
        try:
            response = session.request(
                method, url, json=body, headers=headers, timeout=(CONNECT_TIMEOUT, timeout)
            )
        except requests.RequestException as error:
            raise EvergreenError(f"{url} does not answer ({type(error).__name__})") from error
    try:
        return Reply(response.status_code, response.json())
    except ValueError:
        return Reply(response.status_code, None)
