"""Signing in at a real identity provider."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.console.conftest import Server, serving
from tests.console.users import add_users, user_store, visitor
from tests.helpers.oidc import CLIENT_ID, CLIENT_SECRET, Provider, identity_provider
from visionops.review.users import UserRole

pytestmark = pytest.mark.skipif("VISIONOPS_CONSOLE" not in os.environ, reason="a console of its own; make console")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with identity_provider("/login/oidc/callback") as found:
        yield found


@pytest.fixture(scope="module")
def console(places: tuple[Path, Path], provider: Provider) -> Iterator[Server]:
    add_users(places[0], anna=UserRole.ADMIN)
    flags = ["--oidc-issuer", provider.issuer, "--oidc-client-id", CLIENT_ID]
    flags += ["--oidc-role-claim", "groups", "--oidc-roles", "line=reviewer,vision=engineer"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_OIDC_CLIENT_SECRET", CLIENT_SECRET)
        with serving(*places, *flags) as server:
            yield server


def come_back(client: httpx.Client, wanted: str = "/") -> str:
    """Open the provider's page, and return the address to which it redirects the browser."""
    away = client.get("/login/oidc/start", params={"next": wanted})
    assert away.status_code == 302, away.text
    back = httpx.get(away.headers["location"], trust_env=False, timeout=60)
    assert back.status_code == 302, back.text
    return str(back.headers["location"])


def signed_in(console: Server, wanted: str = "/") -> httpx.Response:
    """Return the response of the callback to a login."""
    with visitor(console.url) as client:
        answer = client.get(come_back(client, wanted))
        if answer.status_code == 200:
            answer.extensions["session"] = client.get("/api/session").json()
        return answer


def test_a_login_makes_a_user_whose_role_follows_the_claim(console: Server, provider: Provider):
    provider.claims = {"sub": "7", "preferred_username": "Omar", "groups": ["line", "vision", "canteen"]}
    answer = signed_in(console, "/users?x=1")
    assert answer.extensions["session"] == {"name": "Omar", "role": "engineer"}
    assert 'content="0; url=/users?x=1"' in answer.text
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("visionops="))
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict"))
    sent = provider.requests[-1]
    assert sent["code_challenge_method"] == "S256"
    assert all(len(sent[name]) >= 16 for name in ("state", "nonce", "code_challenge"))
    provider.claims |= {"preferred_username": "Omar B", "groups": "line"}
    assert signed_in(console).extensions["session"] == {"name": "Omar", "role": "reviewer"}
    provider.claims |= {"groups": []}
    assert signed_in(console).extensions["session"] == {"name": "Omar", "role": "viewer"}
    with user_store(console.home) as users:
        rows = [(row.actor, row.action, row.name) for row in users.changes(3)]
    by = "login by OIDC"
    assert rows == [(by, "role", "Omar"), (by, "role", "Omar"), (by, "add", "Omar")]


def test_a_name_that_somebody_has_is_not_theirs(console: Server, provider: Provider):
    provider.claims = {"sub": "8", "preferred_username": "ANNA", "groups": ["vision"]}
    answer = signed_in(console)
    assert answer.status_code == 403
    assert "user anna: already exists" in answer.text
    assert "visionops=" not in str(answer.headers.get_list("set-cookie"))


def test_names_of_a_provider_are_shown_as_text(console: Server, provider: Provider):
    provider.claims = {"sub": "9", "preferred_username": "<img src=x onerror=alert(1)>"}
    answer = signed_in(console)
    assert answer.extensions["session"]["name"] == "<img src=x onerror=alert(1)>"
    provider.claims = {"sub": "10", "preferred_username": "<IMG SRC=x onerror=alert(1)>"}
    answer = signed_in(console)
    assert answer.status_code == 403
    assert "&lt;img src" in answer.text


@pytest.mark.parametrize(
    "what", ["state", "another browser", "code", "code twice", "nonce", "issuer", "audience", "age"]
)
def test_answers_that_are_not_the_providers_to_this_browser_are_refused(console: Server, provider: Provider, what: str):
    provider.claims = {"sub": "12", "preferred_username": "Omid", "groups": []}
    forged = {"nonce": {"nonce": "x" * 20}, "issuer": {"iss": "https://evil.example"}, "audience": {"aud": ["other"]}}
    provider.forged = forged.get(what, {"exp": 1, "iat": 0} if what == "age" else {})
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(visitor(console.url))
        back = come_back(client)
        provider.forged = provider.forged if what in {*forged, "age"} else {}
        if what == "state":
            back = back.replace("state=", "state=x")
        elif what == "code":
            back = back.replace("code=", "code=x")
        elif what == "code twice":
            assert client.get(back).status_code == 200
            client.cookies.clear()
        elif what == "another browser":
            client = stack.enter_context(visitor(console.url))
        refused = client.get(back)
        provider.forged = {}
        assert refused.status_code == 401
        assert "The login did not work" in refused.text
        assert client.get("/api/session").status_code == 401


def test_a_provider_that_refuses_and_one_who_is_disabled(console: Server, provider: Provider):
    with visitor(console.url) as client:
        away = client.get("/login/oidc/start")
        (state,) = parse_qs(urlsplit(away.headers["location"]).query)["state"]
        refused = client.get("/login/oidc/callback", params={"error": "access_denied", "state": state})
        assert refused.status_code == 401
        assert "access_denied" in refused.text
    provider.claims = {"sub": "11", "preferred_username": "dora"}
    assert signed_in(console).status_code == 200
    with user_store(console.home) as users:
        users.set_disabled("dora", "anna", datetime.now(UTC), is_disabled=True)
    answer = signed_in(console)
    assert answer.status_code == 403
    assert "may not sign in" in answer.text
