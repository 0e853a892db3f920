"""Query parameters that a route of the control service does not have."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from deploy.control.access import ROLES
from deploy.control.app import create_app
from deploy.control.routes.context import Control
from deploy.http.keys import KeyRole
from tests.control.conftest import header

ROUTES = [route for route in ROLES if route != "GET /openapi.json"]
"""All but the one that is FastAPI's own."""


@pytest.fixture
def client(opened: Callable[..., Control]) -> TestClient:
    return TestClient(create_app(opened()), base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_refuses_a_parameter_that_it_does_not_have(client: TestClient, route: str):
    method, _, path = route.partition(" ")
    answer = client.request(
        method, re.sub(r"\{\w+\}", "steel", path), params={"zzzz": "1"}, headers=header(KeyRole.ADMIN)
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_parameter")
    assert "unknown query parameter 'zzzz'; " in answer.json()["error"]["message"]


def test_the_nearest_parameter_is_named(client: TestClient):
    answer = client.get("/review/items?use-case=steel", headers=header(KeyRole.REVIEW))
    assert "unknown query parameter 'use-case'; did you mean 'use_case'?" in answer.json()["error"]["message"]
    assert client.get("/review/items?use_case=steel", headers=header(KeyRole.REVIEW)).status_code == 200
