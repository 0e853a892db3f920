"""Access to the routes by keys and roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from deploy.http.gate import OPEN, WEBSOCKET
from deploy.http.keys import Client, KeyRole, make_key
from deploy.serving.app import create_app
from deploy.serving.middleware.access import ROLES
from tests.serving.conftest import KEY, TestClient, settings_of

GATE = {401, 403, 405}
"""Methods and paths that do not exist."""
LOCAL = ("127.0.0.1", 50000)
REMOTE = ("192.0.2.7", 50000)


def routes_of(app: FastAPI) -> set[str]:
    """Return every method and path of the application, including its schema."""
    found = iter_route_contexts(app.routes)
    # FastAPI says of a WebSocket neither method nor, there, its path.
    return {
        f"{method} {route.path or route.original_route.path}"
        for route in found
        for method in (route.methods or {WEBSOCKET}) - {"HEAD"}
    }


ROUTES = sorted(routes_of(create_app(settings_of(None))))
OF_HTTP = [route for route in ROUTES if not route.startswith(WEBSOCKET)]
KEYS = {role: make_key(Client(f"the-{role}", role)) for role in KeyRole}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("# who\n\n" + "\n".join(line for _, line in KEYS.values()))
    return path


def client_of(peer: tuple[str, int] = LOCAL, host: str = "127.0.0.1", **changes: object) -> TestClient:
    return TestClient(create_app(settings_of(None, **changes)), base_url=f"http://{host}", client=peer)


@pytest.fixture(scope="module")
def with_keys(key_file: Path) -> Iterator[TestClient]:
    with client_of(REMOTE, "line.example", keys=key_file) as client:
        yield client


@pytest.fixture(scope="module")
def without_keys() -> Iterator[TestClient]:
    with client_of() as client:
        yield client


def ask(client: TestClient, route: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return the status, and the code of an error."""
    method, _, path = route.partition(" ")
    response = client.request(method, path.replace("{", "").replace("}", ""), headers=headers)
    if response.status_code == 401:
        assert response.headers["www-authenticate"] == "Bearer"
    body = response.json() if response.is_error else {}
    return response.status_code, body["error"]["code"] if isinstance(body.get("error"), dict) else ""


def refused(route: str, status: int, code: str) -> tuple[int, str]:
    """Return the expected result of `ask`; an error of the Open Inference Protocol has no code."""
    return status, "" if " /v2" in route else code


def test_the_table_lists_the_routes_of_the_application():
    assert set(ROLES) == set(ROUTES)
    files = {"GET /favicon.ico", *(route for route in ROLES if route.startswith("GET /assets/"))}
    assert {route for route, roles in ROLES.items() if roles is OPEN} == {"GET /health", *files}
    assert all(KeyRole.ADMIN in roles for roles in ROLES.values() if roles is not OPEN)


@pytest.mark.parametrize("route", OF_HTTP)
def test_with_keys_each_route_opens_to_its_roles(with_keys: TestClient, route: str):
    for key in (None, "wrong", KEYS[KeyRole.ADMIN][0][:-1], ""):
        status, code = ask(with_keys, route, None if key is None else {"X-API-Key": key})
        assert (status, code) == ((200, "") if ROLES[route] is OPEN else refused(route, 401, "wrong_key"))
    for role, (key, _) in KEYS.items():
        for header in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            status, code = ask(with_keys, route, header)
            if ROLES[route] is OPEN or role in ROLES[route]:
                assert status not in GATE
            else:
                assert (status, code) == refused(route, 403, "wrong_role")
    assert ask(with_keys, route, {"X-API-Key": KEY})[0] not in GATE, "the admin key stays good"


