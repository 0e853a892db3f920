"""Route `/stream`, a WebSocket for cameras: the client sends frames at any rate, and the newest is answered next.

Each connection has at most one frame being processed and one waiting. A newer frame replaces the waiting one, so the
delay of answers and the memory of a connection stay bounded.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from deploy.http.errors import ApiError, BodiesFull, Busy, TooManyRequests, status_and_code
from deploy.serving.errors import DeadlineMissed, TooManyStreams, UpgradeRequired
from deploy.serving.models.entries import RequestKeys
from deploy.serving.models.service import PredictionRequest
from deploy.serving.routes.context import Serving
from deploy.serving.routes.deadline import stream_budget
from deploy.serving.routes.openapi import STREAM_RESPONSES
from deploy.serving.routes.predict import options_reader, request_keys, request_source
from deploy.serving.routes.schemas import ModelName
from visionops.errors import VisionOpsError

__all__ = ["stream_router"]

_log = logging.getLogger("visionops.serving")

GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
POLICY: Final = 1008
TOO_LARGE: Final = 1009
_MOST_REASON = 120
"""Maximum bytes of a close reason; the protocol allows 123."""


def stream_router(serving: Serving) -> APIRouter:
    """Return the stream routes over ``serving``."""
    router, options_of_task, frames = APIRouter(), Depends(options_reader()), _Frames(serving)

    @router.websocket("/stream")
    async def stream(websocket: WebSocket, model: ModelName = "", options: dict[str, float] = options_of_task) -> None:
        budget = stream_budget(websocket.headers)
        serving.models.get(model)
        frames.check()
        await websocket.accept()
        await _Stream(serving, frames, websocket, _Wanted(model, options, budget)).run()

    async def model_name(model: ModelName = "") -> str:
        return model

    @router.get(
        "/stream",
        response_class=Response,
        status_code=426,
        responses=STREAM_RESPONSES,
        summary="Stream",
        dependencies=[Depends(model_name), options_of_task],
    )
    async def no_stream() -> None:
        """Open a WebSocket: send images as binary messages, and read an answer like that of `/predict` for the newest.

        Each answer has `frame`, the number of its image in the connection, and `dropped`, the number of images that
        were dropped for newer ones so far. It takes the parameters of `/predict`. `X-Deadline-Ms` applies to each
        frame.
        """
        raise UpgradeRequired("GET /stream: is a WebSocket; open ws://…/stream, or send one image to /predict")

    return router


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """Parameters of a handshake, which apply to all its frames."""

    model: str
    options: dict[str, float]
    budget: float | None
    """Maximum seconds from a frame to its answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    """Number of the frame in its connection, from 1."""
    data: bytes
    arrived: float


