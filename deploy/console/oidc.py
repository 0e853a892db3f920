"""Routes `/login/oidc/…`: sign in at an identity provider by OpenID Connect, with state, nonce and PKCE.

A user is identified by issuer and subject, not by name, so that nobody can become another user by taking their name.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI, Request, Response
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.sessions import SessionMiddleware

from deploy.console.context import Console
from deploy.console.documents import document, message_page
from deploy.console.sessions import begin_session, own_path
from visionops.errors import ConfigError, VisionOpsError, one_line
from visionops.review.users import User

__all__ = ["oidc_app"]

_log = logging.getLogger("visionops.console")
_MINUTES_TO_SIGN_IN = 10
_MOST_CLAIM = 200
"""Maximum length of a user's id at the provider."""


def oidc_app(console: Console) -> SessionMiddleware:
    """Return the routes ``/start`` and ``/callback``, to mount at ``/login/oidc``."""
    options = console.options
    assert options.oidc_client_secret is not None
    secret = options.oidc_client_secret.get_secret_value()
    client = OAuth().register(
        "provider",
        client_id=options.oidc_client_id,
        client_secret=secret,
        server_metadata_url=f"{options.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": options.oidc_scope, "code_challenge_method": "S256", "timeout": 10},
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/start")
    async def leave(request: Request) -> Response:
        """Redirect the browser to the provider."""
        request.session["next"] = own_path(request.query_params.get("next"))
        base = options.public_url or f"{request.url.scheme}://{request.url.netloc}"
        try:
            answer: Response = await client.authorize_redirect(request, f"{base}/login/oidc/callback")
        except (httpx.HTTPError, AuthlibBaseError, RuntimeError, ValueError) as error:
            return _failed(console, error, 503)
        return answer

    @app.get("/callback")
    async def come_back(request: Request) -> Response:
        """Begin a session for the user that the provider names."""
        wanted = own_path(request.session.get("next"))
        try:
            token = await client.authorize_access_token(request)
            user = await run_in_threadpool(_user_of, console, dict(token["userinfo"]))
        except (httpx.HTTPError, AuthlibBaseError, JoseError, KeyError, RuntimeError, ValueError) as error:
            return _failed(console, error, 401)
        except VisionOpsError as error:
            return _failed(console, error, 403)
        request.session.clear()
        # A redirect would count as coming from the provider's site, so the browser would not send the new cookie.
        answer = document("onward.html", title="Signed in", link=wanted)
        try:
            await begin_session(console, request, answer, user)
        except VisionOpsError as error:
            return _failed(console, error, 403)
        console.metrics.login("ok")
        return answer

    # State until the browser returns from the other site, which would not be sent with a strict cookie.
    return SessionMiddleware(
        app,
        secret_key=hashlib.sha256(b"visionops login " + secret.encode()).hexdigest(),
        session_cookie="visionops-oidc",
        max_age=_MINUTES_TO_SIGN_IN * 60,
        path="/login/oidc",
        same_site="lax",
        https_only=options.is_https,
    )


def _user_of(console: Console, claims: Mapping[str, Any]) -> User:
    """Return the user of a provider's claims; create it at the first login, and set its role at each login."""
    options, users, now = console.options, console.access.users, console.access.now()
    subject = f"{claims['iss']} {str(claims['sub'])[:_MOST_CLAIM]}"
    role = options.oidc_default_role
    if options.oidc_role_claim:
        role = options.claimed_role(_values(claims.get(options.oidc_role_claim))) or role
    user = users.by_subject(subject)
    if user is None:
        return users.add(_name_of(options.oidc_name_claim, claims), role, "login by OIDC", now, subject=subject)
    if options.oidc_role_claim and user.role is not role:
        return users.set_role(user.name, role, "login by OIDC", now)
    return user


def _name_of(claim: str, claims: Mapping[str, Any]) -> str:
    for one in (claim, "preferred_username", "email", "sub"):
        if isinstance(claims.get(one), str) and claims[one].strip():
            return str(claims[one])
    raise ConfigError("the identity provider sends no user name; set --oidc-name-claim to a claim that it sends")


def _values(claim: object) -> set[str]:
    """Return the values of a claim, which may be a list or a single text."""
    return {str(one) for one in claim} if isinstance(claim, list | tuple) else {str(claim)}


def _failed(console: Console, error: Exception, status: int) -> Response:
    console.metrics.login("failed")
    reason = one_line(str(error)) or type(error).__name__
    _log.warning("oidc_failed", extra={"fields": {"reason": reason}})
    return message_page("Not signed in", f"The login did not work: {reason}", status, "/login", "Try again")
