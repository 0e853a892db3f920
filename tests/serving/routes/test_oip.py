"""The Open Inference Protocol: the public client against a real process, and refusals in this process."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.helpers.bundles import encode, filled, make_label_bundle, picture
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import metric
from tests.serving.test_main import server
from visionops.inference.bundle import Head

TWO = picture([("red", 2, 1), ("blue", 0, 0)])
"""Boxes at (64, 32) and (0, 0)."""


@pytest.fixture(scope="module")
def triton(bundle: Path) -> Iterator[InferenceServerClient]:
    """The public client of a server process."""
    with (
        server("--bundle", str(bundle), "--name", "cells", "--version", "7", "--streams", "2") as (_, port, _log),
        InferenceServerClient(f"127.0.0.1:{port}", concurrency=4) as client,
    ):
        yield client


def files(images: Sequence[bytes], *, binary: bool = True) -> InferInput:
    tensor = InferInput("image", [len(images)], "BYTES")
    data = [image if binary else base64.b64encode(image) for image in images]
    tensor.set_data_from_numpy(np.array(data, dtype=object), binary_data=binary)
    return tensor


def pixels(array: np.ndarray, *, binary: bool = True) -> InferInput:
    tensor = InferInput("pixels", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def outputs(*names: str, binary: bool) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def test_the_client_sees_who_lives_and_what_is_served(triton: InferenceServerClient):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("cells")
    assert triton.is_model_ready("cells", "7")
    assert not triton.is_model_ready("cells", "8")
    assert not triton.is_model_ready("other")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    assert triton.get_model_metadata("cells") == triton.get_model_metadata("cells", "7") == {
        "name": "cells",
        "versions": ["7"],
        "platform": "openvino_onnx",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        ],
        "outputs": [
            {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "scores", "datatype": "FP32", "shape": [-1]},
            {"name": "class_ids", "datatype": "INT32", "shape": [-1]},
            {"name": "class_names", "datatype": "BYTES", "shape": [-1]},
            {"name": "counts", "datatype": "INT32", "shape": [-1]},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("kind", ["image", "pixels"])
def test_images_go_in_and_boxes_come_out_in_every_form(triton, kind: str, binary_in: bool, binary_out: bool):
    tensor = files([encode(TWO)], binary=binary_in) if kind == "image" else pixels(TWO, binary=binary_in)
    wanted = outputs("counts", "boxes", "scores", "class_ids", "class_names", binary=binary_out)
    result = triton.infer("cells", [tensor], outputs=wanted, model_version="7", request_id="part-17")
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("cells", "7", "part-17")
    assert [output["name"] for output in head["outputs"]] == [output.name() for output in wanted]
    assert result.as_numpy("boxes").dtype == np.float32
    order = np.argsort(result.as_numpy("class_ids"))
    np.testing.assert_array_equal(result.as_numpy("boxes")[order], [[64, 32, 96, 64], [0, 0, 32, 32]])
    np.testing.assert_array_equal(result.as_numpy("scores"), [1, 1])
    np.testing.assert_array_equal(result.as_numpy("class_ids")[order], [0, 2])
    names = [name if isinstance(name, str) else name.decode() for name in result.as_numpy("class_names")[order]]
    assert names == ["red", "blue"]
    np.testing.assert_array_equal(result.as_numpy("counts"), [2])


def test_without_a_list_all_outputs_come_as_the_client_wants_them(triton: InferenceServerClient):
    result = triton.infer("cells", [pixels(picture())])
    assert result.as_numpy("boxes").shape == (0, 4)
    assert result.as_numpy("counts").tolist() == [0]
    assert all("binary_data_size" in output["parameters"] for output in result.get_response()["outputs"])
    assert "id" not in result.get_response()


@pytest.mark.parametrize("kind", ["image", "pixels"])
def test_boxes_of_several_images_lie_one_image_after_the_other(triton: InferenceServerClient, kind: str):
    images = [picture(), TWO, picture([("green", 1, 1)])] * 5
    tensor = files([encode(image) for image in images]) if kind == "image" else pixels(np.stack(images))
    result = triton.infer("cells", [tensor])
    assert result.as_numpy("counts").tolist() == [0, 2, 1] * 5
    ids = np.split(result.as_numpy("class_ids"), np.cumsum(result.as_numpy("counts"))[:-1])
    assert [sorted(part.tolist()) for part in ids] == [[], [0, 2], [1]] * 5


def test_parameters_of_a_request_win(triton: InferenceServerClient):
    faint = picture()
    faint[:32, :32, 0] = 140  # scores 0.098
    assert triton.infer("cells", [pixels(faint)]).as_numpy("counts").tolist() == [0]
    lower = triton.infer("cells", [pixels(faint)], parameters={"confidence": 0.05, "iou": 0.5})
    assert lower.as_numpy("counts").tolist() == [1]


def test_many_requests_at_once_each_get_their_own_answer(triton: InferenceServerClient):
    images = [[("red", n % 4, k) for k in range(n % 4)] for n in range(24)]
    sent = [triton.async_infer("cells", [pixels(picture(cells))], request_id=str(n)) for n, cells in enumerate(images)]
    for number, (cells, request) in enumerate(zip(images, sent, strict=True)):
        result = request.get_result(timeout=30)
        assert result.get_response()["id"] == str(number)
        assert sorted(result.as_numpy("boxes")[:, 1].tolist()) == [32.0 * row for _, _, row in cells]


def test_the_client_comes_with_a_key(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_API_KEYS", f"line-3 predict sha256:{hashlib.sha256(b'k3y').hexdigest()}")
    arguments = ("--bundle", str(bundle), "--name", "cells", "--streams", "2")
    with (
        server(*arguments) as (_, port, _log),
        InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        headers = {"X-API-Key": "k3y"}
        assert not client.is_server_ready()
        assert client.is_server_ready(headers=headers)
        # An answer that is not compressed is one that the client may always get.
        result = client.infer("cells", [pixels(TWO)], headers=headers, response_compression_algorithm="gzip")
        assert result.as_numpy("counts").tolist() == [2]
        with pytest.raises(InferenceServerException, match="the key is missing") as caught:
            client.infer("cells", [pixels(TWO)])
        assert caught.value.status() == "401"


def test_the_client_hears_why(triton: InferenceServerClient):
    for call, status, said in (
        (lambda: triton.infer("other", [pixels(TWO)]), "404", "'other' is not served"),
        (lambda: triton.infer("cells", [files([encode(TWO), b"none"])]), "422", "image 2: not a readable image"),
        (lambda: triton.infer("cells", [pixels(TWO)], priority=1), "400", "priority"),
        (lambda: triton.infer("cells", [pixels(TWO)], outputs=outputs("masks", binary=True)), "400", "no output"),
        (lambda: triton.infer("cells", [pixels(TWO)], request_compression_algorithm="gzip"), "415", "gzip"),
    ):
        with pytest.raises(InferenceServerException, match=said) as caught:
            call()
        assert caught.value.status() == status


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[TestClient]:
    """A server in this process, with small limits."""
    with client_of(settings_of(bundle, max_upload_bytes=100_000, max_pixels=1_000_000)) as client:
        yield client


# Labels, in this process


def infer(client: TestClient, request: object, *, model: str = "cells", headers: dict[str, str] | None = None):
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return client.post(f"/v2/models/{model}/infer", content=body, headers=headers or {})


def of_pixels(array: np.ndarray, **more: object) -> dict:
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(array.shape), "data": array.tolist()}
    return {"inputs": [tensor], **more}


def test_a_classifier_answers_a_class_per_image(tmp_path: Path):
    images = np.stack([filled((255, 0, 0)), filled((0, 0, 255))])
    with client_of(settings_of(make_label_bundle(tmp_path / "labels").folder)) as client:
        specs = client.get("/v2/models/cells").json()["outputs"]
        answer = infer(client, of_pixels(images)).json()
    assert [(spec["name"], spec["shape"]) for spec in specs] == [
        ("class_ids", [-1]), ("class_names", [-1]), ("probabilities", [-1, 3]),
    ]  # fmt: skip
    tensors = {output["name"]: output for output in answer["outputs"]}
    assert tensors["class_names"]["data"] == ["red", "blue"]
    assert tensors["class_ids"]["data"] == [0, 2]
    assert tensors["probabilities"]["shape"] == [2, 3]
    np.testing.assert_allclose(np.reshape(tensors["probabilities"]["data"], (2, 3)).sum(axis=1), 1, rtol=1e-6)


def test_attributes_answer_each_under_its_name(tmp_path: Path):
    heads = [Head(name="hue", class_names=("red", "green", "blue")), Head(name="tone", class_names=("cold", "warm"))]
    with client_of(settings_of(make_label_bundle(tmp_path / "labels", heads=heads).folder)) as client:
        names = [spec["name"] for spec in client.get("/v2/models/cells").json()["outputs"]]
        answer = infer(client, of_pixels(filled((0, 255, 0)), outputs=[{"name": "hue.class_names"}])).json()
        refused = infer(client, of_pixels(filled((0, 255, 0)), parameters={"confidence": 0.5}))
    assert names == [f"{h}.{t}" for h in ("hue", "tone") for t in ("class_ids", "class_names", "probabilities")]
    assert [output["data"] for output in answer["outputs"]] == [["green"]]
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


# Refusals


def header_of(**changes: object) -> dict:
    return {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 3], "data": [0] * 6} | changes


RED = base64.b64encode(encode(TWO)).decode()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (header_of(name="images"), "image or pixels; did you mean 'image'"),
        (header_of(datatype="FP32"), "BYTES or UINT8"),
        (header_of(datatype="BYTES"), "expected datatype UINT8, got BYTES"),
        (header_of(shape=[6]), r"\[height, width, 3\]"),
        (header_of(shape=[1, 1, 1, 2, 3]), "at most 4"),
        (header_of(shape=[0, 2, 3]), "expected 1 or more"),
        (header_of(shape=[-1, 2, 3]), "expected 1 or more"),
        (header_of(shape=[2**40, 2**40, 3]), "got 6"),
        (header_of(shape=[1, "2", 3]), "expected a whole number"),
        (header_of(shape=[100, 1, 1, 3]), "at most 64 images, got 100"),
        (header_of(data=[0] * 5), "got 5"),
        (header_of(data=[0] * 5 + [256]), "from 0 to 255"),
        (header_of(data=[0] * 5 + [-1]), "from 0 to 255"),
        (header_of(data=[0.5] * 6), "from 0 to 255"),
        (header_of(data=["1"] * 6), "from 0 to 255"),
        (header_of(data=[{}] * 6), "from 0 to 255"),
        (header_of(data=[None] * 6), "from 0 to 255"),
        (header_of(data=[[0, 0], [0]]), "not an array"),
        (header_of(data=[]), "from 0 to 255"),
        (header_of(data=[2**64 - 1] + [0] * 5), "from 0 to 255"),
        (header_of(data=None), "either data"),
        (header_of(parameters={"binary_data_size": 6}), "either data"),
        (header_of(data=None, parameters={"binary_data_size": 6}), "0 bytes follow"),
        (header_of(data=None, parameters={"binary_data_size": -6}), "expected 0 or more"),
        (header_of(data=None, parameters={"shared_memory_region": "x"}), "either data"),
        (header_of(name="image", datatype="BYTES", shape=[1], data=["%%%"]), "is not base64"),
        (header_of(name="image", datatype="BYTES", shape=[1], data=[5]), "is not base64"),
        (header_of(name="image", datatype="BYTES", shape=[1], data=["é"]), "is not base64"),
        (header_of(name="image", datatype="BYTES", shape=[2], data=[RED]), "got 1"),
        (header_of(name="image", datatype="BYTES", shape=[1, 1], data=[RED]), r"expected shape \[N\], got"),
    ],
)
def test_a_wrong_input_is_refused_by_name(client: TestClient, tensor: dict, said: str):
    response = infer(client, {"inputs": [tensor]})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert re.search(said, response.json()["error"])


def test_refusals_are_counted(bundle: Path):
    with client_of(settings_of(bundle)) as client:
        infer(client, {"inputs": [header_of(shape=[6])]})
        infer(client, of_pixels(TWO))
        assert metric(client, 'visionops_rejected_total{reason="bad_tensor"}') == 1
        assert metric(client, 'visionops_predictions_total{class="red",model="cells"}') == 1


@pytest.mark.parametrize(
    "request_body",
    [
        b"", b"{", b"[]", b"null", b'{"inputs": []}', b'{"inputs": [NaN]}', b"\xff\xfe", b"[" * 5000,
        {"inputs": [header_of(), header_of()]},
        {"inputs": [header_of()], "id": 5},
        {"inputs": [header_of()], "parameters": {"confidense": 0.5}},
        {"inputs": [header_of()], "parameters": {"confidence": 1.5}},
        {"inputs": [header_of()], "parameters": {"confidence": "0.5"}},
        {"inputs": [header_of()], "outputs": [{"name": "boxes"}, {"name": "boxes"}]},
        {"inputs": [header_of()], "outputs": [{"name": "boxes", "parameters": {"classification": 2}}]},
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(client: TestClient, request_body: object):
    response = infer(client, request_body)
    assert response.status_code == 400, response.text
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999999", "9" * 30, "5", "٣"])
def test_a_lie_about_the_header_is_refused(client: TestClient, length: str):
    response = infer(client, {"inputs": [header_of()]}, headers={"Inference-Header-Content-Length": length.encode()})
    assert response.status_code == 400


def with_binary(tensor: dict, binary: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps({"inputs": [tensor]}).encode()
    return text + binary, {"Inference-Header-Content-Length": str(len(text))}


@pytest.mark.parametrize(
    ("count", "binary"),
    [
        (1, b""), (1, b"\1\0"), (1, struct.pack("<I", 2**32 - 1) + b"x"), (2, struct.pack("<I", 1) + b"x"),
        (1, (struct.pack("<I", 1) + b"x") * 2), (1, struct.pack(">I", 1) + b"x"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_their_lengths_are_refused(client: TestClient, count: int, binary: bytes):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(binary)}}
    body, headers = with_binary(tensor, binary)
    response = infer(client, body, headers=headers)
    assert response.status_code == 400
    assert "behind its length" in response.json()["error"]


def test_limits_hold_for_every_form(client: TestClient, bundle: Path):
    large = bytes(100_001)
    packed = struct.pack("<I", len(large)) + large
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(packed)}}
    body, headers = with_binary(tensor, packed)
    assert infer(client, body, headers=headers).status_code == 413
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1001, 1000, 3]}
    body, headers = with_binary(pixels | {"parameters": {"binary_data_size": 3_003_000}}, bytes(3_003_000))
    assert infer(client, body, headers=headers).status_code == 413
    many = infer(client, b'{"inputs": [' + b"[]," * 1_000_001)
    assert many.status_code == 413
    assert "binary" in many.json()["error"]
    with client_of(settings_of(bundle, max_batch_bytes=1000)) as small:
        assert infer(small, bytes(1001)).status_code == 413


def test_without_a_model_nothing_is_ready():
    with client_of(settings_of(None)) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/cells", "/v2/models/cells/ready", "/v2/models/c/versions/1/ready"):
            response = client.get(path)
            assert (response.status_code, list(response.json())) == (503, ["error"])
        assert infer(client, of_pixels(TWO)).status_code == 503


def test_unknown_routes_answer_in_the_form_of_the_protocol(client: TestClient):
    for response, status in (
        (client.get("/v2/nowhere"), 404),
        (client.get("/v2/models/other"), 404),
        (client.get("/v2/models/cells/versions/9"), 404),
        (client.get("/v2/models/cells/infer"), 405),
    ):
        assert response.status_code == status
        assert isinstance(response.json()["error"], str)


def infer_text(client: TestClient, text: object):
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
    return client.post("/v2/models/cells/infer", json={"inputs": [tensor]})


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_base64_may_have_line_breaks(client: TestClient, line_break: str):
    text = line_break.join(base64.encodebytes(encode(TWO)).decode().splitlines()) + line_break
    assert text.count(line_break) > 1
    answer = infer_text(client, text)
    assert answer.status_code == 200
    assert answer.json()["outputs"] == infer_text(client, text.replace(line_break, "")).json()["outputs"]


@pytest.mark.parametrize("strange", [" ", "\t", "\r", "-", "\u2028", "\0", "==\n"])
def test_nothing_else_may_stand_in_base64(client: TestClient, strange: str):
    text = base64.b64encode(encode(TWO)).decode()
    answer = infer_text(client, text[:76] + strange + text[76:])
    assert answer.status_code == 400
    assert "data[0] is not base64" in answer.json()["error"]
