"""Call the parts of Label Studio's REST API that are needed: signed requests, pages, and one-line errors.

Its SDK is not used: it brings pandas, OpenCV and NLTK for six requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from visionops.errors import one_line
from visionops.review.errors import Invalid, Unavailable

__all__ = ["LabelStudioApi"]

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 120.0
"""Timeout of an import in seconds: the server answers only after the tasks are in its database."""
_TRIES = 3
_PAGE = 100
_MOST_DETAIL = 300


class LabelStudioApi:
    """One Label Studio server with the account of a token.

    Args:
        url: URL of the server, such as ``https://label-studio.example``.
        token: A personal access token, or a legacy token.

    Raises:
        Invalid: The URL is malformed, holds a login, or the token is missing.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Invalid(f"Label Studio {url!r}: is not an http:// or https:// address; correct instance_url")
        if "@" in parts.netloc:
            raise Invalid("Label Studio: the address holds a login; remove it from instance_url")
        if not token:
            raise Invalid(
                f"Label Studio {url}: the token is missing; set VISIONOPS_LABEL_STUDIO_TOKEN and apply the stack"
            )
        self.url = url.rstrip("/")
        self._token = token
        # A personal access token is a JWT that is exchanged for tokens that expire soon; a legacy token signs requests
        # itself.
        self._is_personal = token.count(".") == 2
        self._access = ""
        self._session = requests.Session()
        retry = Retry(_TRIES, backoff_factor=0.2, status_forcelist=(502, 503, 504), allowed_methods=("GET",))
        self._session.mount("http://", HTTPAdapter(max_retries=retry))
        self._session.mount("https://", HTTPAdapter(max_retries=retry))

    def get(self, path: str, **parameters: str | int) -> Any:
        """Return the JSON of a GET.

        Raises:
            Unavailable: The server does not answer, or refuses the token.
            Invalid: It refuses the request.
        """
        return self._json("GET", path, params=parameters)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """Return the JSON of a POST; ``more`` as `requests.request` takes it. Errors as `get`."""
        return self._json("POST", path, json=body, **more)

    def patch(self, path: str, body: Any) -> Any:
        """Return the JSON of a PATCH. Errors as `get`."""
        return self._json("PATCH", path, json=body)

    def pages(self, path: str, key: str, total: str, **parameters: str | int) -> Iterator[dict[str, Any]]:
        """Yield the entries below ``key`` of all pages; ``total`` is the key of their number. Errors as `get`."""
        seen, page = 0, 1
        while True:
            found = self.get(path, page=page, page_size=_PAGE, **parameters)
            rows = found[key]
            yield from rows
            seen, page = seen + len(rows), page + 1
            # The server answers a page behind the last one with an error.
            if not rows or seen >= int(found[total]):
                return

    def _json(self, method: str, path: str, **more: Any) -> Any:
        answer = self._signed(method, path, **more)
        if answer.status_code == 401 and self._is_personal and self._access:
            self._access = ""  # the token has expired
            answer = self._signed(method, path, **more)
        self._check(answer, f"{method} {path}")
        try:
            return answer.json()
        except ValueError as error:
            raise self._strange(answer) from error

    def _signed(self, method: str, path: str, **more: Any) -> requests.Response:
        if self._is_personal and not self._access:
            bought = self._send("POST", "/api/token/refresh/", json={"refresh": self._token})
            self._check(bought, "POST /api/token/refresh/")
            try:
                self._access = str(bought.json()["access"])
            except (ValueError, KeyError, TypeError) as error:
                raise self._strange(bought) from error
        header = f"Bearer {self._access}" if self._is_personal else f"Token {self._token}"

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = header
            return request

        # Passed as `auth`, because ~/.netrc would otherwise replace the header.
        return self._send(method, path, auth=sign, **more)

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        try:
            return self._session.request(
                method, f"{self.url}{path}", allow_redirects=False, timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS), **more
            )
        except requests.RequestException as error:
            raise Unavailable(
                f"Label Studio {self.url}: does not answer ({type(error).__name__}); start it, or correct instance_url"
            ) from error

    def _check(self, answer: requests.Response, what: str) -> None:
        status = answer.status_code
        if answer.ok and not answer.is_redirect:
            return
        if answer.is_redirect:
            place = answer.headers.get("Location", "")
            raise Unavailable(
                one_line(f"Label Studio {self.url}: redirects to {place}; set instance_url to that server")
            )
        if status in {401, 403}:
            raise Unavailable(
                f"Label Studio {self.url}: refuses the token ({status}); copy a token from Account & Settings, set "
                "VISIONOPS_LABEL_STUDIO_TOKEN and apply the stack"
            )
        detail = one_line(" ".join(_detail(answer).split()))[:_MOST_DETAIL]
        if status >= 500 or status == 429:
            raise Unavailable(f"Label Studio {self.url}: {what} failed ({status} {detail}); see its log, try again")
        raise Invalid(f"Label Studio {self.url}: refuses {what} ({status} {detail})")

    def _strange(self, answer: requests.Response) -> Unavailable:
        return Unavailable(
            f"Label Studio {self.url}: its answer is not from Label Studio ({answer.status_code}); correct instance_url"
        )


def _detail(answer: requests.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text
    if not isinstance(body, Mapping):
        return str(body)
    return str(body.get("validation_errors") or body.get("detail") or body)
