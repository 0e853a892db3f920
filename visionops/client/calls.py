"""Build the requests of both clients, read their answers, and decide on retries; without network access."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
import tenacity

from visionops.client.answers import Answer, answer_of
from visionops.client.errors import ClientError, RequestRefused, ServerUnavailable
from visionops.monitoring.sources import is_source

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Call",
    "Retry",
    "TryAgain",
    "checked",
    "connection",
    "explain",
    "feedback",
    "get",
    "is_yes",
    "not_answered",
    "post",
    "predict",
    "predict_batch",
    "retries_exhausted",
]

_BUSY = {429, 502, 503, 504}
_BINARY = {"Content-Type": "application/octet-stream"}
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_CONNECTING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Errors that occur before the server has received any of the request."""
_Read = TypeVar("_Read")
Parameters = Mapping[str, str | float | None]
"""Query parameters of a request; those that are None are not sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How long a client retries while the server does not answer or is busy (429, 502, 503, 504)."""

    seconds: float = 30.0
    """Seconds from the first try to the start of the last; 0 for a single try."""
    first_wait: float = 0.1
    """Seconds before the second try; each wait is twice as long as the one before, with jitter."""
    longest_wait: float = 5.0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `tenacity.Retrying`; a longer ``Retry-After`` of the server replaces our wait."""
        own = tenacity.wait_exponential_jitter(
            multiplier=self.first_wait, max=self.longest_wait, jitter=self.first_wait
        )

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(own(state), error.after if isinstance(error, TryAgain) else 0.0)

        return {
            "retry": tenacity.retry_if_exception_type(TryAgain),
            "stop": tenacity.stop_before_delay(self.seconds) if self.seconds else tenacity.stop_after_attempt(1),
            "wait": wait,
            "reraise": True,
        }


class TryAgain(Exception):
    """The server does not answer or is busy. This error never leaves the client.

    Args:
        after: Seconds to wait, from the server.
        status: HTTP status of the answer, None where there is none.
    """

    def __init__(self, reason: str, after: float = 0.0, status: int | None = None, code: str = "") -> None:
        super().__init__(reason)
        self.after = after
        self.status = status
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[_Read]):
    """A request with the function that reads its answer."""

    method: str
    path: str
    read: Callable[[httpx.Response], _Read]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of httpx's ``request``."""
    is_repeatable: bool = True
    """Whether the server may process it twice; if not, it is repeated only where the server has not begun it."""


