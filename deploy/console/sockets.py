"""Watch a WebSocket's session, and close the socket when it ends, before the page's messages are handled."""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Send

from deploy.console.viewer import Viewer
from deploy.http.errors import NotSignedIn

__all__ = ["ViewerSocket"]

_EVERY_SECONDS = 5.0
_EVENT = '42["event"'
"""Prefix of a NiceGUI message that a person causes; others, such as pings, are automatic."""


class ViewerSocket:
    """Receive and send functions of one viewer's WebSocket."""

    def __init__(self, receive: Receive, send: Send, viewer: Viewer) -> None:
        self._receive = receive
        self._send = send
        self._viewer = viewer
        self._checked = time.monotonic()
        self._is_closed = False

    async def receive(self) -> Message:
        """Return the next message; a disconnect message if the session has ended."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return message
        is_event = str(message.get("text") or "").startswith(_EVENT)
        if is_event or time.monotonic() - self._checked >= _EVERY_SECONDS:
            self._checked = time.monotonic()
            try:
                await run_in_threadpool(self._viewer.current)
            except NotSignedIn as error:
                self._is_closed = True
                await self._send({"type": "websocket.close", "code": 4401, "reason": str(error)})
                return {"type": "websocket.disconnect", "code": 4401}
        return message

    async def send(self, message: Message) -> None:
        """Send a message, unless the connection is closed."""
        if not self._is_closed:
            await self._send(message)
