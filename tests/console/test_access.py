"""Access of the console: every path and role, sessions, other origins, password guessing, and path tricks."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import update

from deploy.console.routes import OPEN_PATHS, PATHS
from deploy.console.sessions import own_path
from deploy.http.keys import Client, KeyRole, make_key
from tests.console.conftest import Server, serving
from tests.console.users import PASSWORD, RULES, add_users, form_token, session_of, sign_in, user_store, visitor
from visionops.review.users import UserRole, token_digest
from visionops.review_store.user_models import SessionRow

NAMES = {"vera": UserRole.VIEWER, "rita": UserRole.REVIEWER, "emil": UserRole.ENGINEER, "anna": UserRole.ADMIN}
KEY, KEY_LINE = make_key(Client("prometheus", KeyRole.PREDICT))
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def console(places: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    add_users(places[0], **NAMES, tess=UserRole.VIEWER, uma=UserRole.VIEWER)
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY_LINE)
    with serving(*places, "--keys", str(keys), "--trusted-proxies", "127.0.0.1") as server:
        yield server


def status(server: Server, path: str, token: str | None = None, method: str = "GET", **headers: str) -> int:
    """Return the status of a request whose path is sent unchanged, without normalization by the client."""
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
    cookie = {} if token is None else {"Cookie": f"visionops={token}"}
    connection.request(method, path, headers=cookie | headers)
    found = connection.getresponse().status
    connection.close()
    return found


def upgrade(server: Server, token: str | None, origin: str) -> int:
    """Return the status of the handshake of the pages' WebSocket."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": origin}
    key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    return status(server, SOCKET, token, **headers, **key)


@pytest.mark.parametrize("name", [None, *NAMES])
def test_every_path_opens_for_its_roles_alone(console: Server, name: str | None):
    token = None if name is None else session_of(console.home, name)
    for path, needed in PATHS.items():
        found = status(console, re.sub(r"\{[^}]*\}", "x", path), token)
        if name is None:
            assert found == 401, path
        elif NAMES[name].includes(needed):
            assert found not in {401, 403}, path
        else:
            assert found == 403, path
    for path in OPEN_PATHS:
        assert status(console, path, token) not in {401, 403}, path


def test_pages_send_who_is_not_signed_in_to_the_login_and_back(console: Server):
    with visitor(console.url, Accept="text/html") as client:
        away = client.get("/users?page=2")
        assert (away.status_code, away.headers["location"]) == (303, "/login?next=%2Fusers%3Fpage%3D2")
        back = sign_in(client, "ANNA", next="/users?page=2")
        assert (back.status_code, back.headers["location"]) == (303, "/users?page=2")
        assert client.get("/api/session").json() == {"name": "anna", "role": "admin"}
    with visitor(console.url, session_of(console.home, "vera"), Accept="text/html") as client:
        refused = client.get("/users")
        assert refused.status_code == 403
        assert "vera: has role viewer; this needs role admin" in refused.text


def test_a_login_begins_a_session_with_a_new_token(console: Server):
    with visitor(console.url, "chosen-by-an-attacker") as client:
        assert client.get("/api/session").status_code == 401
        cookie = sign_in(client, "vera").headers["set-cookie"]
        token = cookie.partition("=")[2].partition(";")[0]
    assert len(token) >= 43
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    before = session_of(console.home, "vera")
    with visitor(console.url, before) as client:
        page = client.get("/login")
        assert (page.status_code, page.headers["location"]) == (303, "/")
    with visitor(console.url) as client:
        form = {"token": form_token(client), "name": "vera", "password": PASSWORD}
        client.cookies.set("visionops", before)
        assert client.post("/login", data=form, headers={"Origin": console.url}).status_code == 303
    assert status(console, "/api/session", before) == 401
    assert status(console, "/api/session", token) == 200
    with user_store(console.home) as users:  # what the database has opens nothing
        assert users.session(token_digest(token), datetime.now(UTC), RULES, is_used=False) is not None
    assert status(console, "/api/session", token_digest(token)) == 401


def test_sessions_end_with_a_log_out_and_with_the_users_rights(console: Server):
    first, second = session_of(console.home, "tess"), session_of(console.home, "tess")
    with visitor(console.url, first, Origin=console.url) as client:
        out = client.post("/logout")
        assert (out.status_code, out.headers["location"]) == (303, "/login?out")
        assert 'visionops=""' in out.headers["set-cookie"]
    assert status(console, "/api/session", first) == 401
    with user_store(console.home) as users:
        users.set_role("tess", UserRole.ENGINEER, "anna", datetime.now(UTC))
        with visitor(console.url, second) as client:
            assert client.get("/api/session").json() == {"name": "tess", "role": "engineer"}
        users.set_disabled("tess", "anna", datetime.now(UTC), is_disabled=True)
    assert status(console, "/api/session", second) == 401
    with visitor(console.url) as client:
        refused = sign_in(client, "tess")
        assert refused.status_code == 403
        assert "This user is disabled" in refused.text
        assert "visionops=" not in refused.headers["set-cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Referer": "http://127.0.0.1/"},
    ],
)
def test_a_page_elsewhere_can_neither_write_nor_sign_in(console: Server, headers: dict[str, str]):
    token = session_of(console.home, "vera")
    assert status(console, "/logout", token, "POST", **headers) == 403
    assert status(console, "/api/session", token) == 200
    with visitor(console.url) as client:
        form = {"token": form_token(client), "name": "vera", "password": PASSWORD}
        assert client.post("/login", data=form, headers=headers).status_code == 403


