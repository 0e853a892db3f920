"""Check who may call a route, by a table of routes and roles.

If keys are configured, each request needs one, except on open routes. If none are, only requests from this machine
are accepted: the socket's peer must be a loopback address (proxy headers do not count), and the headers Host and
Origin must show that no page of another origin sent the request.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.http.counting import RequestCounts
from deploy.http.error_responses import refusal
from deploy.http.errors import (
    AdminDisabled,
    ApiError,
    MethodNotAllowed,
    NoRoute,
    TooManyRequests,
    WrongKey,
    WrongRole,
)
from deploy.http.keys import Client, KeyRing, KeyRole
from deploy.http.local import check_local
from deploy.http.pages import prefers_html
from deploy.http.rates import RateLimit
from visionops.inference.server_options import ADMIN_KEY_VARIABLE
from visionops.suggestions import nearest_names

__all__ = ["ADMIN", "ANY", "OPEN", "WEBSOCKET", "Gate", "Routes"]

OPEN: Final = frozenset[KeyRole]()
"""Roles of a route that needs no key."""
ANY: Final = frozenset(KeyRole)
ADMIN: Final = frozenset({KeyRole.ADMIN})
WEBSOCKET: Final = "WEBSOCKET"
"""Stands for the method in the table of routes where a path is a WebSocket."""

_LONGEST_PATH = 200
"""Characters of a path for which the nearest is looked for."""
_NO_KEYS = (
    "this server has no API keys, so it serves its own machine only; make a key with "
    "python -m deploy.serving.keys, and start the server with --keys FILE"
)

_WRONG_KEY = "the key is missing or wrong; send it in the header X-API-Key"
_MAKE_A_KEY = "whoever runs the server makes one with python -m deploy.serving.keys, and adds its line to the key file"
_FIND_ADMIN_KEY = (
    f"it is the value of {ADMIN_KEY_VARIABLE} at the start of the server, or a key of role admin; the endpoint "
    "of a local run keeps it in .visionops/serving/NAME/admin.key"
)


class Routes:
    """Look up who may call a route. A route that is not in the table does not exist.

    Args:
        table: Method and path, such as ``GET /models``, with the roles that may call it.
        probes: Paths that machines poll, without a rate limit.
        opened: Paths that the settings open to requests without a key.
        pages: Paths with an HTML page that contains no data, so a browser may load it without a key.
    """

    def __init__(
        self,
        table: Mapping[str, frozenset[KeyRole]],
        probes: frozenset[str],
        opened: Iterable[str] = (),
        pages: frozenset[str] = frozenset(),
    ) -> None:
        self.probes = probes
        self.pages = pages
        self._fixed: dict[str, tuple[str, dict[str, frozenset[KeyRole]]]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        opened = set(opened)
        for route, roles in table.items():
            method, _, path = route.partition(" ")
            _, methods = self._fixed.setdefault(path, (path, {}))
            methods[method] = OPEN if path in opened else roles
            if "{" in path:
                self._patterns[path] = compile_path(path)[0]

    def find(self, path: str) -> tuple[str, Mapping[str, frozenset[KeyRole]]] | None:
        """Return the route's path template and the roles of each method; None for an unknown path."""
        if (found := self._fixed.get(path)) is not None:
            return found
        for template, pattern in self._patterns.items():
            if pattern.match(path):
                return self._fixed[template]
        return None

    def nearest(self, path: str) -> list[str]:
        """Return the path that is most like an unknown one; nothing where none is."""
        return nearest_names(path[:_LONGEST_PATH], self._fixed)


class Gate:
    """Middleware that checks the client of each request and stores it in the request's state.

    ``state["known"]`` is whether the client is authenticated and may see details, ``state["key"]`` the id of its key,
    ``state["role"]`` its role, ``state["route"]`` the path of the route, ``state["page"]`` whether it gets the HTML
    page of that path, ``state["headers"]`` the rate-limit headers of the response. For a WebSocket,
    ``await state["admit"]()`` checks the key of the handshake again and counts one more request for the rate limit,
    because a connection may outlive its key.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        routes: Routes,
        metrics: RequestCounts,
        rate: RateLimit | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._keys = keys
        self._routes = routes
        self._metrics = metrics
        self._rate = rate
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            await self._admit(scope, state)
        except ApiError as error:
            if isinstance(error, TooManyRequests):
                state["headers"] = error.window
            self._metrics.rejected(error.code)
            state["log"] = {"code": error.code}
            await refusal(scope["path"], error)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            state["admit"] = functools.partial(self._admit, scope, state)
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, state: dict[str, object]) -> None:
        found, method = self._routes.find(scope["path"]), _method(scope)
        roles = None
        if found is not None:
            state["route"], methods = found
            roles = methods.get(method)
        headers = dict(scope["headers"])
        # Decided here once, so that the route returns exactly what was checked.
        state["page"] = roles is not None and scope["path"] in self._routes.pages and _takes_page(scope, headers)
        if roles is OPEN or state["page"]:
            try:
                self._identify(scope, headers, state, ANY)
            except ApiError:
                state["known"] = False
            return
        self._identify(scope, headers, state, roles or ANY)
        if self._rate is not None and state.get("route") not in self._routes.probes:
            who = state.get("key") or scope["client"][0]
            state["headers"] = await self._rate.take(str(who))
        if found is None:
            near = "".join(f"did you mean {path}? " for path in self._routes.nearest(scope["path"]))
            raise NoRoute(f"{method} {scope['path']}: Not Found; {near}GET /openapi.json lists what there is")
        if roles is None:
            allowed = [*(each for each in methods if each != WEBSOCKET), *(["HEAD"] if "GET" in methods else [])]
            use = " or ".join(each for each in methods if each != WEBSOCKET)
            raise MethodNotAllowed(f"{method} {scope['path']}: Method Not Allowed; use {use}", tuple(allowed))

    def _identify(
        self, scope: Scope, headers: Mapping[bytes, bytes], state: dict[str, object], roles: frozenset[KeyRole]
    ) -> None:
        state["known"] = True
        if self._keys.is_configured:
            client = self._client(headers)
            if client is None:
                raise WrongKey(f"{_WRONG_KEY}; {_MAKE_A_KEY if roles != ADMIN else _FIND_ADMIN_KEY}")
            state["key"], state["role"] = client.id, client.role
            if client.role not in roles:
                allowed = " or ".join(sorted(roles))
                raise WrongRole(f"{_method(scope)} {scope['path']} needs a key of role {allowed}, not {client.role}")
            return
        check_local(scope, headers, self._origins, _NO_KEYS)
        if roles == ADMIN:
            if not self._keys.has_admin_key:
                raise AdminDisabled(
                    f"{scope['path']} needs a key and this server has none; start it with {ADMIN_KEY_VARIABLE} set"
                )
            client = self._client(headers)
            if client is None:
                raise WrongKey(f"{_WRONG_KEY}; {_FIND_ADMIN_KEY}")
            state["key"], state["role"] = client.id, client.role

    def _client(self, headers: Mapping[bytes, bytes]) -> Client | None:
        offered = headers.get(b"x-api-key")
        if offered is None:
            scheme, _, offered = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return None
        return self._keys.client(offered.strip())


def _method(scope: Scope) -> str:
    return WEBSOCKET if scope["type"] == "websocket" else str(scope["method"])


def _takes_page(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    return _method(scope) == "GET" and prefers_html(headers.get(b"accept", b"").decode("latin-1"))
