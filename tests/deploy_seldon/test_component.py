"""Run Seldon's microservice: HTTP, gRPC and metrics of one model, in the environment of `make seldon`."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.helpers.bundles import encode, make_bundle, picture
from tests.helpers.programs import free_port, get, until
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor

PYTHON = ROOT / ".seldon" / "bin" / "python"
LIMIT = 60_000
PIXELS = 100_000
GRID = picture([("red", 2, 1), ("blue", 0, 0)])
PHOTO = encode(np.random.default_rng(5).integers(0, 256, (110, 150, 3), np.uint8), "JPEG")
"""Image of a size that must be scaled and padded."""
FAINT = 0.005
META = {"puid": "request-7", "tags": {"line": "4"}}

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="Seldon's wrapper has no environment here: make seldon")


@dataclasses.dataclass(frozen=True)
class Service:
    http: httpx.Client
    grpc: int
    metrics: int
    bundle: ModelBundle

    def predict(self, message: Any) -> httpx.Response:
        return self.http.post("/predict", json=message)

    def upload(self, image: bytes, field: str = "binData") -> httpx.Response:
        return self.http.post("/predict", files={field: ("part.png", image)})

    def ask(self, *messages: Any) -> list[dict[str, Any]]:
        """Over gRPC."""
        lines = "".join(json.dumps(message) + "\n" for message in messages)
        command = [PYTHON, Path(__file__).with_name("ask.py"), str(self.grpc)]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def counts(self) -> dict[tuple[str, ...], float]:
        """Metric and its own labels, to the sum of all processes."""
        own = ("class", "digest", "model", "name", "outcome", "reason", "stage", "version")
        found: dict[tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(get(self.metrics, "/metrics")[1].decode()):
            for sample in family.samples:
                key = (sample.name, *(sample.labels[label] for label in own if label in sample.labels))
                found[key] = found.get(key, 0) + sample.value
        return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("seldon")
    bundle = make_bundle(folder / "bundle")
    ports = free_port(), free_port(), free_port()
    names = ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "PREDICTIVE_UNIT_GRPC_SERVICE_PORT")
    variables = {
        **dict(zip((*names, "PREDICTIVE_UNIT_METRICS_SERVICE_PORT"), map(str, ports), strict=True)),
        "VISIONOPS_NAME": "cells",
        "VISIONOPS_VERSION": "2",
        "VISIONOPS_MAX_PIXELS": str(PIXELS),
        "VISIONOPS_HOST": "no setting of this wrapper's",
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(
            [
                {"name": "bundle", "value": str(bundle.folder), "type": "STRING"},
                {"name": "version", "value": "3", "type": "STRING"},
                {"name": "max_upload_bytes", "value": str(LIMIT), "type": "INT"},
            ]
        ),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "deploy.seldon"], cwd=ROOT, env=clean(variables), stdout=log, stderr=log
        )
    try:
        until(
            lambda: (
                all(get(ports[i], path)[0] == 200 for i, path in ((0, "/health/status"), (2, "/metrics")))
                or process.poll() is not None
            )
        )
        assert process.poll() is None, (folder / "log").read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=30) as http:
            yield Service(http, ports[1], ports[2], bundle)
        process.terminate()
        process.wait(60)
        until(lambda: not any(listens(port) for port in ports))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def over_grpc(service: Service) -> dict[str, dict[str, Any]]:
    """Answers over gRPC, all from one client process, because each takes a second to start."""
    png = text(encode(GRID))
    requests = {
        "binData": {"binData": png, "meta": META},
        "jsonData": {"jsonData": {"image": png}},
        "metadata": "metadata",
        "broken": {"binData": text(b"no image"), "meta": {"puid": "8"}},
        "nothing": {},
        "tensor": {"data": {"tensor": {"shape": [9], "values": [1]}}},
    }
    return dict(zip(requests, service.ask(*requests.values()), strict=True))


def listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def clean(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without our variables."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VISIONOPS_", "PYTHONPATH"))}
    return inherited | {"VISIONOPS_STREAMS": "1", "PYTHONPATH": str(ROOT)} | variables


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def body(response: httpx.Response) -> dict[str, Any]:
    """Return the answer of /predict, without parts that differ between calls."""
    assert response.status_code == 200, response.text
    answer = dict(response.json()["jsonData"])
    assert set(answer.pop("timing_ms")) == {"decode", "preprocess", "inference", "postprocess", "total"}
    return answer


def test_it_answers_what_our_server_answers_in_every_payload(service, over_grpc):
    ours = Predictor(service.bundle).predict(GRID)
    expected = {
        "model": {"name": "cells", "version": "3", "alias": ""},
        "image": {"width": 128, "height": 128},
        **ours.to_dict(),
    }
    assert [d["class_name"] for d in expected["detections"]] == ["blue", "red"]
    png = encode(GRID)
    assert body(service.upload(png)) == expected
    for message in (
        {"binData": text(png)},
        {"strData": text(png)},
        {"jsonData": {"image": text(png)}},
        {"data": {"ndarray": GRID.tolist()}},
    ):
        assert body(service.predict(message)) == expected, next(iter(message))
    for name in ("binData", "jsonData"):
        answer = dict(over_grpc[name]["jsonData"])
        del answer["timing_ms"]
        assert answer == expected, name


def test_predictions_are_those_of_our_environment_to_the_last_digit(service):
    """Compare answers with tolerance: NumPy and OpenCV have other versions there, OpenVINO the same."""
    ours = Predictor(service.bundle).predict(PHOTO, {"confidence": FAINT}).to_dict()
    assert len(ours["detections"]) >= 5
    theirs = body(service.predict({"jsonData": {"image": text(PHOTO), "conf": FAINT}}))
    assert {name: theirs[name] for name in ours} == ours


def test_every_answer_names_its_model_and_request(service, over_grpc):
    over_http = service.predict({"binData": text(encode(GRID)), "meta": META}).json()
    for meta in (over_http["meta"], over_grpc["binData"]["meta"]):
        assert meta["puid"] == META["puid"]
        tags = {"name": "cells", "version": "3", "alias": "", "digest": service.bundle.digest}
        assert meta["tags"] == tags | META["tags"]


def test_metadata_and_health(service, over_grpc):
    expected = {"name": "cells", "versions": ["3"], "platform": "visionops"}
    for found in (service.http.get("/metadata").json(), over_grpc["metadata"]):
        assert {key: found[key] for key in expected} == expected
        assert found["custom"]["digest"] == service.bundle.digest
        assert found["custom"]["engine"] == "openvino"
        assert json.loads(found["custom"]["classes"]) == list(service.bundle.card.class_names)
    health = service.http.get("/health/status")
    assert (health.status_code, health.json()["jsonData"]["status"]) == (200, "ready")
    assert service.http.get("/health/ping").text == "pong"


def test_metrics_have_the_names_of_our_server(service):
    before = service.counts()
    service.upload(encode(GRID))
    service.upload(b"no image")
    service.ask({"binData": text(encode(GRID))})
    after = service.counts()
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grown["visionops_model_images_total", "cells", "answered", "3"] == 2
    assert grown["visionops_predictions_total", "red", "cells"] == 2
    assert grown["visionops_predictions_total", "blue", "cells"] == 2
    assert grown["visionops_rejected_total", "not_an_image"] == 1
    assert grown["visionops_inference_duration_seconds_count", "cells"] == 2
    for stage in ("decode", "preprocess", "postprocess"):
        assert grown["visionops_stage_duration_seconds_count", stage] == 2
    assert 0 < grown["visionops_inference_duration_seconds_sum", "cells"] < 60  # seconds, not milliseconds
    assert after["visionops_ready",] >= 1
    assert after["visionops_model_info", service.bundle.digest, "cells", "3"] >= 1


HUGE = encode(np.zeros((400, 400, 3), np.uint8))
NOISE = encode(np.random.default_rng(1).integers(0, 256, (180, 180, 3), np.uint8))


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ({"binData": text(b"no image")}, 422, "not_an_image"),
        ({"binData": text(encode(GRID)[:60])}, 422, "truncated"),
        ({"binData": ""}, 422, "empty_file"),
        ({"binData": text(HUGE)}, 413, "too_many_pixels"),
        ({"binData": text(NOISE)}, 413, "upload_too_large"),
        ({"strData": "not base64"}, 422, "bad_message"),
        ({"meta": {}}, 422, "missing_image"),
        ({"binData": text(b"no image"), "meta": ["no object"]}, 422, "not_an_image"),
        (["no object"], 422, "bad_message"),
    ],
)
def test_a_wrong_request_gets_a_status_and_one_line(service, message, status, code):
    assert len(HUGE) < LIMIT < len(NOISE)
    answer = service.predict(message)
    body = answer.json()["status"]
    assert (answer.status_code, body["code"], body["reason"], body["status"]) == (status, status, code, "FAILURE")
    assert body["info"]
    assert "\n" not in body["info"]


def test_over_grpc_the_status_is_in_the_message(over_grpc):
    broken = over_grpc["broken"]
    body = {name: value for name, value in broken["status"].items() if name != "info"}
    assert body == {"code": 422, "reason": "not_an_image", "status": "FAILURE"}
    assert broken["meta"]["puid"] == "8"
    assert over_grpc["nothing"]["status"]["reason"] == "missing_image"
    assert over_grpc["tensor"]["status"]["reason"] == "bad_message"
    assert not {"jsonData", "data"} & broken.keys()


def test_malformed_messages_get_client_errors(service):
    def refusal(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json()["status"]["reason"]

    http = service.http
    assert refusal(service.upload(encode(GRID), "file")) == (422, "bad_form")
    assert refusal(http.post("/predict", data={"meta": "{"}, files={"binData": b""})) == (422, "bad_form")
    assert refusal(http.post("/predict", content=b"{", headers={"Content-Type": "application/json"}))[0] == 400
    assert refusal(http.post("/predict", content=encode(GRID), headers={"Content-Type": "image/png"}))[0] == 400
    assert refusal(http.get("/nowhere")) == (404, "not_found")
    assert refusal(http.put("/predict")) == (405, "method_not_allowed")
    assert refusal(http.post("/predict", content=iter([b"{}"]))) == (411, "length_required")
    large = {"binData": text(bytes(LIMIT * 2))}
    for response in (service.predict(large), service.upload(bytes(LIMIT * 3))):
        assert refusal(response) == (413, "upload_too_large")
        assert response.json()["status"]["info"].startswith("the body exceeds")


def test_another_engine_and_what_it_cannot_serve(tmp_path):
    """In one process: the class, as Seldon's wrapper calls it."""
    bundle = make_bundle(tmp_path / "bundle")
    make_bundle(tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes(b"")
    good = {"bundle": str(bundle.folder), "engine": "onnxruntime"}
    cases = [
        ({}, "VISIONOPS_BUNDLE: is not set"),
        ({"bundle": str(tmp_path)}, "has no bundle.json"),
        ({"bundle": str(tmp_path / "broken")}, "sha256 differs"),
        (good | {"workers": 4}, "parameter workers"),
        (good | {"engine": "tensorrt"}, "--engine"),
        (good | {"max_pixels": 9}, "over the limit of 9"),
    ]
    script = (
        "import json, os, sys\n"
        "from deploy.seldon.component import VisionOps\n"
        "good, image, *wrong = json.load(sys.stdin)\n"
        "for parameters in wrong:\n"
        "    if (child := os.fork()) == 0: VisionOps(**parameters).load()\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)\n"
        "model = VisionOps(**good); model.load()\n"
        "print(json.dumps(model.predict_raw({'binData': image})))\n"
    )
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", script],
        input=json.dumps([good, text(encode(GRID)), *(parameters for parameters, _ in cases)]),
        env=clean({}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])["jsonData"]["detections"]
    assert [(d["class_name"], d["box"]) for d in found] == [("blue", [0, 0, 32, 32]), ("red", [64, 32, 96, 64])]
    lines = done.stderr.splitlines()
    # A model that does not load must end with gunicorn's own status; otherwise gunicorn would retry forever.
    assert lines[1::2] == ["2"] * 5 + ["3"], done.stderr
    for line, (_, says) in zip(lines[::2], cases, strict=True):
        assert line.startswith("error: ")
        assert says in line