@pytest.mark.parametrize("route", OF_HTTP)
def test_without_keys_only_this_machine_is_served(without_keys: TestClient, route: str):
    is_admin = ROLES[route] == {KeyRole.ADMIN}
    for key in (None, "wrong", KEYS[KeyRole.ADMIN][0]):
        status, code = ask(without_keys, route, None if key is None else {"X-API-Key": key})
        if is_admin:
            assert (status, code) == refused(route, 401, "wrong_key")
        else:
            assert status not in GATE
    assert ask(without_keys, route, {"X-API-Key": KEY})[0] not in GATE
    if is_admin:
        assert ask(client_of(admin_key=None), route) == (403, "admin_disabled")
    for key in (None, KEY):
        status, code = ask(
            client_of(REMOTE), route, {"X-Forwarded-For": "127.0.0.1"} | ({} if key is None else {"X-API-Key": key})
        )
        assert (status, code) == ((200, "") if ROLES[route] is OPEN else refused(route, 403, "keys_needed"))


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_the_names_of_this_machine(peer: str, host: str):
    assert ask(client_of((peer, 1)), "GET /metrics", {"Host": host}) == (200, "")


@pytest.mark.parametrize("peer", ["10.0.0.1", "::2", "::ffff:10.0.0.1", "testclient", ""])
def test_other_machines(peer: str):
    assert ask(client_of((peer, 1)), "GET /metrics") == (403, "keys_needed")


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8000", "127.0.0.1.evil.example", "localhost.", "::1", ""]
)
def test_another_host_is_refused_without_keys(without_keys: TestClient, host: str):
    expected = (200, "") if host == "localhost." else (403, "foreign_host")
    assert ask(without_keys, "GET /metrics", {"Host": host}) == expected


def test_a_foreign_page_is_refused_without_keys(without_keys: TestClient):
    for origin in ("http://evil.example", "null", "http://127.0.0.1:3000"):
        assert ask(without_keys, "POST /predict", {"Origin": origin}) == (403, "foreign_origin")
    assert ask(without_keys, "GET /metrics", {"Origin": "http://127.0.0.1"})[0] == 200
    allowed = client_of(cors_origins="http://hmi.example, http://other.example")
    assert ask(allowed, "GET /metrics", {"Origin": "http://hmi.example"})[0] == 200
    assert ask(allowed, "GET /metrics", {"Origin": "http://evil.example"}) == (403, "foreign_origin")


def test_what_is_in_no_table_is_not_there(with_keys: TestClient, key_file: Path):
    app = create_app(settings_of(None, keys=key_file))
    app.add_api_route("/forgotten", lambda: "here")
    with TestClient(app, client=REMOTE) as client:
        admin = {"X-API-Key": KEYS[KeyRole.ADMIN][0]}
        assert ask(client, "GET /forgotten") == (401, "wrong_key")
        assert ask(client, "GET /forgotten", admin) == (404, "not_found")
        assert ask(client, "DELETE /predict", admin) == (405, "method_not_allowed")
        assert client.delete("/predict", headers=admin).headers["allow"] == "POST"
    assert "/forgotten" not in {route.partition(" ")[2] for route in ROUTES}


def test_probes_open_by_setting(key_file: Path, bundle: Path):
    with client_of(REMOTE, keys=key_file, open_metrics=True) as client:
        assert ask(client, "GET /metrics") == (200, "")
        assert ask(client, "GET /ready") == (401, "wrong_key")
    from tests.serving import conftest

    settings = settings_of(bundle, keys=key_file, open_ready=True)
    with conftest.client_of(settings) as client:
        assert client.get("/ready").json() == {"status": "ready"}
        known = client.get("/ready", headers={"X-API-Key": KEYS[KeyRole.PREDICT][0]}).json()
    assert known["model"]["version"] == "1"
    assert known["serves"] == "clients with an API key"
    with conftest.client_of(settings_of(bundle)) as client:
        assert "this machine only" in client.get("/ready").json()["serves"]


def test_keys_may_come_from_the_environment():
    with client_of(REMOTE, api_keys=KEYS[KeyRole.PREDICT][1]) as client:
        assert ask(client, "GET /metrics") == (401, "wrong_key")
        assert ask(client, "GET /metrics", {"X-API-Key": KEYS[KeyRole.PREDICT][0]}) == (200, "")
