"""Read a SeldonMessage: an image in one of four payloads, and the options of the request.

    binData   the bytes of an image file; in JSON as base64, in a form as the file itself
    strData   the bytes of an image file as base64
    jsonData  {"image": base64, "conf": 0.4, "iou": 0.6}; conf and iou for a detector only, as in /predict
    data      ndarray or tensor: pixels (H, W, 3), RGB, 0 to 255; or a batch (1, H, W, 3)

A message over gRPC is read like its JSON form, except for the bytes of binData.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.http.errors import BadRequest, UploadTooLarge
from deploy.serving.options import option_names
from visionops.inference.predictor import Image

__all__ = ["PAYLOADS", "Request", "largest_body", "read_bytes", "read_request"]

PAYLOADS = ("binData", "strData", "jsonData", "data")
_OVERHEAD = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One image, and the predictor's options."""

    image: Image
    options: Mapping[str, float]


def largest_body(limit: int) -> int:
    """Return the largest size in bytes of a request with an image of ``limit`` bytes as base64."""
    return _base64_length(limit) + _OVERHEAD


def read_request(message: object, limit: int) -> Request:
    """Read the image and options of a message.

    Args:
        message: A SeldonMessage as JSON; binData may be bytes, which are base64 if the message came as a form.
        limit: Largest accepted image file, in bytes.

    Raises:
        BadRequest: There is no image, more than one, or it cannot be read.
        UploadTooLarge: The image exceeds the limit.
    """
    if not isinstance(message, Mapping):
        raise BadRequest(f"the message is {type(message).__name__}, not an object", "bad_message")
    given = [name for name in PAYLOADS if message.get(name) is not None]
    if len(given) != 1:
        seen = f"the message has {' and '.join(given)}" if given else "the message has no image"
        raise BadRequest(f"{seen}; send one of {', '.join(PAYLOADS)}", "missing_image")
    (name,) = given
    value: Any = message[name]
    options: dict[str, Any] = {}
    if name == "jsonData":
        value, options = _with_options(value)
        name = "jsonData.image"
    return Request(_pixels(value) if name == "data" else _file(value, name, limit), options)


def read_bytes(data: bytes, limit: int) -> Request:
    """Read the image of binData over gRPC.

    Raises:
        UploadTooLarge: The image exceeds the limit.
    """
    if len(data) > limit:
        raise _too_large("binData", limit)
    return Request(data, {})


def _with_options(value: object) -> tuple[object, dict[str, float]]:
    if not isinstance(value, Mapping):
        raise BadRequest(f"jsonData: is {type(value).__name__}, not an object with an image", "bad_message")
    names = option_names()
    if unknown := sorted(set(value) - {"image", *names}):
        raise BadRequest(f"jsonData: unknown {unknown[0]!r}; expected image, {', '.join(names)}", "bad_message")
    if "image" not in value:
        raise BadRequest("jsonData: has no image, which is base64 of a file", "missing_image")
    options = {}
    for name in names.keys() & value.keys():
        number = value[name]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise BadRequest(f"jsonData.{name}: is {number!r}, not a number from 0 to 1", "bad_parameter")
        options[names[name]] = float(number)
    return value["image"], options


def _file(value: object, name: str, limit: int) -> bytes:
    if not isinstance(value, str | bytes):
        raise BadRequest(f"{name}: is {type(value).__name__}, not base64 of an image file", "bad_message")
    if len(value) > _base64_length(limit):
        raise _too_large(name, limit)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{name}: is not base64 ({error}); encode with base64 -w0 part.jpg", "bad_message") from error
    if len(data) > limit:
        raise _too_large(name, limit)
    return data


def _pixels(value: object) -> Image:
    array = _array(value)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise BadRequest(f"data: expected shape (height, width, 3), got {array.shape}", "bad_message")
    if array.dtype.kind not in "iuf" or not ((array >= 0) & (array <= 255) & (array == np.floor(array))).all():
        raise BadRequest("data: expected pixels as whole numbers from 0 to 255", "bad_message")
    return array.astype(np.uint8)


def _array(value: object) -> np.ndarray[Any, Any]:
    if not isinstance(value, Mapping) or ("ndarray" in value) == ("tensor" in value):
        raise BadRequest("data: expected either ndarray or tensor", "bad_message")
    try:
        if "ndarray" in value:
            return np.array(value["ndarray"])
        return np.array(value["tensor"]["values"]).reshape([int(length) for length in value["tensor"]["shape"]])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadRequest(f"data: is not an array ({' '.join(str(error).split())})", "bad_message") from error


def _base64_length(size: int) -> int:
    return -(-size // 3) * 4


def _too_large(name: str, limit: int) -> UploadTooLarge:
    return UploadTooLarge(f"{name}: the image exceeds {limit} bytes; send less or raise max_upload_bytes")
