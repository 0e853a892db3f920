"""Log lines, request ids, traces and security headers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.http.keys import Client, KeyRole, make_key
from deploy.http.logs import configure_logging
from deploy.serving.app import create_app
from tests.serving.conftest import KEY, TestClient, client_of, settings_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
ORIGIN = "http://hmi.example"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file that everything is logged to."""
    path = tmp_path / "log"
    configure_logging(path)
    logging.getLogger("visionops").setLevel(logging.DEBUG)
    return path


def lines(log: Path) -> Iterator[dict[str, object]]:
    return map(json.loads, log.read_text().splitlines())


def test_a_trace_is_kept_and_logged(client: TestClient, log: Path):
    answer = client.get("/models", headers={"traceparent": TRACE})
    assert answer.headers["traceparent"] == TRACE
    assert [line["trace_id"] for line in lines(log)] == [TRACE_ID]


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "x",
        TRACE.upper(),
        TRACE + "-00",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        TRACE + '"}',
    ],
)
def test_a_trace_that_is_none_is_dropped(client: TestClient, log: Path, trace: str):
    answer = client.get("/models", headers={"traceparent": trace})
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers
    assert [line for line in lines(log) if "trace_id" in line] == []


def test_no_line_has_a_key_an_image_a_name_of_a_file_or_a_query(log: Path, tmp_path: Path, red_cell: bytes):
    key, line = make_key(Client("line-3", KeyRole.PREDICT))
    keys = tmp_path / "keys"
    keys.write_text(line)
    secrets = [key, KEY, "wr0ng-k3y", "secret-part", "hidden", "secret-field", "evil"]
    broken = red_cell[:-20] + b"secret-bytes"
    secrets.append("secret-bytes")
    with TestClient(create_app(settings_of(None, keys=keys)), client=("192.0.2.7", 1)) as client:
        for headers in ({"X-API-Key": key}, {"X-API-Key": KEY}, {"Authorization": f"Bearer {key}"}, {}):
            for path in ("/predict", "/predict/batch", "/explain", "/v2/models/evil/infer", "/reload", "/evil"):
                for image in (red_cell, broken):
                    client.post(
                        path + "?conf=hidden&key=" + key,
                        files={"secret-field": ("secret-part.png", image)},
                        headers=headers,
                    )
                client.post(path, content=b"secret-bytes", headers=headers | {"Content-Type": "evil/x"})
        client.get("/models", headers={"X-API-Key": "wr0ng-k3y"})
    text = log.read_text()
    logged = list(lines(log))
    assert len(logged) == 4 * 6 * 3 + 1
    assert [secret for secret in secrets if secret in text] == []
    assert {"request_id", "method", "route", "status", "duration_ms"} <= set.intersection(*map(set, logged))
    assert {line.get("key") for line in logged} == {"line-3", "admin", None}, "the id of a key may be logged"


def test_a_served_image_leaves_numbers_only(client: TestClient, log: Path, red_cell: bytes):
    files = {"file": ("secret-part.png", red_cell)}
    assert client.post("/predict", files=files).status_code == 200
    assert client.post("/predict", files=files | {"file": ("secret-part.png", red_cell[:-30])}).status_code == 422
    first, second = lines(log)
    assert (first["status"], first["model"], first["found"], first["bytes"]) == (200, "cells", 1, len(red_cell))
    assert (second["status"], second["code"]) == (422, "truncated")
    assert "secret-part" not in log.read_text()


def test_every_answer_has_the_headers_of_security(bundle: Path, red_cell: bytes):
    with client_of(settings_of(bundle, rate="11/hour", cors_origins=ORIGIN)) as client:
        answers = [
            client.get("/health"),
            client.get("/models"),
            client.get("/metrics"),
            client.get("/openapi.json"),
            client.post("/predict", files={"file": red_cell}),
            client.post("/explain", files={"file": red_cell}),
            client.post("/predict", content=b"x", headers={"Content-Type": "image/png"}),
            client.post("/predict", content=b"x"),
            client.post("/v2/models/cells/infer", content=b"x"),
            client.get("/nowhere"),
            client.delete("/predict"),
            client.get("/models", headers={"Host": "evil.example"}),
            client.post("/reload"),
            client.options("/predict", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}),
            client.options("/predict", headers={"Origin": "http://evil", "Access-Control-Request-Method": "POST"}),
            *(client.get("/models") for _ in range(4)),
        ]
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {200, 400, 401, 403, 404, 405, 415, 422, 429}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


def test_a_browser_gets_in_from_configured_pages_only(bundle: Path, red_cell: bytes):
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    with client_of(settings_of(bundle)) as client:
        answer = client.options("/predict", headers=asks)
        assert answer.status_code in {403, 405}
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert client.post("/predict", files={"file": red_cell}, headers={"Origin": ORIGIN}).status_code == 403
    with client_of(settings_of(bundle, cors_origins=ORIGIN, rate="9/hour")) as client:
        answer = client.options("/predict", headers=asks)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        answer = client.post("/predict", files={"file": red_cell}, headers={"Origin": ORIGIN})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"x-request-id", "retry-after", "ratelimit-remaining"} <= set(exposed)
        refused = client.options("/predict", headers=asks | {"Origin": "http://evil.example"})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
