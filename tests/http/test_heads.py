"""HEAD is answered like GET, without a body."""

from __future__ import annotations

import http.client
from contextlib import closing
from pathlib import Path

import pytest

from deploy.serving.middleware.access import ROLES
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import metric
from tests.serving.test_main import server

PATHS = sorted(
    path.format(name="cells", version="1")
    for method, _, path in (route.partition(" ") for route in ROLES)
    if method == "GET"
)
SAME = {"content-type", "content-security-policy", "cache-control", "x-content-type-options"}


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(client: TestClient, path: str):
    got, head = client.get(path), client.head(path)
    status = 426 if path == "/stream" else 200
    assert (got.status_code, head.status_code) == (status, status)
    assert head.content == b""
    assert set(head.headers) == set(got.headers)
    assert {name: head.headers[name] for name in SAME} == {name: got.headers[name] for name in SAME}
    if path != "/metrics":  # which counts itself
        assert head.headers["content-length"] == str(len(got.content))


def test_statuses_and_keys_are_those_of_get(client: TestClient, tmp_path: Path):
    assert client.head("/absent").status_code == 404
    assert client.head("/ready?model=absent").status_code == client.get("/ready?model=absent").status_code == 404
    refused = client.head("/predict")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
    assert client.put("/ready").headers["allow"] == "GET, HEAD"
    with client_of(settings_of(None)) as empty:
        assert empty.head("/health").status_code == 200
        assert empty.head("/ready").status_code == 503
    with client_of(settings_of(None, api_keys="line predict sha256:" + "5" * 64)) as locked:
        assert locked.head("/health").status_code == 200
        assert locked.head("/models").status_code == locked.get("/models").status_code == 401


def test_heads_count_as_their_route(client: TestClient):
    client.head("/health")
    assert metric(client, 'visionops_requests_total{route="/health",status="200"}') == 1


def test_a_connection_goes_on_after_a_head(bundle: Path):
    command = ("--bundle", str(bundle), "--name", "cells", "--streams", "2")
    with server(*command) as (_, port, _line), closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for path in ("/ready", "/metrics", "/absent", "/v2/health/ready"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404 if path == "/absent" else 200, b"")
            assert int(answer.headers["Content-Length"]) > 0
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"live"}'
