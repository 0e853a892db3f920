"""Answers and refusals of the server."""

from __future__ import annotations

import base64
import inspect
import json
import logging
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.http.logs import JsonLines
from deploy.serving.app import create_app
from deploy.serving.models.registry import Models
from tests.helpers.bundles import encode, make_bundle, picture
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from visionops.inference.bundle import BundleCard, ModelBundle
from visionops.inference.predictor import Predictor


def send(client: TestClient, data: bytes, **query: object):
    return client.post("/predict", files={"file": ("part.png", data)}, params=query)


def error_of(response) -> str:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert "\n" not in body["error"]["message"]
    return body["error"]["code"]


def metric(client: TestClient, line: str) -> float:
    for text in client.get("/metrics").text.splitlines():
        if text.startswith(line + " "):
            return float(text.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {line}")


def reload(client: TestClient, bundle: Path, *, key: str = KEY, **changes: object):
    order = {"bundle": str(bundle), "name": "cells", "version": "2", "alias": "champion"} | changes
    return client.post("/reload", json=order, headers={"X-API-Key": key} if key else {})


# Answers


def test_predict_answers_in_the_promised_shape(client: TestClient, red_cell: bytes):
    response = send(client, red_cell)
    assert response.status_code == 200
    body = response.json()
    timing = body.pop("timing_ms")
    assert body == {
        "model": {"name": "cells", "version": "1", "alias": "champion"},
        "image": {"width": 128, "height": 128},
        "detections": [{"class_id": 0, "class_name": "red", "confidence": 1.0, "box": [64.0, 32.0, 96.0, 64.0]}],
    }
    assert set(timing) == {"decode", "preprocess", "inference", "postprocess", "total"}
    assert all(value >= 0 for value in timing.values())


def test_an_empty_image_has_no_detections(client: TestClient):
    assert send(client, encode(picture())).json()["detections"] == []


def test_confidence_of_the_request_wins(client: TestClient):
    faint = picture()
    faint[:32, :32, 0] = 140  # scores 2 * 140 / 255 - 1 = 0.098
    assert send(client, encode(faint)).json()["detections"] == []
    assert len(send(client, encode(faint), conf=0.05).json()["detections"]) == 1


def test_confidence_of_the_server_wins_over_the_bundle(bundle: Path, red_cell: bytes):
    with client_of(settings_of(bundle, confidence=1.0, iou=0.5)) as client:
        assert send(client, red_cell).json()["detections"] == []
        assert client.get("/model").json()["thresholds"] == {"confidence": 1.0, "iou": 0.5, "max_detections": 300}


def test_model_shows_the_card(client: TestClient, bundle: Path):
    card = client.get("/model").json()
    assert card["classes"] == ["red", "green", "blue"]
    assert card["metrics"] == {"map50": 0.9}
    assert card["digest"] == ModelBundle.load(bundle).digest
    assert (card["precision"], card["engine"], card["version"]) == ("f32", "openvino", "1")
    assert card["preprocessing"]["width"] == 128


def test_health_and_ready(client: TestClient):
    assert client.get("/health").json() == {"status": "live"}
    assert client.get("/ready").json()["model"]["version"] == "1"


def test_without_a_model_it_lives_but_is_not_ready(red_cell: bytes):
    with client_of(settings_of(None)) as client:
        assert client.get("/health").status_code == 200
        for response in (client.get("/ready"), client.get("/model"), send(client, red_cell)):
            assert response.status_code == 503
            assert error_of(response) == "no_model"
        assert "visionops_model_info{" not in client.get("/metrics").text
        assert metric(client, "visionops_ready") == 0


def test_the_schema_names_the_file_field(client: TestClient):
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["required"] == ["file"]


FORM = "multipart/form-data; boundary=x"


def form_of(data: bytes, *dispositions: str) -> bytes:
    return b"".join(f"--x\r\n{d}\r\n\r\n".encode() + data + b"\r\n" for d in dispositions) + b"--x--\r\n"


@pytest.mark.parametrize(
    "disposition",
    [
        "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''na%C3%AFve.jpg",
        "content-disposition: form-data; filename*=utf-8'de'gr%C3%B6%C3%9Fe.png; name=file",
        "Content-Disposition: form-data; name=\"file\"; FileName*=iso-8859-1''na%EFve.jpg",
        "Content-Disposition: form-data; name=\"file\"; filename*0*=UTF-8''na%C3; filename*1*=%AFve.jpg",
        'Content-Disposition: form-data; name="file"; filename="a.jpg"; filename*=UTF-8\'\'b.jpg',
        "Content-Disposition: form-data; name=\"file\" ; filename* = UTF-8''b.jpg",
    ],
)
def test_a_file_may_be_named_beyond_ascii(client: TestClient, red_cell: bytes, disposition: str):
    answer = client.post("/predict", content=form_of(red_cell, disposition), headers={"Content-Type": FORM})
    assert answer.status_code == 200, answer.text
    files = disposition.replace("=file", "=files").replace('"file"', '"files"')
    body = form_of(red_cell, files, files)
    answer = client.post("/predict/batch", content=body, headers={"Content-Type": FORM})
    assert ["error" not in result for result in answer.json()["results"]] == [True, True]


@pytest.mark.parametrize("value", ["file; filename*=UTF-8''a", "file\\\"; filename*=UTF-8''a"])
def test_a_quoted_parameter_is_not_a_file_name(client: TestClient, red_cell: bytes, value: str):
    body = form_of(red_cell, f'Content-Disposition: form-data; name="{value}"')
    answer = client.post("/predict", content=body, headers={"Content-Type": FORM})
    assert (answer.status_code, error_of(answer)) == (422, "missing_file")


# Refusals


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"not an image at all", 422, "not_an_image"),
        (encode(picture([("red", 2, 1)]), "PNG")[:150], 422, "truncated"),
        (encode(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8), "BMP"), 413, "upload_too_large"),
    ],
)
def test_bad_images_are_refused(client: TestClient, data: bytes, status: int, code: str):
    response = send(client, data)
    assert (response.status_code, error_of(response)) == (status, code)
    assert metric(client, f'visionops_rejected_total{{reason="{code}"}}') == 1


