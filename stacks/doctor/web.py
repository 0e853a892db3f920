"""One request, and in words why there is no answer."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from visionops.errors import StackError

__all__ = ["NO_ANSWER_SECONDS", "ask", "no_answer"]

NO_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 3.0
_WORDS = {
    "resolve": "nobody knows this name",
    "resolution": "nobody knows this name",
    "name or service": "nobody knows this name",
    "refused": "connection refused",
    "unreachable": "no way to it",
    "no route": "no way to it",
    "certificate": "its certificate is not trusted",
    "wrong_version": "it speaks plain HTTP",
    "wrong version": "it speaks plain HTTP",
    "record layer": "it speaks plain HTTP",
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
    """What the server answers, whatever its status.

    Raises:
        StackError: It does not; why.
    """
    try:
        with requests.Session() as session:
            session.trust_env = login is None and not headers  # else ~/.netrc would speak for who is asked about
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
    """Why a server did not answer, in a few words."""
    text = str(error).lower()
    return next((words for mark, words in _WORDS.items() if mark in text), type(error).__name__)