def connection(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Return the arguments of an httpx client.

    Raises:
        ClientError: The address or the key is not valid.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ClientError(f"url {url!r}: is not an address ({error}); expected http://HOST:PORT") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ClientError(f"url {url!r}: expected http://HOST:PORT or https://HOST")
    if key and not (key.isascii() and key.isprintable()):
        raise ClientError("key: has characters that no API key has; a line break or a quotation mark may be part of it")
    return {"base_url": url.rstrip("/"), "headers": {"X-API-Key": key} if key else {}, "timeout": timeout}


# ---- requests


def predict(image: bytes, parameters: Parameters, source: str) -> Call[Answer]:
    """Return the request of `/predict`."""
    headers = {**_BINARY, **_named(source)}
    return Call("POST", "/predict", _read_answer, _sent(parameters, content=image, headers=headers))


def predict_batch(images: Sequence[bytes], parameters: Parameters, source: str) -> Call[list[Answer | RequestRefused]]:
    """Return the request of `/predict/batch`."""
    files = [("files", (str(number), image)) for number, image in enumerate(images)]
    return Call("POST", "/predict/batch", _read_answers, _sent(parameters, files=files, headers=_named(source)))


def explain(image: bytes, parameters: Parameters) -> Call[Image.Image]:
    """Return the request of `/explain` for a picture."""
    headers = {**_BINARY, "Accept": "image/png"}
    return Call("POST", "/explain", _read_picture, _sent(parameters, content=image, headers=headers))


def feedback(
    about: Answer | str | bytes, name: str, label: Mapping[str, Any] | None, comment: str, key: str, model: str
) -> Call[Mapping[str, Any]]:
    """Return the request of `/feedback` about an answer, or about an image with the name of its file.

    Raises:
        ClientError: The label is not JSON.
    """
    fields: dict[str, Any] = {"comment": comment, "key": key or uuid.uuid4().hex}
    try:
        said = None if label is None else json.dumps(label, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ClientError(f"label: is not JSON ({error})") from error
    sent: dict[str, Any]
    if isinstance(about, bytes):
        sent = {"files": {"file": (name, about)}, "data": fields if said is None else {"label": said, **fields}}
    else:
        request_id = about.request_id if isinstance(about, Answer) else about
        sent = {"json": {"request_id": request_id, "label": label, **fields}}
    return Call("POST", "/feedback", read_json, _sent({"model": model}, **sent))


def get(path: str, parameters: Parameters | None = None) -> Call[Any]:
    """Return a request for JSON."""
    return Call("GET", path, read_json, _sent(parameters or {}))


def post(path: str, body: Mapping[str, Any]) -> Call[Any]:
    """Return a request that changes the server and is not sent twice."""
    return Call("POST", path, read_json, {"json": body}, is_repeatable=False)


def _sent(parameters: Parameters, **arguments: Any) -> dict[str, Any]:
    return {"params": {name: value for name, value in parameters.items() if value not in {None, ""}}, **arguments}


def _named(source: str) -> dict[str, str]:
    """Return the headers that identify a prediction: a repeated request has the same id."""
    if source and not is_source(source):
        raise ClientError(
            f"source {source!r}: expected 1 to 64 letters, digits, dots, dashes and underscores, "
            "the first a letter or a digit"
        )
    return {"X-Request-ID": uuid.uuid4().hex} | ({"X-Source": source} if source else {})


# ---- answers


def checked(response: httpx.Response) -> httpx.Response:
    """Return a response that is not an error.

    Raises:
        TryAgain: The server is busy.
        RequestRefused: The server refuses the request.
    """
    if response.status_code < 400:
        return response
    try:
        problem = response.json()["error"]
        code, message = str(problem["code"]), str(problem["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "http", response.reason_phrase or "no reason given"
    if response.status_code in _BUSY:
        after = _seconds(response.headers.get("Retry-After"))
        raise TryAgain(f"{message} ({response.status_code} {code})", after, response.status_code, code)
    raise RequestRefused(response.status_code, code, message)


def is_yes(response: httpx.Response) -> bool:
    """Return whether a probe succeeds; False where the server is busy or has no model.

    Raises:
        RequestRefused: The server refuses the request.
    """
    try:
        return checked(response).status_code == 200
    except TryAgain:
        return False


def not_answered(call: Call[Any], url: str, error: httpx.RequestError) -> TryAgain | ClientError:
    """Return the error for a request without an answer."""
    reason = _ERRNO.sub("", str(error)) or type(error).__name__
    if not isinstance(error, httpx.TransportError) or isinstance(error, httpx.LocalProtocolError):
        return ClientError(f"{url}{call.path}: the request or its answer is not valid HTTP ({reason})")
    if call.is_repeatable or isinstance(error, _CONNECTING):
        return TryAgain(reason)
    return ServerUnavailable(
        f"{url}{call.path}: no answer ({reason}); whether the server has done it is unknown: see Client.models()"
    )


def retries_exhausted(url: str, last: TryAgain) -> ServerUnavailable:
    """Return the error of a client whose retries are over."""
    if last.status is None:
        return ServerUnavailable(f"{url}: does not answer ({last}); is the server running?")
    return ServerUnavailable(f"{url}: {last}", last.status, last.code)


def read_json(response: httpx.Response) -> Any:
    """Return the body of an answer.

    Raises:
        ClientError: It is not JSON.
    """
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(f"{response.url}: the answer is not JSON; is this a VisionOps server?") from error


def _read_answer(response: httpx.Response) -> Answer:
    return _answer(read_json(response), response, response.headers.get("X-Request-ID", ""))


def _read_answers(response: httpx.Response) -> list[Answer | RequestRefused]:
    request_id = response.headers.get("X-Request-ID", "")
    body = read_json(response)
    try:
        results = enumerate(body["results"], start=1)
        return [
            RequestRefused(None, one["error"]["code"], one["error"]["message"])
            if "error" in one
            else _answer(one, response, f"{request_id}/{number}")
            for number, one in results
        ]
    except (KeyError, TypeError) as error:
        raise _foreign(response) from error


def _answer(data: Any, response: httpx.Response, request_id: str) -> Answer:
    try:
        return answer_of(data, request_id)
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(response) from error


def _read_picture(response: httpx.Response) -> Image.Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(response.content))
    except OSError as error:
        raise _foreign(response) from error


def _foreign(response: httpx.Response) -> ClientError:
    path = response.url.path
    return ClientError(f"{response.url}: the answer is not one of {path}; is this a VisionOps server?")


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() else 0.0
