"""Route `/login`: sign in with name and password."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from deploy.console.context import Console
from deploy.console.documents import document
from deploy.console.logins import Attempts
from deploy.console.sessions import begin_session, own_path
from deploy.http.errors import NotSignedIn, TooManyRequests, UploadTooLarge
from visionops.review.errors import Forbidden, Invalid
from visionops.review.passwords import hash_password, matches, needs_rehash
from visionops.review.users import User

__all__ = ["login_router"]

_WRONG = "Name or password is wrong."
_DISABLED = "This user is disabled; ask an admin to enable it."
_OLD = "This form has expired; try again."
_MOST_BODY = 8192
"""Maximum bytes of a form."""


def login_router(console: Console) -> APIRouter:
    """Return the login routes over ``console``."""
    router = APIRouter()
    access, login = console.access, _Login(console)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        """Return the form; redirect a visitor who is signed in already."""
        wanted = own_path(request.query_params.get("next"))
        if not await run_in_threadpool(access.needs_login):
            return RedirectResponse("/", 303)
        if request.headers.get("sec-fetch-site") == "cross-site":
            # After a link from another site the browser does not send the session cookie; from our own page it does.
            return document("onward.html", title="One moment", link=f"/login?next={quote(wanted, safe='')}")
        try:
            await run_in_threadpool(access.viewer, request.cookies.get(access.cookie), is_used=True)
        except NotSignedIn:
            notice = "You are signed out." if "out" in request.query_params else ""
            return login.form(request, next=wanted, notice=notice)
        return RedirectResponse(wanted, 303)

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        """Begin a session, or show the form again."""
        return await login.sign_in(request, await _fields(request))

    return router


class _Login:
    """Show the login form and handle its submission."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._attempts = Attempts()
        self._cookie = f"{console.access.cookie}-form"
        # Serialized, so that parallel attempts count for the limit like sequential ones.
        self._turn = asyncio.Lock()

    def form(self, request: Request, status: int = 200, **values: str) -> Response:
        """Return the form with a CSRF token that only the same browser can send back."""
        options = self._console.options
        token = request.cookies.get(self._cookie) or secrets.token_urlsafe(32)
        shown = {"problem": "", "notice": "", "name": "", "next": "/", "provider": options.provider} | values
        page = document("login.html", status, title="Sign in", token=token, **shown)
        page.set_cookie(self._cookie, token, httponly=True, samesite="strict", secure=options.is_https)
        return page

    async def sign_in(self, request: Request, fields: Mapping[str, str]) -> Response:
        """Begin a session, or return the form with an error."""
        console, name = self._console, fields.get("name", "").strip()
        shown = {"next": own_path(fields.get("next")), "name": name}
        expected = request.cookies.get(self._cookie, "")
        if not expected or not hmac.compare_digest(expected.encode(), fields.get("token", "").encode()):
            return self.form(request, 400, **shown, problem=_OLD)
        address = request.client.host if request.client else ""
        try:
            user = await self._find(name, fields.get("password", ""), address)
        except TooManyRequests as error:
            console.metrics.login("limited")
            page = self.form(request, 429, **shown, problem=f"{str(error).capitalize()}.")
            page.headers["retry-after"] = str(error.retry_after)
            return page
        if user is None:
            console.metrics.login("wrong")
            return self.form(request, 401, **shown, problem=_WRONG)
        answer = RedirectResponse(shown["next"], 303)
        try:
            await begin_session(console, request, answer, user)
        except Forbidden:
            console.metrics.login("disabled")
            return self.form(request, 403, **shown, problem=_DISABLED)
        console.metrics.login("ok")
        return answer

    async def _find(self, name: str, password: str, address: str) -> User | None:
        async with self._turn:
            await self._attempts.check(name, address)
            user = await run_in_threadpool(_find, self._console, name, password)
            if user is None:
                await self._attempts.failed(name, address)
            else:
                await self._attempts.succeeded(name)
        return user


def _find(console: Console, name: str, password: str) -> User | None:
    """Return the user with a name and a password; an unknown name takes the same time."""
    users = console.access.users
    found = users.credentials(name)
    if not matches(found, password) or found is None or found.hash is None:
        return None
    if needs_rehash(found.hash):
        # A password that was set under older rules is still valid, with its old hash.
        with contextlib.suppress(Invalid):
            users.keep_hash(found.user.id, found.hash, hash_password(password, found.user.name))
    return found.user


async def _fields(request: Request) -> Mapping[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY:
            raise UploadTooLarge(f"the form has more than {_MOST_BODY} bytes")
    try:
        found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return {}
    return {key: values[0] for key, values in found.items()}
