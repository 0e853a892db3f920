"""Synchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import tenacity

from visionops.client import calls
from visionops.client.answers import Answer
from visionops.client.calls import Call, Retry, TryAgain
from visionops.client.errors import RequestRefused
from visionops.client.images import ImageLike, encoded, name_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Client"]

_Read = TypeVar("_Read")


class Client:
    """Connection to a prediction server. Safe to use from several threads.

    Every method raises `RequestRefused` where the server refuses the request, `ServerUnavailable` where it does not
    answer within the time of ``retry``, and `ClientError` where the request cannot be made.

    Args:
        url: Address of the server, such as ``http://127.0.0.1:8000``.
        key: API key, where the server requires one.
        timeout: Seconds for one try.
        retry: How long to retry.

    Raises:
        ClientError: The address or the key is not valid.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 30.0, retry: Retry | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(**calls.connection(url, key, timeout))
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
        """Return the model's answer for an image.

        Args:
            image: A path, the bytes of a file, an RGB array of uint8 (height, width, 3), or a Pillow image.
            conf: Lowest confidence of a detector's box, 0 to 1.
            iou: Overlap above which a detector drops the weaker of two boxes of a class, 0 to 1.
            model: Name of the model; the server's default when empty.
            source: Camera or line, for the server's log.
        """
        parameters = {"model": model, "conf": conf, "iou": iou}
        return self._send(calls.predict(encoded(image), parameters, source))

    def predict_batch(
        self,
        images: Sequence[ImageLike],
        *,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
        source: str = "",
    ) -> list[Answer | RequestRefused]:
        """Return the answers for several images, in order, with an error for each image that the server refuses."""
        if not images:
            return []
        parameters = {"model": model, "conf": conf, "iou": iou}
        return self._send(calls.predict_batch([encoded(image) for image in images], parameters, source))

    def explain(
        self,
        image: ImageLike,
        *,
        grid: int | None = None,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
    ) -> Image.Image:
        """Return a picture of the image parts that matter for an answer; as slow as ``grid`` x ``grid`` answers."""
        parameters = {"model": model, "grid": grid, "conf": conf, "iou": iou}
        return self._send(calls.explain(encoded(image), parameters))

    def feedback(
        self, answer: Answer | str, *, label: Mapping[str, Any] | None = None, comment: str = "", key: str = ""
    ) -> Mapping[str, Any]:
        """Send feedback on an answer; it becomes an item of the review.

        Args:
            answer: The answer, or its request id.
            label: The correct answer, in the form of the task.
            key: Idempotency key: the server stores feedback with the same key once. Generated when empty.
        """
        return self._send(calls.feedback(answer, "", label, comment, key, ""))

    def feedback_on_image(
        self,
        image: ImageLike,
        *,
        label: Mapping[str, Any] | None = None,
        comment: str = "",
        key: str = "",
        model: str = "",
    ) -> Mapping[str, Any]:
        """Send an image with its correct label, as `feedback` does where the server has stored the image."""
        return self._send(calls.feedback(encoded(image), name_of(image), label, comment, key, model))

    def model(self, name: str = "") -> Mapping[str, Any]:
        """Return the card of the model that answers: task, classes, metrics, version."""
        card: Mapping[str, Any] = self._send(calls.get("/model", {"model": name}))
        return card

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return all model names with their roles, and why the last one did not load."""
        names: Sequence[Mapping[str, Any]] = self._send(calls.get("/models"))
        return names

    def release(self, name: str = "") -> Mapping[str, Any]:
        """Return how the candidate of a release compares with the champion."""
        report: Mapping[str, Any] = self._send(calls.get("/release", {"model": name}))
        return report

    def reload(self, placement: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load a model into its role, with an admin key. Not repeated where the answer is lost.

        Args:
            placement: Body of `/reload`: ``name``, ``version`` and ``bundle``, and for a canary or a shadow ``role``.
        """
        card: Mapping[str, Any] = self._send(calls.post("/reload", placement))
        return card

    def unload(self, name: str, role: str = "champion") -> Sequence[Mapping[str, Any]]:
        """Remove a model from its role, with an admin key, and return the remaining ones. Not repeated, as `reload`."""
        names: Sequence[Mapping[str, Any]] = self._send(calls.post("/unload", {"name": name, "role": role}))
        return names

    def is_live(self) -> bool:
        """Return whether the server answers at all, in one try."""
        return self._probe("/health")

    def is_ready(self, model: str = "") -> bool:
        """Return whether a model can answer, in one try."""
        return self._probe("/ready", {"model": model} if model else {})

    def _probe(self, path: str, parameters: Mapping[str, str] | None = None) -> bool:
        try:
            return calls.is_yes(self._http.get(path, params=parameters))
        except httpx.TransportError:
            return False

    def _send(self, call: Call[_Read]) -> _Read:
        def attempt() -> httpx.Response:
            try:
                response = self._http.request(call.method, call.path, **call.arguments)
            except httpx.RequestError as error:
                raise calls.not_answered(call, self.url, error) from error
            return calls.checked(response)

        try:
            response = self._retrying(attempt)
        except TryAgain as error:
            raise calls.retries_exhausted(self.url, error) from error
        return call.read(response)
