"""Requests and answers of the Open Inference Protocol, version 2, with its binary tensor data extension.

A request holds one input, ``image`` (encoded files) or ``pixels``; a body is JSON, or JSON and behind it the bytes of
the tensors. What a tensor means does not depend on how it was sent, with one exception that the protocol leaves open:
bytes in JSON are base64, on one line or several.
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
"""The header that says how much of a body is JSON."""

_MAX_VALUES = 2_000_000
"""Of a JSON document: each costs up to 70 bytes once it is read, however short it was."""
_LENGTH = struct.Struct("<I")
_AS_BINARY = "binary_data_output"


INPUTS = (
    TensorSpec(name="image", datatype="BYTES", shape=[-1]),
    TensorSpec(name="pixels", datatype="UINT8", shape=[-1, -1, -1, 3]),
)
"""Of every model; a request has one of them."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class InferParameters(_Strict):
    """What one request wants otherwise. A misspelt threshold must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class InputParameters(_Strict):
    """How an input was sent."""

    binary_data_size: int | None = Field(default=None, ge=0)


class OutputParameters(_Strict):
    """How an output is wanted."""

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
    """A wanted output."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(_Strict):
    """What `/infer` takes."""

    id: str | None = Field(default=None, max_length=1024)
    parameters: InferParameters | None = None
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = Field(default=None, max_length=1024)


def infer_request() -> type[InferRequest]:
    """Return what `/infer` takes, with the options of every registered task among the parameters."""
    return _with_options(tuple(registered_options().items()))


@functools.cache
def _with_options(options: tuple[tuple[str, str], ...]) -> type[InferRequest]:
    fields: dict[str, Any] = {
        name: (float | None, Field(default=None, ge=0, le=1, allow_inf_nan=False, description=told))
        for name, told in options
    }
    told = "All outputs as binary data, unless an output says otherwise."
    fields[_AS_BINARY] = (bool | None, Field(default=None, description=told))
    base = InferParameters
    parameters: Any = create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
    whole: dict[str, Any] = {"parameters": (parameters | None, None)}
    return create_model(InferRequest.__name__, __base__=InferRequest, __doc__=InferRequest.__doc__, **whole)


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """A request, read."""

    id: str | None
    images: list[Image]
    options: dict[str, float]
    outputs: dict[str, bool] | None
    """Wanted outputs, and whether as binary data; all of them when absent."""
    as_binary: bool
    """Outputs that say nothing of it."""


def read_order(body: bytes, json_length: str | None, max_images: int) -> Order:
    """Read a body.

    Args:
        json_length: Value of the header `HEADER_LENGTH`; absent: all of the body is JSON.
        max_images: Most images of a request.

    Raises:
        BadTensor: It is not what the protocol says, or not what these models take.
        UploadTooLarge: The JSON holds too many values.
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


def _json_length(told: str | None, size: int) -> int:
    if told is None:
        return size
    if not (told.isascii() and told.isdigit() and len(told) < 20 and int(told) <= size):
        raise BadTensor(f"{HEADER_LENGTH}: {told[:20]!r} is no length within a body of {size} bytes")
    return int(told)


def _parse(text: bytes) -> InferRequest:
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        raise UploadTooLarge(f"the JSON holds over {_MAX_VALUES} values; send the tensor as binary data")
    try:
        return infer_request().model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise BadTensor(f"the request is no JSON: {error}") from error
    except ValidationError as error:
        raise BadTensor(first_problem(error.errors(include_url=False))) from error


def _images(tensor: InferInput, binary: memoryview, max_images: int) -> list[Image]:
    spec = next(spec for spec in INPUTS if spec.name == tensor.name)
    if tensor.datatype != spec.datatype:
        raise BadTensor(f"{tensor.name}: datatype {tensor.datatype}; it is {spec.datatype}")
    shape = tensor.shape
    if tensor.name == "image":
        fits, single = len(shape) == 1, False
    else:
        fits, single = len(shape) >= 3 and shape[-1] == 3, len(shape) == 3
    if not fits:
        wanted = "[N]" if tensor.name == "image" else "[height, width, 3] or [N, height, width, 3]"
        raise BadTensor(f"{tensor.name}: shape {shape}; it is {wanted}")
    count = 1 if single else shape[0]
    if count > max_images:
        raise BadTensor(f"{tensor.name}: {count} images, and {max_images} are the most of one request; send several")
    sent = tensor.parameters.binary_data_size if tensor.parameters else None
    if (sent is None) == (tensor.data is None):
        raise BadTensor(f"{tensor.name}: give either data, or binary_data_size and the data behind the JSON")
    if (sent or 0) != len(binary):
        raise BadTensor(f"{tensor.name}: binary_data_size {sent or 0}, but {len(binary)} bytes follow the JSON")
    if tensor.name == "image":
        return list(_binary_files(binary, count) if tensor.data is None else _json_files(tensor.data, count))
    flat = np.frombuffer(binary, np.uint8) if tensor.data is None else _json_pixels(tensor.data)
    if flat.size != math.prod(shape):
        raise BadTensor(f"pixels: shape {shape} is {math.prod(shape)} values, {flat.size} were sent")
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
        raise BadTensor(f"image: shape [{count}], {len(data)} files were sent")
    files = []
    for index, text in enumerate(data):
        try:
            # Many encoders break lines, as in MIME; nothing else may stand between.
            lines = text.replace("\r\n", "").replace("\n", "") if isinstance(text, str) else text
            files.append(base64.b64decode(lines, validate=True))
        except (TypeError, ValueError, binascii.Error) as error:
            raise BadTensor(f"image: data[{index}] is no base64; or send the file as binary data") from error
    return files


def _json_pixels(data: Sequence[Any]) -> npt.NDArray[np.uint8]:
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise BadTensor(f"pixels: the data is no array: {' '.join(str(error).split())[:120]}") from error
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() > 255:
        raise BadTensor("pixels: the data is not of whole numbers from 0 to 255")
    return values.astype(np.uint8).ravel()


def _wanted(outputs: Sequence[InferOutput], *, as_binary: bool) -> dict[str, bool]:
    wanted: dict[str, bool] = {}
    for output in outputs:
        if output.name in wanted:
            raise BadTensor(f"output {output.name!r} is asked for twice")
        own = output.parameters.binary_data if output.parameters else None
        wanted[output.name] = as_binary if own is None else own
    return wanted


def encode_answer(
    identity: Mapping[str, str], order: Order, specs: Sequence[TensorSpec], tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body of an answer.

    Returns:
        The body, and how much of it is JSON when binary data follows.

    Raises:
        BadTensor: An output was asked for that this model does not have.
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
