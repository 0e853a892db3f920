"""Set, check and remove the session cookie: at a login, from pages, and at `/logout`."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from deploy.console.context import Console
from deploy.console.routes import role_of
from visionops.review.users import User

__all__ = ["begin_session", "own_path", "sessions_router"]


def sessions_router(console: Console) -> APIRouter:
    """Return the session routes over ``console``."""
    router = APIRouter()
    access = console.access

    @router.post("/logout")
    async def sign_out(request: Request) -> Response:
        """End the session."""
        await run_in_threadpool(access.close, request.cookies.get(access.cookie))
        answer = RedirectResponse("/login?out", 303)
        answer.delete_cookie(access.cookie, secure=console.options.is_https, httponly=True, samesite="strict")
        return answer

    @router.get("/api/session")
    async def session(request: Request) -> dict[str, str]:
        """Return who is signed in; pages use it to check that their session is active."""
        viewer = request.state.viewer
        return {"name": viewer.name, "role": viewer.role.value}

    return router


async def begin_session(console: Console, request: Request, answer: Response, user: User) -> None:
    """Begin a session of a user with a new token, and set its cookie on a response.

    Raises:
        Forbidden: The user is disabled.
    """
    access = console.access
    token = await run_in_threadpool(access.open, user, request.cookies.get(access.cookie))
    answer.set_cookie(
        access.cookie,
        token,
        max_age=int(access.rules.longest.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=console.options.is_https,
    )


def own_path(wanted: str | None) -> str:
    """Return the wanted path with its query if it is on this console; otherwise the overview."""
    if not wanted or not wanted.startswith("/") or wanted.startswith("//") or not wanted.isprintable():
        return "/"
    path = urlsplit(wanted).path
    if "\\" in wanted or path == "/logout" or path.startswith("/api/") or role_of(path) is None:
        return "/"
    return wanted
