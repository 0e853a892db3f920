"""Read requests and write responses of the Open Inference Protocol, version 2, with binary tensor data.

A request has one input, ``image`` (encoded files) or ``pixels``. A body is JSON, or JSON followed by the bytes of the
tensors. Both forms have the same meaning, with one exception that the protocol leaves open: bytes in JSON are base64,
on one or several lines.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from deploy.http.errors import UploadTooLarge, first_problem
from deploy.serving.errors import BadTensor
from deploy.serving.options import registered_options
from visionops.inference.predictor import Image
from visionops.inference.task import TensorSpec

__all__ = [
    "HEADER_LENGTH",
    "INPUTS",
    "InferRequest",
    "Order",
    "encode_answer",
    "infer_request",
    "read_order",
]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON part of a body, in bytes."""

_MAX_VALUES = 2_000_000
"""Maximum number of values in a JSON document; each takes up to 70 bytes in memory, however short it is."""
_LENGTH = struct.Struct("<I")
_AS_BINARY = "binary_data_output"


INPUTS = (
    TensorSpec(name="image", datatype="BYTES", shape=[-1]),
    TensorSpec(name="pixels", datatype="UINT8", shape=[-1, -1, -1, 3]),
)
"""Inputs of every model; a request has one of them."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class InferParameters(_Strict):
    """Options of a request. Unknown names are errors, so that a misspelt threshold is not ignored."""

    model_config = ConfigDict(extra="forbid")


class InputParameters(_Strict):
    """Encoding of an input."""

    binary_data_size: int | None = Field(default=None, ge=0)


class OutputParameters(_Strict):
    """Requested encoding of an output."""

    model_config = ConfigDict(extra="forbid")

    binary_data: bool | None = None


class InferInput(_Strict):
    """The images: encoded files, or uint8 RGB pixels."""

    name: Literal["image", "pixels"]
    datatype: Literal["BYTES", "UINT8"]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=4)] = Field(
        description="`image`: [N]; `pixels`: [height, width, 3] or [N, height, width, 3]"
    )
    parameters: InputParameters | None = None
    data: list[Any] | None = Field(default=None, description="`image`: base64 of each file; `pixels`: flat or nested")


class InferOutput(_Strict):
    """A requested output."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(_Strict):
    """Request of `/infer`."""

    id: str | None = Field(default=None, max_length=1024)
    parameters: InferParameters | None = None
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = Field(default=None, max_length=1024)


def infer_request() -> type[InferRequest]:
    """Return the request type of `/infer`, with the options of every registered task as parameters."""
    return _with_options(tuple(registered_options().items()))


@functools.cache
def _with_options(options: tuple[tuple[str, str], ...]) -> type[InferRequest]:
    fields: dict[str, Any] = {
        name: (float | None, Field(default=None, ge=0, le=1, allow_inf_nan=False, description=description))
        for name, description in options
    }
    description = "Whether to return outputs as binary data; an output's own parameter takes precedence."
    fields[_AS_BINARY] = (bool | None, Field(default=None, description=description))
    base = InferParameters
    parameters: Any = create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
    whole: dict[str, Any] = {"parameters": (parameters | None, None)}
    return create_model(InferRequest.__name__, __base__=InferRequest, __doc__=InferRequest.__doc__, **whole)


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """A parsed request."""

    id: str | None
    images: list[Image]
    options: dict[str, float]
    outputs: dict[str, bool] | None
    """Requested outputs, and whether as binary data; None for all outputs."""
    as_binary: bool
    """Whether outputs without their own parameter are returned as binary data."""


def read_order(body: bytes, json_length: str | None, max_images: int) -> Order:
    """Parse a request body.

    Args:
        json_length: Value of the header `HEADER_LENGTH`; None if the whole body is JSON.
        max_images: Maximum number of images in a request.

    Raises:
        BadTensor: The body violates the protocol, or is not an input of these models.
        UploadTooLarge: The JSON has too many values.
    """
    length = _json_length(json_length, len(body))
    request = _parse(body[:length] if length < len(body) else body)
    tensor, given = request.inputs[0], request.parameters.model_dump(exclude_none=True) if request.parameters else {}
    images = _images(tensor, memoryview(body)[length:], max_images)
    as_binary = bool(given.pop(_AS_BINARY, None))
    return Order(
        request.id,
        images,
        given,
        _wanted(request.outputs, as_binary=as_binary) if request.outputs else None,
        as_binary,
    )


def _json_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= size):
        raise BadTensor(f"{HEADER_LENGTH}: expected a length up to {size}, the size of the body, got {header[:20]!r}")
    return int(header)


def _parse(text: bytes) -> InferRequest:
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        raise UploadTooLarge(f"the JSON has more than {_MAX_VALUES} values; send the tensor as binary data")
    try:
        return infer_request().model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise BadTensor(f"the request is not JSON: {error}") from error
    except ValidationError as error:
        raise BadTensor(first_problem(error.errors(include_url=False))) from error


