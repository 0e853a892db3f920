"""`POST /explain`: a picture or the numbers, one image at a time, without delaying predictions."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.serving.routes import explaining, schemas
from tests.helpers.bundles import encode, make_label_bundle, picture
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import error_of, metric, send


def explain(client: TestClient, data: bytes, accept: str = "*/*", **query: object):
    return client.post("/explain", files={"file": ("part.png", data)}, params=query, headers={"Accept": accept})


def test_a_picture_shows_where_the_detector_looked(client: TestClient, red_cell: bytes):
    response = explain(client, red_cell)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(response.content))).astype(int)
    assert drawn.shape == (128, 128, 3)
    colour = np.ptp(drawn, axis=2)
    assert colour[40:56, 72:88].min() > 50
    assert colour[100:].max() < 10


def test_numbers_come_with_the_answer(client: TestClient, red_cell: bytes):
    body = explain(client, red_cell, format="json", grid=4).json()
    schemas.explain_response().model_validate(body)
    assert body["detections"] == send(client, red_cell).json()["detections"]
    assert body["saliency"]["box"] == [0, 0, 128, 128]
    grid = np.array(body["saliency"]["grid"])
    assert grid.shape == (4, 4)
    assert np.unravel_index(grid.argmax(), grid.shape) == (1, 2)
    assert body["image"] == {"width": 128, "height": 128}
    assert body["timing_ms"]["total"] > 0


def test_a_classifier_is_explained_alike(tmp_path: Path, red_cell: bytes):
    with client_of(settings_of(make_label_bundle(tmp_path / "labels").folder)) as client:
        body = explain(client, red_cell, format="json", grid=4).json()
        assert body["classification"]["class_name"] == "red"
        grid = np.array(body["saliency"]["grid"])
        assert np.unravel_index(grid.argmax(), grid.shape) == (1, 2)
        assert explain(client, red_cell).headers["content-type"] == "image/png"
        assert metric(client, 'visionops_requests_total{route="/explain",status="200"}') == 2
        assert 'visionops_predictions_total{class="red"' not in client.get("/metrics").text


@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        ("*/*", {}, "image/png"),
        ("application/json", {}, "application/json"),
        ("image/png,application/json", {}, "image/png"),
        ("application/json;q=0.9, text/plain", {}, "application/json"),
        ("application/json", {"format": "png"}, "image/png"),
        ("image/png", {"format": "json"}, "application/json"),
    ],
)
def test_the_form_is_chosen_by_query_or_accept(client: TestClient, red_cell: bytes, accept: str, query, kind: str):
    assert explain(client, red_cell, accept, grid=2, **query).headers["content-type"] == kind


def test_a_large_image_comes_back_small(client: TestClient):
    large = encode(picture([("red", 2, 1)], width=1200, height=300))
    with Image.open(io.BytesIO(explain(client, large, grid=2).content)) as image:
        assert image.size == (1024, 256)
    assert explain(client, large, grid=2, format="json").json()["saliency"]["box"] == [0, 0, 1200, 300]


def test_confidence_of_the_request_counts(client: TestClient, red_cell: bytes):
    assert explain(client, red_cell, format="json", conf=1.0).json()["detections"] == []


@pytest.mark.parametrize(
    ("data", "query", "status", "code"),
    [
        (b"", {}, 422, "empty_file"),
        (b"text", {}, 422, "not_an_image"),
        (b"0" * 200_000, {}, 413, "upload_too_large"),
        (None, {"grid": 1}, 422, "bad_parameter"),
        (None, {"grid": 17}, 422, "bad_parameter"),
        (None, {"format": "gif"}, 422, "bad_parameter"),
        (None, {"conf": 2}, 422, "bad_parameter"),
    ],
)
def test_what_predict_refuses_is_refused(client: TestClient, red_cell: bytes, data, query, status: int, code: str):
    response = explain(client, red_cell if data is None else data, **query)
    assert (response.status_code, error_of(response)) == (status, code)
    assert metric(client, f'visionops_rejected_total{{reason="{code}"}}') == 1


def test_without_a_model_there_is_nothing_to_explain(red_cell: bytes):
    with client_of(settings_of(None)) as client:
        response = explain(client, red_cell)
        assert (response.status_code, error_of(response)) == (503, "no_model")
        assert "retry-after" not in response.headers


def test_one_at_a_time_and_answers_go_on(bundle: Path, red_cell: bytes, monkeypatch: pytest.MonkeyPatch):
    started, go_on = threading.Event(), threading.Event()
    respond = explaining._respond

    def wait(*arguments):
        started.set()
        assert go_on.wait(180)
        return respond(*arguments)

    monkeypatch.setattr(explaining, "_respond", wait)
    with client_of(settings_of(bundle, workers=1)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(explain, client, red_cell)
        try:
            assert started.wait(180)
            busy = explain(client, red_cell)
            assert (busy.status_code, error_of(busy)) == (503, "busy")
            assert busy.headers["retry-after"] == "1"
            # One worker, and it is free: an explanation has a thread of its own.
            assert send(client, red_cell).status_code == 200
        finally:
            go_on.set()
        assert first.result(30).status_code == 200
        assert explain(client, red_cell).status_code == 200


def test_the_turn_passes_on_after_a_refusal(client: TestClient, red_cell: bytes):
    assert explain(client, b"text").status_code == 422
    assert explain(client, red_cell).status_code == 200


def test_the_schema_has_both_forms(client: TestClient):
    operation = client.get("/openapi.json").json()["paths"]["/explain"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {"image/png", "application/json"}
    assert "503" in operation["responses"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["file"]
