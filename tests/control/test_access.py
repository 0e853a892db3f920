"""Every route of the control service, every role."""

from __future__ import annotations

import pytest
from fastapi.routing import iter_route_contexts

from deploy.control.access import ROLES
from deploy.control.app import create_app
from deploy.http.gate import OPEN
from deploy.http.keys import KeyRole
from tests.control.conftest import KEYS, TestClient, header

TABLE = """
GET /live                              open
GET /ready                             open
GET /metrics                           predict feedback review admin
GET /openapi.json                      predict feedback review admin
GET /use-cases                         review admin
GET /runs                              review admin
GET /runs/{run}                        review admin
POST /retrain                          admin
POST /runs/{run}/cancel                admin
GET /models                            review admin
POST /models/{name}/promote            admin
POST /models/{name}/rollback           admin
GET /review/use-cases                  review admin
GET /review/items                      review admin
POST /review/items                     feedback review admin
GET /review/items/{item}               review admin
GET /review/items/{item}/image         review admin
POST /review/items/{item}/claim        review admin
POST /review/items/{item}/renew        review admin
POST /review/items/{item}/release      review admin
POST /review/items/{item}/decide       review admin
POST /review/items/{item}/reopen       admin
POST /review/{use_case}/claim          review admin
POST /review/{use_case}/export         admin
GET /review/{use_case}/stats           review admin
GET /review/{use_case}/agreement       review admin
GET /similar                           review admin
POST /similar                          review admin
"""
ALLOWED = {" ".join(line.split()[:2]): set(line.split()[2:]) for line in TABLE.strip().splitlines()}
GATE = {401, 403, 405}


def test_the_table_lists_the_routes_of_the_application(client: TestClient):
    found = iter_route_contexts(client.app.routes)
    routes = {f"{method} {route.path}" for route in found for method in (route.methods or {"?"}) - {"HEAD"}}
    assert routes == set(ROLES) == set(ALLOWED)
    assert {route for route, roles in ROLES.items() if roles is OPEN} == {"GET /live", "GET /ready"}


def test_every_route_opens_to_its_roles_alone(client: TestClient, configs):
    (configs / "steel.yaml").unlink()  # without use cases nobody has to ask the registry
    for route, allowed in ALLOWED.items():
        method, _, path = route.partition(" ")
        path = path.replace("{", "").replace("}", "")
        for key in (None, "wrong", KEYS[KeyRole.ADMIN][0][:-1], ""):
            status = client.request(method, path, headers={"X-API-Key": key} if key is not None else {}).status_code
            assert (status == 401) == (allowed != {"open"}), (route, key, status)
        for role in KeyRole:
            answer = client.request(method, path, headers=header(role))
            is_open = allowed == {"open"} or role.value in allowed
            assert (answer.status_code not in GATE) == is_open, (route, role, answer.text)
            if not is_open:
                assert answer.json()["error"]["code"] == "wrong_role"


@pytest.mark.parametrize(
    ("host", "peer", "code"),
    [
        ("127.0.0.1", "192.0.2.7", "keys_needed"),
        ("line.example", "127.0.0.1", "foreign_host"),
    ],
)
def test_without_keys_only_this_machine_is_served(opened, host: str, peer: str, code: str):
    app = create_app(opened(keys=None, admin_key="adm"))
    with TestClient(app, base_url=f"http://{host}", client=(peer, 5000)) as foreign:
        answer = foreign.get("/runs")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5000)) as own:
        assert own.get("/runs").json() == []
        assert own.post("/review/steel/claim").json() == {"item": None}
        assert own.post("/retrain", json={"use_case": "steel"}).status_code == 401
        assert own.post("/retrain", json={"use_case": "steel"}, headers={"X-API-Key": "adm"}).status_code == 202
