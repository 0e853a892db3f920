"""The client for code without asyncio."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx
import tenacity

from visionops.client import calls
from visionops.client.answers import Answer
from visionops.client.calls import Call, Retry, TryAgain
from visionops.client.errors import RequestRefused
from visionops.client.images import ImageLike

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Client"]


class Client:
    """A connection to a prediction server. Safe to use from several threads.

    Every method raises `RequestRefused` where the server refuses the request, and `ServerUnavailable` where nobody
    answers for as long as ``retry`` says.

    Args:
        url: Of the server, as ``http://127.0.0.1:8000``.
        key: API key, where the server wants one.
        timeout: Seconds for one try.
        retry: How long to try.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 30.0, retry: Retry | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        self._retrying = tenacity.Retrying(**(retry or Retry()).arguments())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        image: ImageLike,
        *,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
        source: str = "",
    ) -> Answer:
        """Return what the model says of an image.

        Args:
            image: A path, the bytes of a file, an RGB array of uint8 (height, width, 3), or Pillow's image.
            conf: Of a detector: lowest confidence of a box, 0 to 1.
            iou: Of a detector: overlap above which the weaker of two boxes of a class goes, 0 to 1.
            model: Name of the model; the server's default when empty.
            source: Camera or line, which the server's log keeps.

        Raises:
            ClientError: The file cannot be read, or the array is no image.
        """
        parameters = calls.options_of(model, {"conf": conf, "iou": iou})
        return calls.read_answer(self._send(calls.predict_call(image, parameters, source)))

    def predict_batch(
        self, images: Sequence[ImageLike], *, conf: float | None = None, iou: float | None = None, model: str = ""
    ) -> list[Answer | RequestRefused]:
        """Return the answers for several images, in their order; one that the server refused is its error."""
        parameters = calls.options_of(model, {"conf": conf, "iou": iou})
        return calls.answers_in(self._send(calls.batch_call(images, parameters)))

    def explain(self, image: ImageLike, *, grid: int | None = None, model: str = "") -> Image.Image:
        """Return a picture of where the answer comes from; it takes as long as ``grid`` x ``grid`` answers."""
        from PIL import Image

        response = self._send(calls.explain_call(image, calls.options_of(model, {"grid": grid})))
        return Image.open(io.BytesIO(response.content))

    def feedback(
        self, answer: Answer | str, *, label: Mapping[str, Any] | None = None, comment: str = ""
    ) -> Mapping[str, Any]:
        """Say that an answer is wrong, or what is right; it becomes an item of the review.

        Args:
            answer: The answer, or its request id.
            label: What is right, in the form of the task.
        """
        request_id = answer if isinstance(answer, str) else answer.request_id
        found: Mapping[str, Any] = calls.read_json(self._send(calls.feedback_call(request_id, label, comment)))
        return found

    def model(self, name: str = "") -> Mapping[str, Any]:
        """Return the card of the model that answers: task, classes, metrics, version."""
        found: Mapping[str, Any] = calls.read_json(
            self._send(Call("GET", "/model", {"params": calls.options_of(name, {})}))
        )
        return found

    def is_ready(self) -> bool:
        """Return whether the server has a model to answer with; asks once."""
        try:
            return self._http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _send(self, call: Call) -> httpx.Response:
        def attempt() -> httpx.Response:
            return calls.checked(self._http.request(call.method, call.path, **call.arguments))

        try:
            return self._retrying(attempt)
        except (TryAgain, httpx.TransportError) as error:
            raise calls.call_failed(self.url, error) from error
