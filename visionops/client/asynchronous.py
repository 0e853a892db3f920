"""Asyncio client: the methods of `Client`, to await."""

from __future__ import annotations

import asyncio
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

__all__ = ["AsyncClient"]

_Read = TypeVar("_Read")


class AsyncClient:
    """Connection to a prediction server, with the methods and arguments of `Client`.

    Use it within one event loop; requests may run side by side. Files are read, and arrays encoded, on a thread.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 30.0, retry: Retry | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(**calls.connection(url, key, timeout))
        self._retrying = tenacity.AsyncRetrying(**(retry or Retry()).arguments())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        image: ImageLike,
        *,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
        source: str = "",
    ) -> Answer:
        """See `Client.predict`."""
        parameters = {"model": model, "conf": conf, "iou": iou}
        return await self._send(calls.predict(await _encoded(image), parameters, source))

    async def predict_batch(
        self,
        images: Sequence[ImageLike],
        *,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
        source: str = "",
    ) -> list[Answer | RequestRefused]:
        """See `Client.predict_batch`."""
        if not images:
            return []
        parameters = {"model": model, "conf": conf, "iou": iou}
        return await self._send(calls.predict_batch([await _encoded(image) for image in images], parameters, source))

    async def explain(
        self,
        image: ImageLike,
        *,
        grid: int | None = None,
        conf: float | None = None,
        iou: float | None = None,
        model: str = "",
    ) -> Image.Image:
        """See `Client.explain`."""
        parameters = {"model": model, "grid": grid, "conf": conf, "iou": iou}
        return await self._send(calls.explain(await _encoded(image), parameters))

    async def feedback(
        self, answer: Answer | str, *, label: Mapping[str, Any] | None = None, comment: str = "", key: str = ""
    ) -> Mapping[str, Any]:
        """See `Client.feedback`."""
        return await self._send(calls.feedback(answer, "", label, comment, key, ""))

    async def feedback_on_image(
        self,
        image: ImageLike,
        *,
        label: Mapping[str, Any] | None = None,
        comment: str = "",
        key: str = "",
        model: str = "",
    ) -> Mapping[str, Any]:
        """See `Client.feedback_on_image`."""
        return await self._send(calls.feedback(await _encoded(image), name_of(image), label, comment, key, model))

    async def model(self, name: str = "") -> Mapping[str, Any]:
        """See `Client.model`."""
        card: Mapping[str, Any] = await self._send(calls.get("/model", {"model": name}))
        return card

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """See `Client.models`."""
        names: Sequence[Mapping[str, Any]] = await self._send(calls.get("/models"))
        return names

    async def release(self, name: str = "") -> Mapping[str, Any]:
        """See `Client.release`."""
        report: Mapping[str, Any] = await self._send(calls.get("/release", {"model": name}))
        return report

    async def reload(self, placement: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Client.reload`."""
        card: Mapping[str, Any] = await self._send(calls.post("/reload", placement))
        return card

    async def unload(self, name: str, role: str = "champion") -> Sequence[Mapping[str, Any]]:
        """See `Client.unload`."""
        names: Sequence[Mapping[str, Any]] = await self._send(calls.post("/unload", {"name": name, "role": role}))
        return names

    async def is_live(self) -> bool:
        """See `Client.is_live`."""
        return await self._probe("/health")

    async def is_ready(self, model: str = "") -> bool:
        """See `Client.is_ready`."""
        return await self._probe("/ready", {"model": model} if model else {})

    async def _probe(self, path: str, parameters: Mapping[str, str] | None = None) -> bool:
        try:
            return calls.is_yes(await self._http.get(path, params=parameters))
        except httpx.TransportError:
            return False

    async def _send(self, call: Call[_Read]) -> _Read:
        async def attempt() -> httpx.Response:
            try:
                response = await self._http.request(call.method, call.path, **call.arguments)
            except httpx.RequestError as error:
                raise calls.not_answered(call, self.url, error) from error
            return calls.checked(response)

        try:
            response: httpx.Response = await self._retrying(attempt)
        except TryAgain as error:
            raise calls.retries_exhausted(self.url, error) from error
        return call.read(response)


async def _encoded(image: ImageLike) -> bytes:
    """Return an image as bytes, without blocking the event loop."""
    return image if isinstance(image, bytes) else await asyncio.to_thread(encoded, image)
