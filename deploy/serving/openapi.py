"""What the OpenAPI document says of the routes beyond their types: bodies, examples, and every status."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.serving.schemas import ErrorAnswer, ExplainResponse, ReloadRequest, UnloadRequest, V2Error
from deploy.serving.tensors import HEADER_LENGTH, InferRequest

__all__ = [
    "BATCH_BODY",
    "BATCH_RESPONSES",
    "EXPLAIN_RESPONSES",
    "IMAGE_BODY",
    "INFER_BODY",
    "INFER_RESPONSES",
    "MODEL_RESPONSES",
    "PREDICT_RESPONSES",
    "RELOAD_BODY",
    "RELOAD_RESPONSES",
    "STATUS_RESPONSES",
    "UNLOAD_BODY",
    "UNLOAD_RESPONSES",
    "V2_MODEL_RESPONSES",
    "V2_RESPONSES",
    "document",
]

Responses = dict[int | str, dict[str, Any]]

_RETRY = {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}
_MEANINGS: dict[int, dict[str, Any]] = {
    400: {"description": "The request is not as the protocol says, or is no HTTP."},
    401: {"description": "The key is missing or wrong."},
    403: {"description": "The key does not open this."},
    404: {"description": "No model of that name, or not in that version."},
    409: {"description": "The new model does not answer well; the old one goes on."},
    413: {"description": "More bytes, pixels or values than the limit."},
    415: {"description": "A content type or encoding that is not taken here."},
    422: {"description": "No usable image, form, JSON or parameter."},
    429: {"description": "Too many requests with this key.", "headers": _RETRY},
    500: {"description": "An unforeseen error; its id is in the log."},
    503: {"description": "No model, a full queue, or out of time.", "headers": _RETRY},
}


def _refusals(*statuses: int, body: type[BaseModel] = ErrorAnswer) -> Responses:
    return {status: {"model": body} | _MEANINGS[status] for status in sorted({401, 403, 429, 500, *statuses})}


_IDENTITY = {
    "model": {"name": "steel", "version": "3", "alias": "champion"},
    "image": {"width": 200, "height": 200},
}
_TIMING = {"timing_ms": {"decode": 0.8, "preprocess": 0.6, "inference": 14.2, "postprocess": 0.1, "total": 15.9}}
_LABEL = {"class_id": 1, "class_name": "defective", "confidence": 0.97}
_LABEL |= {"probabilities": {"ok": 0.03, "defective": 0.97}}
_BOX = {"class_id": 2, "class_name": "scratches", "confidence": 0.91, "box": [12.0, 40.5, 180.2, 66.0]}
_EXAMPLES = {
    "detection": {"value": _IDENTITY | {"detections": [_BOX]} | _TIMING},
    "classification": {"value": _IDENTITY | {"classification": _LABEL} | _TIMING},
    "attributes": {"value": _IDENTITY | {"attributes": {"surface": _LABEL}} | _TIMING},
}
_REFUSED = {"error": {"code": "truncated", "message": "image 2: truncated or damaged; fetch the file again"}}
_OF_AN_IMAGE = (400, 404, 413, 415, 422, 503)

STATUS_RESPONSES = _refusals(503)
MODEL_RESPONSES = _refusals(404, 422, 503)
PREDICT_RESPONSES: Responses = _refusals(*_OF_AN_IMAGE) | {
    200: {"content": {"application/json": {"examples": _EXAMPLES}}}
}
BATCH_RESPONSES: Responses = _refusals(*_OF_AN_IMAGE) | {
    200: {
        "content": {"application/json": {"example": {"results": [_EXAMPLES["detection"]["value"], _REFUSED]}}},
        "description": "Every image was answered or refused on its own.",
    }
}
EXPLAIN_RESPONSES: Responses = _refusals(*_OF_AN_IMAGE) | {
    200: {
        "model": ExplainResponse,
        "description": "The image in grey, in colour what spoke for the answer; or the numbers.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
}
RELOAD_RESPONSES = _refusals(400, 409, 413, 422, 503)
UNLOAD_RESPONSES = _refusals(400, 404, 413, 422)
V2_RESPONSES = _refusals(503, body=V2Error)
V2_MODEL_RESPONSES = _refusals(404, 503, body=V2Error)
_OUTPUTS = [
    {"name": "boxes", "datatype": "FP32", "shape": [1, 4], "data": [12.0, 40.5, 180.2, 66.0]},
    {"name": "scores", "datatype": "FP32", "shape": [1], "data": [0.91]},
    {"name": "class_ids", "datatype": "INT32", "shape": [1], "data": [2]},
    {"name": "class_names", "datatype": "BYTES", "shape": [1], "data": ["scratches"]},
    {"name": "counts", "datatype": "INT32", "shape": [1], "data": [1]},
]
_INFERRED = {"model_name": "steel", "model_version": "3", "id": "part-17", "outputs": _OUTPUTS}
INFER_RESPONSES: Responses = _refusals(*_OF_AN_IMAGE, body=V2Error) | {
    200: {
        "description": "The outputs; as JSON, or as JSON and behind it the bytes of those that are wanted so.",
        "content": {
            "application/json": {"example": _INFERRED},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            HEADER_LENGTH: {
                "description": "Bytes of JSON before the binary data; absent without any.",
                "schema": {"type": "integer"},
            }
        },
    }
}
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
RELOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ReloadRequest"},
                "example": {"bundle": "/models/steel/4", "name": "steel", "version": "4", "alias": "champion"},
            }
        },
    }
}
UNLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/UnloadRequest"},
                "example": {"name": "steel", "role": "canary"},
            }
        },
    }
}
_BINARY = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _BINARY, "minItems": 1}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["files"], "properties": {"files": _FILES, "file": _FILES}}
            }
        },
    }
}
_PIXEL = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3], "data": [255, 0, 0] * 4}
_ASKED = {"id": "part-17", "parameters": {"confidence": 0.4}, "inputs": [_PIXEL], "outputs": [{"name": "scores"}]}
INFER_BODY = {
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "Bytes of JSON before the binary data; without it all of the body is JSON.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/InferRequest"},
                "example": _ASKED,
            },
            "application/octet-stream": {"schema": _BINARY},
        },
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document.

    Bodies that the routes read by themselves are added to the schemas, and FastAPI's own form of a 422, which no route
    answers, is taken out.
    """
    told = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = told["components"]["schemas"]
    bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (body, "validation") for body in (InferRequest, ReloadRequest, UnloadRequest)
    ]
    schemas |= models_json_schema(bodies, ref_template="#/components/schemas/{model}")[1]["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in told["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return told
