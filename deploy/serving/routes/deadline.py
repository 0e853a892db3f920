"""Read the header `X-Deadline-Ms`, the time within which the client needs its answer."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Header, Request
from starlette.datastructures import Headers

from deploy.http.errors import BadRequest

__all__ = ["DEADLINE_HEADER", "MOST_MS", "Deadline", "NoDeadline", "stream_budget"]

DEADLINE_HEADER: Final = "X-Deadline-Ms"
MOST_MS: Final = 3_600_000
_ABOUT = (
    "milliseconds from the arrival of the request's head within which the answer must be ready; "
    "a request that cannot meet it is refused with 503 `deadline`"
)
_Milliseconds = Annotated[int | None, Header(alias=DEADLINE_HEADER, ge=1, le=MOST_MS, description=_ABOUT)]


async def _deadline(request: Request, deadline_ms: _Milliseconds = None) -> float | None:
    if deadline_ms is None:
        return None
    arrived: float = request.state.arrived
    return arrived + deadline_ms / 1000


async def _no_deadline(request: Request) -> None:
    if DEADLINE_HEADER in request.headers:
        raise BadRequest(
            f"header.{DEADLINE_HEADER}: {request.url.path} supports no deadline; remove the header", "bad_parameter"
        )


def stream_budget(headers: Headers) -> float | None:
    """Return the time limit of each frame of a stream in seconds, from the handshake's header; None without one.

    Raises:
        BadRequest: The header is not a number of milliseconds.
    """
    sent = headers.get(DEADLINE_HEADER)
    if sent is None:
        return None
    if not (sent.isascii() and sent.isdigit() and len(sent) <= len(str(MOST_MS)) and 1 <= int(sent) <= MOST_MS):
        raise BadRequest(f"header.{DEADLINE_HEADER}: expected 1 to {MOST_MS}, got {sent[:20]!r}", "bad_parameter")
    return int(sent) / 1000


Deadline = Annotated[float | None, Depends(_deadline)]
"""Time by which the answer must be ready, on the clock of `time.monotonic`; None without the header."""
NoDeadline = Depends(_no_deadline)
"""Dependency that refuses the header on a route without deadlines."""
