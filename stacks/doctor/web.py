"""Send one HTTP request and explain in a few words why it failed."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from visionops.errors import StackError

__all__ = ["NO_ANSWER_SECONDS", "ask", "no_answer"]

NO_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 3.0
_WORDS = {
    "resolve": "unknown host name",
    "resolution": "unknown host name",
    "name or service": "unknown host name",
    "refused": "connection refused",
    "unreachable": "network unreachable",
    "no route": "network unreachable",
    "certificate": "its certificate is not trusted",
    "wrong_version": "it uses plain HTTP",
    "wrong version": "it uses plain HTTP",
    "record layer": "it uses plain HTTP",
    "timed out": f"no answer in {NO_ANSWER_SECONDS:.0f} s",
    "timeout": f"no answer in {NO_ANSWER_SECONDS:.0f} s",
}


def ask(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
    parameters: Mapping[str, str | int] | None = None,
    verify: bool = True,
) -> requests.Response:
    """Return the server's answer, whatever its status.

    Raises:
        StackError: The server does not answer; the message is the reason.
    """
    try:
        with requests.Session() as session:
            session.trust_env = login is None and not headers  # else ~/.netrc would replace the login under test
            return session.request(
                method,
                url,
                headers=dict(headers or {}),
                auth=login,
                params=dict(parameters or {}),
                verify=verify,
                timeout=(_CONNECT_SECONDS, NO_ANSWER_SECONDS),
            )
    except requests.RequestException as error:
        raise StackError(no_answer(error)) from error


def no_answer(error: Exception) -> str:
    """Return in a few words why a server did not answer."""
    text = str(error).lower()
    return next((words for mark, words in _WORDS.items() if mark in text), type(error).__name__)
