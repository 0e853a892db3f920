"""Limit how long a request body may take to arrive and how much memory all bodies may use."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.http.counting import RequestCounts
from deploy.http.errors import BodiesFull, UploadTooSlow

__all__ = ["BodyLimits"]


class BodyLimits:
    """Limit the time and the memory of request bodies. Each route limits the size of its own body.

    Args:
        seconds: Longest time from the head of a request to the end of its body.
        memory: Largest total of all bodies being processed, in bytes. Only received bytes count, not the
            Content-Length, so a client cannot reserve memory. A single body is never refused for this limit.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, memory: int, metrics: RequestCounts) -> None:
        self._app = app
        self._seconds = seconds
        self._memory = memory
        self._metrics = metrics
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        held, is_complete = 0, False

        async def receive_in_time() -> Message:
            nonlocal held, is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise UploadTooSlow(f"the body did not arrive within {self._seconds:g} s; send it faster") from error
            is_complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            if self._held > held and self._held + size > self._memory:
                raise BodiesFull("the images of other requests fill the memory set aside; try again in a second")
            held += size
            self._held += size
            return message

        try:
            await self._app(scope, receive_in_time, send)
        finally:
            self._held -= held
            self._metrics.upload(held)
