"""The gate before every page and route of the console: who comes, and whether they may.

Without users, only this machine is served, as an admin. With users, each request brings a session, but for the open
ones; a page sends who has none to the login.
"""

from __future__ import annotations

from typing import Final

from nicegui import __version__ as nicegui_version
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.console.context import LOCAL, Console, Viewer
from deploy.console.routes import OPEN_PATHS, role_of
from deploy.http.errors import ApiError, ForeignOrigin, NoRoute
from deploy.http.local import check_local, is_own_origin
from deploy.http.refusals import refusal
from visionops.errors import VisionOpsError

__all__ = ["CONTENT_POLICY", "Gate"]

CONTENT_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
"""Of every answer. Vue compiles NiceGUI's templates in the browser, which needs `unsafe-eval`."""
_STATIC = f"/_nicegui/{nicegui_version}/"
_FOREVER = "public, max-age=31536000, immutable"
_NO_USERS = (
    "this console has no users, so it serves its own machine only; make the first one with "
    "visionops user add NAME --role admin"
)
_READS = {"GET", "HEAD", "OPTIONS"}


class Gate:
    """Lets in who may come in, and notes in ``state["viewer"]`` who that is."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request or WebSocket on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            self._admit(scope, state)
        except VisionOpsError as error:
            self._console.metrics.rejected(error.code if isinstance(error, ApiError) else "forbidden")
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4403, "reason": str(error)[:120]})
                return
            accepts = dict(scope["headers"]).get(b"accept", b"")
            if b"text/html" in accepts:
                status = getattr(error, "status", 403)
                await PlainTextResponse(f"{error}\n", status_code=status)(scope, receive, send)
                return
            await refusal(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, state: dict[str, object]) -> None:
        path: str = scope["path"]
        headers = dict(scope["headers"])
        if path.startswith(_STATIC):
            state["route"], state["cache_control"] = "/_nicegui", _FOREVER
            return
        writes = scope["type"] == "websocket" or scope["method"] not in _READS
        if writes and not is_own_origin(headers):
            raise ForeignOrigin("a page of another origin may not call this console")
        if path in OPEN_PATHS:
            state["route"] = path
            return
        viewer = self._viewer(scope, headers)
        state["viewer"] = viewer
        if path.startswith("/_nicegui"):
            state["route"] = "/_nicegui"
            return
        found = role_of(path)
        if found is None:
            raise NoRoute(f"{path}: there is no such page")
        state["route"], role = found
        viewer.require(role)

    def _viewer(self, scope: Scope, headers: dict[bytes, bytes]) -> Viewer:
        check_local(scope, headers, (), _NO_USERS)
        return LOCAL
