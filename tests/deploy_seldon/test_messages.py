"""Payloads of a SeldonMessage, and the errors of one without an image."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from deploy.http.errors import status_and_code
from deploy.seldon.messages import largest_body, read_bytes, read_request
from visionops.errors import VisionOpsError

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
TEXT = base64.b64encode(b"image").decode()


@pytest.mark.parametrize("name", ["binData", "strData"])
@pytest.mark.parametrize("value", [TEXT, TEXT.encode()])
def test_a_file_comes_as_base64(name, value):
    request = read_request({name: value, "meta": {"puid": "1"}}, 5)
    assert (request.image, request.options) == (b"image", {})


def test_only_json_carries_options():
    request = read_request({"jsonData": {"image": TEXT, "conf": 0.5, "iou": 1}}, 5)
    assert (request.image, request.options) == (b"image", {"confidence": 0.5, "iou": 1.0})


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[None], PIXELS.astype(float)])
@pytest.mark.parametrize("form", ["ndarray", "tensor"])
def test_pixels_come_as_an_array(pixels, form):
    tensor = {"shape": list(pixels.shape), "values": pixels.ravel().tolist()}
    data = {"ndarray": pixels.tolist()} if form == "ndarray" else {"tensor": tensor}
    image = read_request({"data": {"names": [], **data}}, 1).image
    assert image.dtype == np.uint8
    assert np.array_equal(image, PIXELS)


@pytest.mark.parametrize(
    ("message", "status", "code", "says"),
    [
        ([], 422, "bad_message", "list"),
        ({}, 422, "missing_image", "no image"),
        ({"binData": None}, 422, "missing_image", "no image"),
        ({"binData": TEXT, "strData": TEXT}, 422, "missing_image", "binData and strData"),
        ({"binData": 5}, 422, "bad_message", "int"),
        ({"binData": "base 64"}, 422, "bad_message", "base64"),
        ({"binData": "a"}, 422, "bad_message", "base64"),
        ({"strData": "ä"}, 422, "bad_message", "base64"),
        ({"strData": base64.b64encode(b"image!").decode()}, 413, "upload_too_large", "exceeds 5 bytes"),
        ({"binData": "A" * 12}, 413, "upload_too_large", "exceeds 5 bytes"),
        ({"jsonData": TEXT}, 422, "bad_message", "object"),
        ({"jsonData": {"conf": 0.5}}, 422, "missing_image", "no image"),
        ({"jsonData": {"image": TEXT, "confidence": 0.5}}, 422, "bad_message", "conf"),
        ({"jsonData": {"image": TEXT, "conf": 2}}, 422, "bad_parameter", "0 to 1"),
        ({"jsonData": {"image": TEXT, "conf": True}}, 422, "bad_parameter", "0 to 1"),
        ({"jsonData": {"image": TEXT, "iou": float("nan")}}, 422, "bad_parameter", "0 to 1"),
        ({"data": [1]}, 422, "bad_message", "ndarray or tensor"),
        ({"data": {"tftensor": {}}}, 422, "bad_message", "ndarray or tensor"),
        ({"data": {"ndarray": [[1], [1, 2]]}}, 422, "bad_message", "not an array"),
        ({"data": {"ndarray": []}}, 422, "bad_message", "got (0,)"),
        ({"data": {"ndarray": [[["red"] * 3]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"ndarray": [[[0, 0, 256]]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"ndarray": [[[0, 0, 0.5]]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"ndarray": [[[0, 0, float("nan")]]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"ndarray": [[[True] * 3]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"ndarray": [[[10**400, 0, 0]]]}}, 422, "bad_message", "0 to 255"),
        ({"data": {"tensor": {"values": [1, 2, 3]}}}, 422, "bad_message", "shape"),
        ({"data": {"tensor": {"shape": [1, 1, 4], "values": [1, 2, 3]}}}, 422, "bad_message", "not an array"),
        ({"data": {"tensor": {"shape": [1 << 70], "values": [1]}}}, 422, "bad_message", "not an array"),
    ],
)
def test_invalid_images_are_refused_with_status_and_code(message, status, code, says):
    with pytest.raises(VisionOpsError) as raised:
        read_request(message, 5)
    assert status_and_code(raised.value) == (status, code)
    assert says in str(raised.value)


def test_the_limit_is_of_the_image():
    assert read_bytes(b"image", 5).image == b"image"
    with pytest.raises(VisionOpsError, match="exceeds 4 bytes"):
        read_bytes(b"image", 4)
    for size in (1, 2, 3, 1000):
        assert len(base64.b64encode(b"x" * size)) < largest_body(size)
