"""The OpenAPI document matches the server's behaviour."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import openapi
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from deploy.http.errors import ApiError, MethodNotAllowed
from deploy.http.gate import WEBSOCKET
from deploy.serving.app import create_app
from deploy.serving.middleware.access import PROBES, ROLES
from deploy.serving.routes.deadline import DEADLINE_HEADER
from deploy.serving.routes.tensors import HEADER_LENGTH
from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from tests.serving.test_main import server
from visionops.inference.bundle import Head

EXAMPLES = int(os.environ.get("VISIONOPS_OPENAPI_EXAMPLES", "3"))
"""Number of generated requests per route, in addition to those at every parameter's bounds."""

DOCUMENT = create_app(settings_of(None)).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
RIGHT = {"name": "cells", "version": "1"}
INFER = "/v2/models/{name}/infer"
RED = encode(picture([("red", 2, 1)]))


def line_of(key: str) -> str:
    """Path of a file of keys."""
    return f"tests admin sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """A server process with one key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VISIONOPS_API_KEYS", line_of(KEY))
        arguments = ("--bundle", str(bundle), "--name", "cells", "--version", "1", "--streams", "2")
        with server(*arguments) as (_, port, _log):
            yield port


# Made-up requests

FILES = st.sampled_from([RED, RED[:150], RED[:-20]]) | st.binary(max_size=64)
for kind in ("image/*", "application/octet-stream"):
    openapi.media_type(kind, FILES)
schema = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig(seed=1))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_every_answer_is_documented(case: schemathesis.Case, port: int):
    for name, made_up in case.path_parameters.items():
        # A generated name never matches a model.
        if len(str(made_up)) % 4:
            case.path_parameters[name] = RIGHT[name]
    answer = case.call(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}, timeout=20)
    # Nor is it an image.
    excluded = [checks.positive_data_acceptance]
    if answer.status_code == 503:
        # Few made-up deadlines can be met.
        assert DEADLINE_HEADER in (case.headers or {})
        assert "the deadline" in answer.text
        excluded.append(not_a_server_error)
    else:
        assert answer.status_code < 500
    case.validate_response(answer, headers={"X-API-Key": KEY}, excluded_checks=excluded)


# Refusals that no made-up request meets

DOCUMENTED = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
UNDOCUMENTED = {"GET /openapi.json", "GET /docs", "GET /favicon.ico"}
WITHOUT_A_MODEL = {
    "GET /", "GET /health", "GET /metrics", "GET /models", "GET /stream", "GET /v2", "GET /v2/health/live",
    "POST /feedback", "POST /reload", "POST /unload",
}  # fmt: skip


def call(client: TestClient, route: str, **more: Any):
    """Check that a response matches the document."""
    method, _, path = route.partition(" ")
    answer = client.request(method, path.format_map(RIGHT), **more)
    case = schema[path][method].Case(path_parameters=RIGHT if "{" in path else {}, method=method)
    case.validate_response(answer, checks=DOCUMENTED)
    return answer


def test_the_document_has_every_route_and_every_refusal():
    files = {route for route in ROLES if route.startswith("GET /assets/")}
    # A WebSocket stands there as the GET that opens it.
    routes = {route for route in ROLES if not route.startswith(WEBSOCKET)}
    assert set(OPERATIONS) == routes - UNDOCUMENTED - files
    documented = {int(status) for operation in OPERATIONS.values() for status in operation["responses"]}

    def refusals(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        yield kind
        for narrower in kind.__subclasses__():
            yield from refusals(narrower)

    assert {kind.status for kind in refusals(ApiError) if kind is not MethodNotAllowed} <= documented


def test_what_the_document_says_of_keys_and_rates_is_so(bundle: Path):
    # Each route has its own key, and so its own window.
    lines = "\n".join(line_of(route).replace("tests", str(n)) for n, route in enumerate(OPERATIONS))
    with client_of(settings_of(bundle, api_keys=lines, rate="1/hour")) as client:
        for route, operation in OPERATIONS.items():
            is_open = operation["security"] == []
            assert call(client, route).status_code == (200 if is_open else 401)
            first, second = (call(client, route, headers={"X-API-Key": route}) for _ in range(2))
            is_limited = route.partition(" ")[2] not in PROBES
            assert ("429" in operation["responses"]) == is_limited
            assert first.status_code not in {401, 403, 429}
            if is_limited:
                assert second.status_code == 429
                assert int(second.headers["Retry-After"]) > 0
                done = next(status for status in ("200", "202", "426") if status in operation["responses"])
                refused, answered = (map(str.lower, operation["responses"][s]["headers"]) for s in ("429", done))
                assert set(refused) <= set(second.headers)
                assert set(answered) - {HEADER_LENGTH.lower()} <= set(first.headers)


def test_refusals_of_a_server_without_a_model_are_documented():
    with client_of(settings_of(None)) as client:
        client.headers["X-API-Key"] = KEY
        refused = {route for route in OPERATIONS if call(client, route).status_code == 503}
    assert refused == set(OPERATIONS) - WITHOUT_A_MODEL


def test_what_is_too_large_is_refused_as_documented(bundle: Path):
    with client_of(settings_of(bundle, max_upload_bytes=100, max_batch_bytes=100)) as client:
        client.headers["X-API-Key"] = KEY
        for route, form in (("POST /predict", "file"), ("POST /explain", "file"), ("POST /predict/batch", "files")):
            assert call(client, route, files={form: bytes(100_000)}).status_code == 413
        for route in (f"POST {INFER}", "POST /unload"):
            assert call(client, route, content=bytes(20_000)).status_code == 413


def test_a_model_without_room_is_refused_as_documented(bundle: Path):
    with client_of(settings_of(None, max_memory_mb=1)) as client:
        order = {"bundle": str(bundle), "name": "cells", "version": "2"}
        assert call(client, "POST /reload", json=order, headers={"X-API-Key": KEY}).status_code == 507


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"HELO\r\n\r\n", 400, "bad_http"),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX-Much: " + b"a" * 40_000 + b"\r\n\r\n", 431, "head_too_large"),
    ],
)
def test_malformed_requests_are_answered_as_documented(port: int, head: bytes, status: int, code: str):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read())
    assert (response.status, response.getheader("Content-Type")) == (status, "application/json")
    assert body["error"]["code"] == code
    for operation in OPERATIONS.values():
        validate(operation["responses"][str(status)]["content"]["application/json"]["schema"], body)


