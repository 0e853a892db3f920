"""What both clients send, how they read what comes back, and when they try again; no network here."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import tenacity

from visionops.client.answers import Answer, answer_of
from visionops.client.errors import ClientError, RequestRefused, ServerUnavailable
from visionops.client.images import ImageLike, encoded

__all__ = [
    "Call",
    "Retry",
    "TryAgain",
    "answers_in",
    "batch_call",
    "call_failed",
    "checked",
    "explain_call",
    "feedback_call",
    "options_of",
    "predict_call",
    "read_answer",
    "read_json",
]

_BUSY = {429, 502, 503, 504}
_BINARY = {"Content-Type": "application/octet-stream"}


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How long a client tries while nobody answers, or the server is busy (429, 502, 503, 504)."""

    seconds: float = 30.0
    """From the first try to the start of the last; 0: one try."""
    first_wait: float = 0.1
    """Seconds before the second try; each wait is twice as long as the one before, with jitter."""
    longest_wait: float = 5.0

    def arguments(self) -> dict[str, Any]:
        """Return what `tenacity` calls this; a server's ``Retry-After`` counts more than our own wait."""
        own = tenacity.wait_exponential_jitter(
            multiplier=self.first_wait, max=self.longest_wait, jitter=self.first_wait
        )

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(own(state), error.after if isinstance(error, TryAgain) else 0.0)

        return {
            "retry": tenacity.retry_if_exception_type((TryAgain, httpx.TransportError)),
            "stop": tenacity.stop_before_delay(self.seconds) if self.seconds else tenacity.stop_after_attempt(1),
            "wait": wait,
            "reraise": True,
        }


class TryAgain(Exception):
    """The server is busy; never leaves the client.

    Args:
        after: Seconds that it wants the client to wait.
    """

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(reason)
        self.after = after


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One request. Sent again it has the same id and key, so that nothing counts twice."""

    method: str
    path: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of httpx' ``request``."""


def options_of(model: str, options: Mapping[str, float | None]) -> dict[str, str | float]:
    """Return the parameters of a request, without those that are not given."""
    return {name: value for name, value in {"model": model or None, **options}.items() if value is not None}


def predict_call(image: ImageLike, parameters: Mapping[str, Any], source: str) -> Call:
    """Return the request of `/predict`."""
    headers = {**_BINARY, "X-Request-ID": uuid.uuid4().hex}
    if source:
        headers["X-Source"] = source
    return Call("POST", "/predict", {"content": encoded(image), "params": parameters, "headers": headers})


def batch_call(images: Sequence[ImageLike], parameters: Mapping[str, Any]) -> Call:
    """Return the request of `/predict/batch`."""
    files = [("files", (str(number), encoded(image))) for number, image in enumerate(images)]
    headers = {"X-Request-ID": uuid.uuid4().hex}
    return Call("POST", "/predict/batch", {"files": files, "params": parameters, "headers": headers})


def explain_call(image: ImageLike, parameters: Mapping[str, Any]) -> Call:
    """Return the request of `/explain`, for a picture."""
    headers = {**_BINARY, "Accept": "image/png"}
    return Call("POST", "/explain", {"content": encoded(image), "params": parameters, "headers": headers})


def feedback_call(request_id: str, label: Mapping[str, Any] | None, comment: str) -> Call:
    """Return the request of `/feedback` on an answer."""
    body = {"request_id": request_id, "label": label, "comment": comment}
    return Call("POST", "/feedback", {"json": body, "headers": {"Idempotency-Key": uuid.uuid4().hex}})


def checked(response: httpx.Response) -> httpx.Response:
    """Return a response that is no refusal.

    Raises:
        TryAgain: The server is busy.
        RequestRefused: It refuses the request.
    """
    if response.status_code < 400:
        return response
    try:
        problem = response.json()["error"]
        code, message = str(problem["code"]), str(problem["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "http", response.reason_phrase or "no reason given"
    if response.status_code in _BUSY:
        raise TryAgain(f"{message} ({response.status_code} {code})", _seconds(response.headers.get("Retry-After")))
    raise RequestRefused(response.status_code, code, message)


def read_json(response: httpx.Response) -> Any:
    """Return the body of an answer.

    Raises:
        ClientError: It is no JSON.
    """
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(f"{response.url}: the answer is no JSON; is this a VisionOps server?") from error


def read_answer(response: httpx.Response) -> Answer:
    """Return the answer of `/predict`.

    Raises:
        ClientError: It is none.
    """
    return _answer(read_json(response), response, response.headers.get("X-Request-ID", ""))


def answers_in(response: httpx.Response) -> list[Answer | RequestRefused]:
    """Return the answers of `/predict/batch`, in the order sent; an image that was refused is its error.

    Raises:
        ClientError: It is no such body.
    """
    request_id = response.headers.get("X-Request-ID", "")
    found: list[Answer | RequestRefused] = []
    for number, one in enumerate(read_json(response)["results"], start=1):
        if "error" in one:
            found.append(RequestRefused(422, one["error"]["code"], one["error"]["message"]))
        else:
            found.append(_answer(one, response, f"{request_id}/{number}"))
    return found


def call_failed(url: str, error: TryAgain | httpx.TransportError) -> ServerUnavailable:
    """Return what a client raises when its time is over."""
    reason = str(error) or type(error).__name__
    return ServerUnavailable(f"{url}: does not answer ({reason}); is the server running?")


def _answer(data: Any, response: httpx.Response, request_id: str) -> Answer:
    try:
        return answer_of(data, request_id)
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(f"{response.url}: the answer is no prediction; is this a VisionOps server?") from error


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() else 0.0
