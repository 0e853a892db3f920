"""Query parameters that a route does not have."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from deploy.http.gate import WEBSOCKET
from deploy.serving.middleware.access import ROLES
from tests.serving.conftest import KEY

ROUTES = [route for route in ROLES if route != "GET /openapi.json"]
"""All but the one that is FastAPI's own."""


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.startswith(WEBSOCKET)])
def test_every_route_refuses_a_parameter_that_it_does_not_have(client: TestClient, route: str):
    method, _, path = route.partition(" ")
    answer = client.request(
        method, path.format(name="cells", version="1"), params={"zzzz": "1"}, headers={"X-API-Key": KEY}
    )
    assert answer.status_code == 422
    error = answer.json()["error"]
    message = error if path.startswith("/v2") else error["message"]  # the protocol has a form of its own
    assert "unknown query parameter 'zzzz'; " in message
    if not path.startswith("/v2"):
        assert error["code"] == "bad_parameter"


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/predict?confidence=0.4", "unknown query parameter 'confidence'; did you mean 'conf'?"),
        ("/predict?conf=0.4&Model=cells", "unknown query parameter 'Model'; did you mean 'model'?"),
        ("/predict?threshold=", "unknown query parameter 'threshold'; known: "),
        ("/explain?girds=4", "unknown query parameter 'girds'; did you mean 'grid'?"),
        ("/predict?%00%FF=1", "unknown query parameter "),
    ],
)
def test_the_nearest_parameter_is_named(client: TestClient, red_cell: bytes, path: str, advice: str):
    answer = client.post(path, files={"file": red_cell})
    assert answer.status_code == 422
    assert advice in answer.json()["error"]["message"]


def test_a_path_without_parameters_says_so(client: TestClient):
    assert client.get("/health?verbose=1").json()["error"]["message"] == (
        "/health: unknown query parameter 'verbose'; this path takes none"
    )


def test_known_parameters_and_headers_of_ones_own_are_taken(client: TestClient, red_cell: bytes):
    answer = client.post("/predict?conf=0.4&iou=0.5&model=cells", files={"file": red_cell}, headers={"X-Own": "1"})
    assert answer.status_code == 200
    assert client.get("/stream?conf=0.4&model=cells").status_code == 426


def test_the_document_of_every_route_has_the_refusal(client: TestClient):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            assert "422" in operation["responses"], path


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/predct", 404, "GET /predct: Not Found; did you mean /predict? GET /openapi.json lists what there is"),
        ("GET", "/zzzzzzzzzzzz", 404, "GET /zzzzzzzzzzzz: Not Found; GET /openapi.json lists what there is"),
        ("GET", "/predict", 405, "GET /predict: Method Not Allowed; use POST"),
        ("DELETE", "/model", 405, "DELETE /model: Method Not Allowed; use GET"),
    ],
)
def test_a_wrong_path_or_method_is_answered_with_the_right_one(
    client: TestClient, method: str, path: str, status: int, words: str
):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, words)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"files": {"image": b"x"}}, "the form has no file named 'file', but 'image': curl -F file=@part.jpg …"),
        ({"files": {"file": (None, "part.jpg")}}, "the form has a text named 'file', which must be a file: curl -F"),
    ],
)
def test_a_form_with_another_field_is_told_what_it_has(client: TestClient, form: dict[str, object], words: str):
    answer = client.post("/predict", **form)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(words)