class _Close(Exception):
    """Raised to close the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Frames:
    """Number and memory of all streams."""

    def __init__(self, serving: Serving) -> None:
        self._most, self._memory = serving.settings.max_stream_connections, serving.settings.max_body_memory
        self._metrics = serving.metrics
        self._open = self._held = 0

    def check(self) -> None:
        """Check that another connection is allowed.

        Raises:
            TooManyStreams: The maximum number of streams is open.
        """
        if self._open >= self._most:
            raise TooManyStreams(f"{self._open} streams are open already; close one or raise --max-stream-connections")

    def opened(self, change: int) -> None:
        """Count a stream that was opened (1) or closed (-1)."""
        self._open += change
        self._metrics.stream(change)

    def take(self, frame: _Frame, own: int) -> None:
        """Count the bytes of a frame. The first frame of a connection is never refused.

        Raises:
            BodiesFull: All frames together exceed their memory limit.
        """
        if own and self._held + len(frame.data) > self._memory:
            raise BodiesFull("the frames of other streams fill the memory set aside; send fewer or smaller ones")
        self._held += len(frame.data)

    def give_back(self, size: int) -> None:
        """Subtract bytes that are no longer held."""
        self._held -= size


class _Stream:
    """One connection."""

    def __init__(self, serving: Serving, frames: _Frames, websocket: WebSocket, wanted: _Wanted) -> None:
        self._serving = serving
        self._frames = frames
        self._socket = websocket
        self._wanted = wanted
        self._admit: Callable[[], Awaitable[None]] = websocket.state.admit
        self._keys = request_keys(websocket)
        self._source = request_source(websocket)
        self._latest: _Frame | None = None
        self._has_frame = asyncio.Event()
        self._held = 0
        self._received = self._answered = self._dropped = self._refused = 0

    async def run(self) -> None:
        """Answer frames until either side closes the connection."""
        start, code = time.monotonic(), 1006
        self._frames.opened(1)
        tasks = [asyncio.create_task(self._read_frames()), asyncio.create_task(self._answer_frames())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await done.pop()
        except WebSocketDisconnect as error:
            code = error.code
        except _Close as close:
            code = close.code
            self._serving.metrics.rejected("stream_closed")
            await self._close(close)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._frames.opened(-1)
            self._frames.give_back(self._held)
            self._log_end(time.monotonic() - start, code)

    async def _close(self, close: _Close) -> None:
        reason = str(close).encode()[:_MOST_REASON].decode(errors="ignore")
        try:
            await self._socket.close(close.code, reason)
        except (RuntimeError, WebSocketDisconnect):
            return  # the client has closed the connection already

    def _log_end(self, seconds: float, code: int) -> None:
        fields = {
            "request_id": self._socket.state.request_id,
            "route": "/stream",
            "model": self._wanted.model,
            "frames": self._received,
            "answered": self._answered,
            "dropped": self._dropped,
            "refused": self._refused,
            "close_code": code,
            "duration_s": round(seconds, 3),
        }
        if key := getattr(self._socket.state, "key", ""):
            fields["key"] = key
        _log.info("stream", extra={"fields": fields})

    # Reading

    async def _read_frames(self) -> None:
        while True:
            data = await self._receive()
            self._received += 1
            frame = _Frame(self._received, data, time.monotonic())
            if self._latest is not None:
                self._release(self._latest)
                self._latest = None
                self._dropped += 1
                self._serving.metrics.frame_dropped()
            try:
                self._frames.take(frame, self._held)
            except BodiesFull as error:
                await self._refuse(frame, error)
                continue
            self._held += len(data)
            self._latest = frame
            self._has_frame.set()

    async def _receive(self) -> bytes:
        idle = self._serving.settings.stream_idle_timeout
        try:
            async with asyncio.timeout(idle):
                message = await self._socket.receive()
        except TimeoutError as error:
            raise _Close(GOING_AWAY, f"no frame within {idle:g} s") from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        data: bytes | None = message.get("bytes")
        if data is None:
            raise _Close(UNSUPPORTED, "a text message; send images as binary messages")
        if len(data) > (limit := self._limit()):
            raise _Close(TOO_LARGE, f"the frame exceeds {limit} bytes; send less or raise max_upload_bytes")
        return data

    def _limit(self) -> int:
        try:
            return self._serving.models.get(self._wanted.model).ref.max_upload_bytes
        except ApiError:  # the model is gone; each frame gets this error as its answer
            return self._serving.settings.max_upload_bytes

    # Answering

    async def _answer_frames(self) -> None:
        while True:
            await self._has_frame.wait()
            self._has_frame.clear()
            frame, self._latest = self._latest, None
            if frame is None:
                continue
            try:
                answer = await self._answer(frame)
            except VisionOpsError as error:
                await self._refuse(frame, error)
            else:
                self._answered += 1
                self._serving.metrics.frame_answered(time.monotonic() - frame.arrived)
                await self._send(frame, answer)
            finally:
                self._release(frame)

    async def _answer(self, frame: _Frame) -> bytes:
        """Return the body of `/predict` for a frame."""
        try:
            await self._admit()
        except TooManyRequests:
            raise
        except ApiError as error:
            raise _Close(POLICY, f"{error.code}: {error}") from error
        serving, wanted = self._serving, self._wanted
        record_id = f"{self._socket.state.request_id}/{frame.number}"
        keys = RequestKeys(key=self._keys.key, request=f"{self._keys.request}/{frame.number}")
        # The model is chosen for each frame, so that a replaced model answers no later frame.
        choice = serving.models.choose(wanted.model, keys=keys)
        deadline = None if wanted.budget is None else frame.arrived + wanted.budget
        request = PredictionRequest(choice, wanted.options, record_id, self._source, deadline)
        answer, _ = await serving.predictions.predict(request, frame.data, where=f"frame {frame.number}")
        return answer.json

    async def _refuse(self, frame: _Frame, error: VisionOpsError) -> None:
        code = status_and_code(error)[1]
        self._refused += 1
        self._serving.metrics.rejected(code)
        self._serving.metrics.frame_refused()
        if isinstance(error, DeadlineMissed):
            self._serving.metrics.deadline_missed(error.reason)
        body: dict[str, Any] = {"error": {"code": code, "message": str(error)}}
        if isinstance(error, Busy | TooManyRequests) and error.retry_after:
            body["retry_after"] = error.retry_after
        await self._send(frame, orjson.dumps(body))

    async def _send(self, frame: _Frame, body: bytes) -> None:
        """Send a JSON object, with the frame's number as its first field."""
        head = {
            "frame": frame.number,
            "dropped": self._dropped,
            "request_id": f"{self._socket.state.request_id}/{frame.number}",
        }
        await self._socket.send_text((orjson.dumps(head)[:-1] + b"," + body[1:]).decode())

    def _release(self, frame: _Frame) -> None:
        self._held -= len(frame.data)
        self._frames.give_back(len(frame.data))