def test_a_page_elsewhere_reads_nothing_by_the_cookie_of_its_visitor(console: Server):
    token = session_of(console.home, "vera")
    for path in ("/", "/api/session", SOCKET.replace("=websocket", "=polling")):
        assert status(console, path, token, Origin="http://127.0.0.1:9") == 403
        assert status(console, path, token, **{"Sec-Fetch-Site": "cross-site"}) in {200, 400}  # a link to it


def test_a_login_form_without_its_token_is_refused(console: Server):
    origin = {"Origin": console.url}
    with visitor(console.url) as client:
        for token in ("", "guessed"):
            form = {"token": token, "name": "vera", "password": PASSWORD}
            assert client.post("/login", data=form, headers=origin).status_code == 400  # not even a cookie
            form_token(client)
            refused = client.post("/login", data=form, headers=origin)
            assert refused.status_code == 400
            assert "has expired" in refused.text
        assert client.post("/login", content=b"x" * 10_000, headers=origin).status_code == 413
        assert client.post("/login", content=b"&=" * 100, headers=origin).status_code == 400


def test_web_sockets_want_a_session_and_our_own_page(console: Server):
    token = session_of(console.home, "vera")
    assert upgrade(console, token, console.url) == 101
    assert upgrade(console, None, console.url) == 403
    assert upgrade(console, "guessed", console.url) == 403
    assert upgrade(console, token, "http://evil.example") == 403
    assert status(console, SOCKET.replace("=websocket", "=polling")) == 401


def test_guessing_is_stopped_for_known_and_unknown_names_alike(console: Server):
    answers = {}
    one_address = {"X-Forwarded-For": "192.0.2.7"}
    for name in ("uma", "nobody"):
        with visitor(console.url, **one_address) as client:
            tries = [sign_in(client, name, f"guess number {number}") for number in range(10)]
            last = sign_in(client, name, PASSWORD)
        assert [one.status_code for one in tries] == [401] * 10
        assert last.status_code == 429
        assert 0 < int(last.headers["retry-after"]) <= 600
        answers[name] = re.sub(r'value="[^"]*"', "", tries[0].text)
        assert re.search(r"Too many failed logins; try again in \d+ (s|minutes)\.", last.text)
    assert answers["uma"] == answers["nobody"]
    with visitor(console.url, **one_address) as client:
        assert sign_in(client, "vera").status_code == 303  # another name is free, until the address has failed 30 times
    with visitor(console.url, **one_address) as client:
        for number in range(10):
            assert sign_in(client, f"name {number}", "guess").status_code == 401
        assert sign_in(client, "vera").status_code == 429
    with visitor(console.url) as client:  # another address
        assert sign_in(client, "vera").status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/users\r\nSet-Cookie: a=b",
        "/no-such-page",
        "/logout",
        "/api/session",
        "users",
    ],
)
def test_a_login_leads_to_our_own_pages_alone(wanted: str | None):
    assert own_path(wanted) == "/"


def test_a_login_leads_to_the_page_that_was_wanted():
    assert own_path("/users?a=b&c=%2F") == "/users?a=b&c=%2F"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2f..%2fpyproject.toml",
        "/static//etc/passwd",
        "/_nicegui/../users",
        "/_nicegui/VERSION/../../users",
        "/_nicegui/VERSION/static/../../../../../../etc/passwd",
        "/_nicegui/VERSION/static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/_nicegui/VERSION/components/..%2f..%2f..%2fetc%2fpasswd",
        "/_nicegui/VERSION/resources/x/..%2f..%2f..%2fetc%2fpasswd",
        "/login/../users",
        "/live/../users",
        "/login/oidc/start/../../../users",
        "//users",
        "/users/",
        "/USERS",
        "/users%00",
        "/users;x",
        "/users%2f",
        "/live%2f..%2fusers",
        "http://127.0.0.1/users",
    ],
)
def test_tricks_with_paths_open_nothing(console: Server, path: str):
    from nicegui import __version__ as version

    for token in (None, session_of(console.home, "vera")):
        assert status(console, path.replace("VERSION", version), token) in {307, 400, 401, 403, 404}


def test_what_a_page_asks_by_itself_keeps_no_session_alive(console: Server):
    token = session_of(console.home, "vera")
    long_ago = datetime.now(UTC) - timedelta(minutes=110)
    with user_store(console.home) as users:
        row = update(SessionRow).where(SessionRow.digest == token_digest(token))
        users._database.write(lambda session: session.execute(row.values(seen=long_ago)))
        for path, is_kept in (("/api/session", False), ("/metrics", False), (SOCKET, False), ("/users", True)):
            status(console, path, token)
            at = datetime.now(UTC) + timedelta(minutes=15)
            found = users.session(token_digest(token), at, RULES, is_used=False)
            assert (found is not None) is is_kept, path


def test_machines_read_the_metrics_by_a_key(console: Server):
    assert status(console, "/metrics") == 401
    assert status(console, "/metrics", None, "GET", **{"X-API-Key": KEY}) == 200
    assert status(console, "/metrics", None, "GET", Authorization=f"Bearer {KEY}") == 200
    assert status(console, "/metrics", None, "GET", **{"X-API-Key": "guessed"}) == 401
    assert status(console, "/users", None, "GET", **{"X-API-Key": KEY}) == 401
    assert status(console, "/metrics", session_of(console.home, "vera")) == 200
