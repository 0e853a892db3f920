"""Check the viewer and the role of every request to the console.

Without users, only this machine is served, as an admin. With users, each request needs a session, except on open paths;
a page redirects visitors without one to the login. Writes and WebSockets are accepted only from pages of this console.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from nicegui import __version__ as nicegui_version
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.console.access import NO_USERS
from deploy.console.context import Console, Viewer
from deploy.console.documents import message_page
from deploy.console.routes import OPEN_PATHS, UNUSED_PATHS, role_of
from deploy.console.sockets import ViewerSocket
from deploy.http.error_responses import refusal
from deploy.http.errors import ApiError, ForeignOrigin, NoRoute, NotSignedIn, WrongKey, status_and_code
from deploy.http.local import check_local, is_own_origin
from visionops.errors import VisionOpsError

__all__ = ["CONTENT_POLICY", "Gate"]

CONTENT_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
"""Content-Security-Policy of every response. Vue needs `unsafe-eval` to compile NiceGUI's templates in the browser."""
_STATIC = f"/_nicegui/{nicegui_version}/"
_FOREVER = "public, max-age=31536000, immutable"
_READS = {"GET", "HEAD", "OPTIONS"}


class Gate:
    """Middleware that checks each request and stores its viewer in ``state["viewer"]``."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self._app = app
        self._console = console
        self._origins = {console.options.public_url.encode()} - {b""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            viewer = await self._admit(scope, state)
        except VisionOpsError as error:
            self._console.metrics.rejected(error.code if isinstance(error, ApiError) else "forbidden")
            if scope["type"] == "websocket":
                code = 4401 if isinstance(error, NotSignedIn) else 4403
                await send({"type": "websocket.close", "code": code, "reason": str(error)[:120]})
                return
            await _answer(scope, error)(scope, receive, send)
            return
        if scope["type"] == "websocket" and viewer is not None:
            watched = ViewerSocket(receive, send, viewer)
            receive, send = watched.receive, watched.send
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, state: dict[str, object]) -> Viewer | None:
        path: str = scope["path"]
        headers = dict(scope["headers"])
        if path.startswith(_STATIC):
            state["route"], state["cache_control"] = "/_nicegui", _FOREVER
            return None
        needs_login = await run_in_threadpool(self._console.access.needs_login)
        is_write = scope["type"] == "websocket" or scope["method"] not in _READS
        self._check_origin(headers, is_write=is_write)
        if is_write and needs_login:
            self._check_sender(headers)
        if path in OPEN_PATHS or (path == "/metrics" and self._may_scrape(headers)):
            state["route"] = path
            return None
        viewer = await self._viewer(scope, headers, needs_login=needs_login)
        state["viewer"] = viewer
        if viewer.session is not None:
            state["log"] = {"user": viewer.name}
        if path.startswith("/_nicegui"):
            state["route"] = "/_nicegui"
            return viewer
        found = role_of(path)
        if found is None:
            raise NoRoute(f"{path}: the page does not exist")
        state["route"], role = found
        viewer.require(role)
        return viewer

    async def _viewer(self, scope: Scope, headers: Mapping[bytes, bytes], *, needs_login: bool) -> Viewer:
        access = self._console.access
        if not needs_login:
            check_local(scope, headers, self._origins, NO_USERS)
            return await run_in_threadpool(access.local)
        token = HTTPConnection(scope).cookies.get(access.cookie)
        is_used = scope["path"] not in UNUSED_PATHS and not scope["path"].startswith("/_nicegui")
        return await run_in_threadpool(access.viewer, token, is_used=is_used)

    def _check_origin(self, headers: Mapping[bytes, bytes], *, is_write: bool) -> None:
        """Check that no page of another site uses the visitor's cookie; such a page may only link to ours."""
        site = headers.get(b"sec-fetch-site")
        is_foreign = is_write and site not in {None, b"none", b"same-origin"}
        if is_foreign or not is_own_origin(headers, self._origins):
            raise ForeignOrigin("a page of another origin may not call this console")

    @staticmethod
    def _check_sender(headers: Mapping[bytes, bytes]) -> None:
        """Check that a write with a session names a page of this console as its origin, as browsers do."""
        if headers.get(b"origin") is None and headers.get(b"sec-fetch-site") != b"same-origin":
            raise ForeignOrigin("the request does not say which page it comes from; send the header Origin")

    def _may_scrape(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a machine may read the metrics by its key; otherwise a session is needed.

        Raises:
            WrongKey: The key is unknown.
        """
        if self._console.options.open_metrics:
            return True
        offered = headers.get(b"x-api-key")
        if offered is None:
            scheme, _, offered = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return False
        if self._console.access.keys.client(offered.strip()) is None:
            raise WrongKey("the key is wrong; send one of --keys in the header X-API-Key")
        return True


def _answer(scope: Scope, error: VisionOpsError) -> Response:
    """Return the response to a refused request: a page for a browser, otherwise JSON."""
    path: str = scope["path"]
    if b"text/html" not in dict(scope["headers"]).get(b"accept", b"") or path.startswith("/api/"):
        return refusal(path, error)
    if isinstance(error, NotSignedIn) and scope["method"] in _READS:
        query = scope["query_string"].decode("latin-1")
        wanted = quote(path) + (f"?{query}" if query else "")
        return RedirectResponse("/login" if wanted == "/" else f"/login?next={quote(wanted, safe='')}", 303)
    status, _ = status_and_code(error)
    title = {401: "Signed out", 404: "Not found"}.get(status, "Not allowed" if status < 500 else "Not now")
    return message_page(title, str(error), status)