def _images(tensor: InferInput, binary: memoryview, max_images: int) -> list[Image]:
    spec = next(spec for spec in INPUTS if spec.name == tensor.name)
    if tensor.datatype != spec.datatype:
        raise BadTensor(f"{tensor.name}: expected datatype {spec.datatype}, got {tensor.datatype}")
    shape = tensor.shape
    if tensor.name == "image":
        fits, single = len(shape) == 1, False
    else:
        fits, single = len(shape) >= 3 and shape[-1] == 3, len(shape) == 3
    if not fits:
        wanted = "[N]" if tensor.name == "image" else "[height, width, 3] or [N, height, width, 3]"
        raise BadTensor(f"{tensor.name}: expected shape {wanted}, got {shape}")
    count = 1 if single else shape[0]
    if count > max_images:
        raise BadTensor(f"{tensor.name}: expected at most {max_images} images, got {count}; send several requests")
    sent = tensor.parameters.binary_data_size if tensor.parameters else None
    if (sent is None) == (tensor.data is None):
        raise BadTensor(f"{tensor.name}: send either data, or binary_data_size and the bytes after the JSON")
    if (sent or 0) != len(binary):
        raise BadTensor(f"{tensor.name}: binary_data_size {sent or 0}, but {len(binary)} bytes follow the JSON")
    if tensor.name == "image":
        return list(_binary_files(binary, count) if tensor.data is None else _json_files(tensor.data, count))
    flat = np.frombuffer(binary, np.uint8) if tensor.data is None else _json_pixels(tensor.data)
    if flat.size != math.prod(shape):
        raise BadTensor(f"pixels: expected {math.prod(shape)} values for shape {shape}, got {flat.size}")
    return list(flat.reshape(count, *shape[-3:]))


def _binary_files(binary: memoryview, count: int) -> list[bytes]:
    files: list[bytes] = []
    at = 0
    while at + _LENGTH.size <= len(binary) and len(files) < count:
        (length,) = _LENGTH.unpack_from(binary, at)
        at += _LENGTH.size
        if at + length > len(binary):
            break
        files.append(bytes(binary[at : at + length]))
        at += length
    if len(files) != count or at != len(binary):
        raise BadTensor(
            f"image: {len(binary)} bytes are not {count} files, each behind its length in 4 bytes, the lowest first"
        )
    return files


def _json_files(data: Sequence[Any], count: int) -> list[bytes]:
    if len(data) != count:
        raise BadTensor(f"image: expected {count} files for shape [{count}], got {len(data)}")
    files = []
    for index, text in enumerate(data):
        try:
            # Many encoders break lines, as in MIME; only line breaks are allowed inside.
            lines = text.replace("\r\n", "").replace("\n", "") if isinstance(text, str) else text
            files.append(base64.b64decode(lines, validate=True))
        except (TypeError, ValueError, binascii.Error) as error:
            raise BadTensor(f"image: data[{index}] is not base64; fix it, or send the file as binary data") from error
    return files


def _json_pixels(data: Sequence[Any]) -> npt.NDArray[np.uint8]:
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise BadTensor(f"pixels: the data is not an array: {' '.join(str(error).split())[:120]}") from error
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() > 255:
        raise BadTensor("pixels: expected whole numbers from 0 to 255")
    return values.astype(np.uint8).ravel()


def _wanted(outputs: Sequence[InferOutput], *, as_binary: bool) -> dict[str, bool]:
    wanted: dict[str, bool] = {}
    for output in outputs:
        if output.name in wanted:
            raise BadTensor(f"output {output.name!r} is listed twice; list it once")
        own = output.parameters.binary_data if output.parameters else None
        wanted[output.name] = as_binary if own is None else own
    return wanted


def encode_answer(
    identity: Mapping[str, str], order: Order, specs: Sequence[TensorSpec], tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[bytes, int | None]:
    """Return the body of a response.

    Returns:
        The body, and the length of its JSON part if binary data follows.

    Raises:
        BadTensor: The request lists an output that this model does not have.
    """
    types = {spec.name: spec.datatype for spec in specs}
    wanted = dict.fromkeys(types, order.as_binary) if order.outputs is None else order.outputs
    outputs, blobs = [], []
    for name, as_binary in wanted.items():
        tensor = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": types[name], "shape": list(tensor.shape)}
        if as_binary:
            blob = _bytes_of(tensor)
            output["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            output["data"] = tensor.ravel().tolist() if tensor.dtype == object else np.ascontiguousarray(tensor.ravel())
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": identity["name"], "model_version": identity["version"]}
    if order.id is not None:
        answer["id"] = order.id
    text = orjson.dumps(answer | {"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([text, *blobs]), len(text) if any(wanted.values()) else None


def _bytes_of(tensor: npt.NDArray[Any]) -> bytes:
    if tensor.dtype != object:
        return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [str(text).encode() for text in tensor.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