def test_a_huge_canvas_is_refused_before_decoding(client: TestClient):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    response = send(client, b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")))
    assert (response.status_code, error_of(response)) == (413, "too_many_pixels")


def test_a_body_of_undeclared_length_is_cut_off_at_the_limit(client: TestClient):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(1000):
            sent += 1
            yield b"0" * 10_000

    response = client.post("/predict", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (response.status_code, error_of(response)) == (413, "upload_too_large")


@pytest.mark.parametrize("query", ["conf=1.5", "conf=-0.1", "iou=2", "iou=x", "conf=nan", "conf=inf"])
def test_thresholds_out_of_range_are_refused(client: TestClient, red_cell: bytes, query: str):
    response = client.post(f"/predict?{query}", files={"file": red_cell})
    assert (response.status_code, error_of(response)) == (422, "bad_parameter")
    assert query.partition("=")[0] in response.json()["error"]["message"]


def test_a_form_without_the_file_is_refused(client: TestClient, red_cell: bytes):
    for form in ({"files": {"image": red_cell}}, {"files": {"file": (None, "text")}}):
        response = client.post("/predict", **form)
        assert (response.status_code, error_of(response)) == (422, "missing_file")


def test_two_files_are_refused(client: TestClient, red_cell: bytes):
    response = client.post("/predict", files=[("file", red_cell), ("file", red_cell)])
    assert (response.status_code, error_of(response)) == (422, "bad_form")


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG; q=1", "application/octet-stream"])
def test_the_image_may_be_the_body(client: TestClient, red_cell: bytes, kind: str):
    response = client.post("/predict", content=red_cell, headers={"Content-Type": kind})
    assert response.status_code == 200
    assert response.json()["detections"] == send(client, red_cell).json()["detections"]
    large = client.post("/predict", content=bytes(20_000_001), headers={"Content-Type": kind})
    assert (large.status_code, error_of(large)) == (413, "upload_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(client: TestClient, red_cell: bytes, kind: str):
    response = client.post("/predict", content=red_cell, headers={"Content-Type": kind})
    assert (response.status_code, error_of(response)) == (415, "unsupported_media_type")


def test_a_form_without_boundary_is_refused(client: TestClient):
    response = client.post("/predict", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (response.status_code, error_of(response)) == (422, "bad_form")


def test_unknown_routes_and_methods_answer_in_the_same_form(client: TestClient):
    assert error_of(client.get("/nowhere")) == "not_found"
    assert error_of(client.get("/predict")) == "method_not_allowed"
    assert metric(client, 'visionops_requests_total{route="unmatched",status="404"}') == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=st.binary(max_size=300), head=st.sampled_from([b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data"]))
def test_no_body_brings_it_down(client: TestClient, body: bytes, head: bytes):
    response = client.post("/predict", content=head + body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert 400 <= response.status_code < 500
    error_of(response)


def test_an_unforeseen_error_shows_no_trace(
    client: TestClient, red_cell: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Models, "predict", lambda *_, **__: 1 / 0)
    logging.getLogger("visionops").propagate = True
    with caplog.at_level(logging.INFO):
        response = client.post("/predict", files={"file": red_cell}, headers={"X-Request-ID": "abc-1"})
    assert (response.status_code, error_of(response)) == (500, "internal_error")
    assert "ZeroDivision" not in response.text
    assert "abc-1" in response.text
    assert any(r.getMessage() == "unhandled_error" and r.exc_info for r in caplog.records)
    assert metric(client, 'visionops_requests_total{route="/predict",status="500"}') == 1


# Metrics and logs


def test_metrics_count_requests_and_detections(client: TestClient, red_cell: bytes):
    send(client, red_cell)
    send(client, red_cell)
    assert metric(client, 'visionops_requests_total{route="/predict",status="200"}') == 2
    assert metric(client, 'visionops_predictions_total{class="red",model="cells"}') == 2
    assert metric(client, 'visionops_inference_duration_seconds_count{model="cells"}') == 2
    assert metric(client, 'visionops_request_duration_seconds_count{route="/predict"}') == 2


def test_two_applications_do_not_share_counts(client: TestClient, bundle: Path, red_cell: bytes):
    send(client, red_cell)
    with client_of(settings_of(bundle)) as other:
        assert 'route="/predict"' not in other.get("/metrics").text


def test_a_request_id_is_kept_when_it_is_harmless(client: TestClient):
    assert client.get("/health", headers={"X-Request-ID": "run-7"}).headers["x-request-id"] == "run-7"
    for hostile in ("a b", "x" * 65, '"}'):
        assert client.get("/health", headers={"X-Request-ID": hostile}).headers["x-request-id"] != hostile


def test_log_lines_are_json_without_image_or_key(client: TestClient, other_bundle, red_cell, caplog):
    logging.getLogger("visionops").propagate = True
    with caplog.at_level(logging.INFO):
        send(client, red_cell)
        reload(client, other_bundle)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name.startswith("visionops")]
    predict = next(line for line in lines if line.get("route") == "/predict")
    assert predict["status"] == 200
    assert predict["version"] == "1"
    assert predict["found"] == 1
    assert KEY not in json.dumps(lines)


# Reload


def test_reload_switches_the_model(client: TestClient, other_bundle: Path, red_cell: bytes):
    response = reload(client, other_bundle, smoke=[base64.b64encode(red_cell).decode()], alias="challenger")
    assert response.status_code == 200, response.text
    assert send(client, red_cell).json()["model"] == {"name": "cells", "version": "2", "alias": "challenger"}
    info = [line for line in client.get("/metrics").text.splitlines() if line.startswith("visionops_model_info{")]
    assert len(info) == 1
    assert 'version="2"' in info[0]


def test_reload_changes_engine_and_limits(client: TestClient, bundle: Path, red_cell: bytes):
    response = reload(client, bundle, engine="onnxruntime", max_upload_bytes=100, confidence=0.5)
    assert response.status_code == 200, response.text
    assert response.json()["engine"] == "onnxruntime"
    assert send(client, red_cell).status_code == 413


def test_reload_gives_readiness_to_an_empty_server(bundle: Path, red_cell: bytes):
    with client_of(settings_of(None)) as client:
        assert reload(client, bundle).status_code == 200
        assert send(client, red_cell).status_code == 200


def test_reload_needs_the_key(client: TestClient, other_bundle: Path):
    for key in ("", "wrong", KEY + "x"):
        response = reload(client, other_bundle, key=key)
        assert (response.status_code, error_of(response)) == (401, "wrong_key")
        assert "it is the value of VISIONOPS_ADMIN_KEY" in response.json()["error"]["message"]
    assert client.get("/model").json()["version"] == "1"


def test_reload_is_refused_without_a_configured_key(bundle: Path):
    with client_of(settings_of(bundle, admin_key=None)) as client:
        response = reload(client, bundle)
    assert (response.status_code, error_of(response)) == (403, "admin_disabled")
    assert "VISIONOPS_ADMIN_KEY" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"bundle": "/x"}', b'{"bundle":"/x","name":"a","version":"1","smoke":["a"]}']
)
def test_a_malformed_order_is_refused(client: TestClient, body: bytes):
    response = client.post("/reload", content=body, headers={"X-API-Key": KEY})
    assert (response.status_code, error_of(response)) == (422, "bad_reload")


def corrupt(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")


def not_a_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")
    seal(folder)


def scores_above_one(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    bias = next(i for i in model.graph.initializer if i.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, 7.0, np.float32), "bias"))
    onnx.save(model, folder / "model.onnx")
    seal(folder)


def seal(folder: Path) -> None:
    card = BundleCard.model_validate_json((folder / "bundle.json").read_text())
    ModelBundle.create(folder, card)


@pytest.mark.parametrize(
    ("damage", "refusals"),
    [
        (corrupt, {(422, "bad_bundle")}),
        (not_a_graph, {(422, "bad_bundle"), (409, "smoke_test_failed")}),
        (scores_above_one, {(409, "smoke_test_failed")}),
        (shutil.rmtree, {(422, "bad_bundle")}),
    ],
)
def test_a_bad_bundle_is_refused_and_the_old_model_answers_on(
    client: TestClient, tmp_path: Path, red_cell: bytes, damage, refusals: set[tuple[int, str]]
):
    folder = make_bundle(tmp_path / "bad").folder
    damage(folder)
    response = reload(client, folder)
    assert (response.status_code, error_of(response)) in refusals
    assert send(client, red_cell).json()["model"]["version"] == "1"


def test_a_smoke_image_that_cannot_be_answered_refuses_the_model(client: TestClient, other_bundle: Path):
    response = reload(client, other_bundle, smoke=[base64.b64encode(b"no image").decode()])
    assert (response.status_code, error_of(response)) == (409, "smoke_test_failed")
    assert client.get("/model").json()["version"] == "1"


def test_reload_tries_the_smoke_images_of_the_server_unless_it_brings_its_own(
    bundle: Path, tmp_path: Path, red_cell: bytes
):
    (tmp_path / "image").write_bytes(b"no image")
    with client_of(settings_of(None, smoke_images=tmp_path)) as client:
        response = reload(client, bundle)
        assert (response.status_code, error_of(response)) == (409, "smoke_test_failed")
        assert client.get("/ready").status_code == 503
        assert reload(client, bundle, smoke=[base64.b64encode(red_cell).decode()]).status_code == 200


def test_an_engine_that_fails_in_its_own_way_refuses_the_model(client, other_bundle: Path, monkeypatch):
    def explode(*_):
        raise RuntimeError("engine\nexploded")

    monkeypatch.setattr(Predictor, "prove", explode)
    response = reload(client, other_bundle)
    assert (response.status_code, error_of(response)) == (409, "smoke_test_failed")
    assert "engine exploded" in response.json()["error"]["message"]


def test_requests_in_flight_end_on_the_model_they_took(client: TestClient, other_bundle, red_cell, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    predict = Models.predict

    def wait_for_swap(*arguments, **options):
        started.set()
        assert go_on.wait(180)
        return predict(*arguments, **options)

    monkeypatch.setattr(Models, "predict", wait_for_swap)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(send, client, red_cell)
        assert started.wait(180)
        assert reload(client, other_bundle).status_code == 200
        go_on.set()
        assert early.result(30).json()["model"]["version"] == "1"
    assert send(client, red_cell).json()["model"]["version"] == "2"


def test_no_dependency_of_a_route_takes_a_thread():
    """FastAPI runs a dependency that is a plain function on a thread: two hops cost 320 px images 2 % of the CPU."""
    app = create_app(settings_of(None))
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    of_ours = [route.dependant for route in routes if hasattr(route, "dependant")]
    dependants = [dependant for one in of_ours for dependant in one.dependencies]
    assert len(dependants) >= 3
    assert [one.call for one in dependants if not inspect.iscoroutinefunction(one.call)] == []