# Answers


def test_answers_in_every_form_are_documented(client: TestClient):
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3], "data": [255, 0, 0] * 4}
    mixed = {
        "inputs": [pixels],
        "outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "boxes"}],
    }
    for route, more, kind in (
        ("POST /explain", {"params": {"grid": 2}, "files": {"file": RED}}, "image/png"),
        ("POST /explain", {"params": {"grid": 2, "format": "json"}, "files": {"file": RED}}, "application/json"),
        (f"POST {INFER}", {"json": mixed}, "application/octet-stream"),
        (f"POST {INFER}", {"json": {"inputs": [pixels]}}, "application/json"),
        ("GET /", {}, "application/json"),
        ("GET /", {"headers": {"Accept": "text/html"}}, "text/html; charset=utf-8"),
    ):
        answer = call(client, route, **more)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
        if HEADER_LENGTH in answer.headers:
            schema_of = OPERATIONS[route]["responses"]["200"]["content"]["application/json"]["schema"]
            validate(schema_of, json.loads(answer.content[: int(answer.headers[HEADER_LENGTH])]))


# Examples


def validate(part: Mapping[str, Any], value: object) -> None:
    """Raise if ``value`` does not match the schema ``part`` of the document."""
    Draft202012Validator({**part, "components": DOCUMENT["components"]}).validate(value)


def examples(route: str, status: str = "") -> dict[str, Any]:
    """Return the examples of the response or of the body by name."""
    operation = OPERATIONS[route]
    part = operation["responses"][status] if status else operation["requestBody"]
    content = part["content"]["application/json"]
    found = {name: each["value"] for name, each in content.get("examples", {}).items()}
    found |= {"": content["example"]} if "example" in content else {}
    for value in found.values():
        validate(content["schema"], value)
    return found


NOW_AND_THEN = {"last_failure", "last_return"}


def form(value: object) -> object:
    """Return names and types; for a list those of its elements, for a mapping by numbers nothing."""
    match value:
        case dict():
            if all(map(str.isdigit, value)):
                return "by number"
            # FastAPI takes what is null out of its document, examples too.
            return {k: form(v) for k, v in value.items() if v is not None and k not in NOW_AND_THEN}
        case list():
            return sorted({json.dumps(form(each), sort_keys=True) for each in value})
        case bool() | str():
            return type(value).__name__
        case _:
            return "number"


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector like that of the examples."""
    folder = tmp_path_factory.mktemp("steel") / "bundle"
    classes = ["crazing", "inclusion", "scratches"]
    return make_bundle(folder, class_names=classes, metrics={"map50": 0.9}).folder


def test_examples_are_what_a_detector_answers(steel: Path):
    def is_as_shown(route: str, answer: Any, example: str = "") -> None:
        assert answer.status_code == 200, answer.text
        assert form(answer.json()) == form(examples(route, "200")[example])

    with client_of(settings_of(steel, name="steel", version="3")) as client:
        client.headers["X-API-Key"] = KEY
        bodies = {route: examples(route)[""] for route in ("POST /reload", "POST /unload", f"POST {INFER}")}
        is_as_shown("GET /ready", client.get("/ready"))
        is_as_shown("GET /model", client.get("/model"))
        is_as_shown("GET /models", client.get("/models"))
        is_as_shown("GET /v2/models/{name}", client.get("/v2/models/steel"))
        is_as_shown("POST /predict", client.post("/predict", files={"file": RED}), "detection")
        is_as_shown("POST /explain", client.post("/explain", params={"format": "json", "grid": 2}, files={"file": RED}))
        upload = [("files", RED), ("files", RED[:150])]
        is_as_shown("POST /predict/batch", client.post("/predict/batch", files=upload))
        is_as_shown(f"POST {INFER}", client.post("/v2/models/steel/infer", json=bodies[f"POST {INFER}"]))
        order = bodies["POST /reload"] | {"bundle": str(steel)}
        is_as_shown("POST /reload", client.post("/reload", json=order))
        canary = client.post("/reload", json=order | {"role": "canary", "share": 0.5, "version": "5"})
        assert canary.json()["role"] == "canary"
        assert set(client.get("/models").json()[0]["roles"]) == {"champion", "canary"}
        is_as_shown("GET /", client.get("/"))
        is_as_shown("GET /release", client.get("/release"))
        is_as_shown("POST /unload", client.post("/unload", json=bodies["POST /unload"]))


@pytest.mark.parametrize(("example", "heads"), [("classification", ["class"]), ("attributes", ["surface"])])
def test_examples_are_what_labels_answer(tmp_path: Path, example: str, heads: list[str]):
    folder = make_label_bundle(
        tmp_path / "bundle", heads=[Head(name=name, class_names=("ok", "defective")) for name in heads], task=example
    ).folder
    with client_of(settings_of(folder)) as client:
        answer = client.post("/predict", content=encode(filled((0, 255, 0))), headers={"Content-Type": "image/png"})
    assert form(answer.json()) == form(examples("POST /predict", "200")[example])
