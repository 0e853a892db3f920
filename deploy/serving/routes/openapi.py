"""Build the parts of the OpenAPI document beyond types: bodies, examples and every status."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.serving.middleware.access import ROLES
from deploy.serving.routes.schemas import (
    ErrorAnswer,
    FeedbackRequest,
    ReloadRequest,
    UnloadRequest,
    V2Error,
    explain_response,
)
from deploy.serving.routes.tensors import HEADER_LENGTH, INPUTS, infer_request
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.task import ServedTask
from visionops.inference.task_registry import all_tasks

__all__ = [
    "BATCH_BODY",
    "FEEDBACK_BODY",
    "FEEDBACK_RESPONSES",
    "HEALTH_RESPONSES",
    "HOME_RESPONSES",
    "IMAGE_BODY",
    "INFER_BODY",
    "INFER_RESPONSES",
    "LINKS",
    "METRICS_RESPONSES",
    "MODELS_RESPONSES",
    "MODEL_RESPONSES",
    "READY_RESPONSES",
    "RELEASE_RESPONSES",
    "RELOAD_BODY",
    "RELOAD_RESPONSES",
    "STREAM_RESPONSES",
    "UNLOAD_BODY",
    "UNLOAD_RESPONSES",
    "V2_METADATA_RESPONSES",
    "V2_MODEL_RESPONSES",
    "V2_PROBE_RESPONSES",
    "V2_RESPONSES",
    "batch_responses",
    "document",
    "explain_responses",
    "predict_responses",
]

Responses = dict[int | str, dict[str, Any]]

_RETRY = {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}
_WINDOW = {
    f"RateLimit-{name}": {"description": f"{what}; if the server limits rates.", "schema": {"type": "integer"}}
    for name, what in (
        ("Limit", "Maximum number of requests in a window"),
        ("Remaining", "Requests left in the window"),
        ("Reset", "Seconds until the next window"),
    )
}
_MEANINGS: dict[int, dict[str, Any]] = {
    400: {"description": "The request violates the protocol, or is not valid HTTP."},
    401: {"description": "The key is missing or wrong."},
    403: {"description": "The role of the key does not allow this."},
    404: {"description": "Unknown model, version or request id."},
    408: {"description": "The body did not arrive in time."},
    409: {"description": "Conflict: the role is not possible, the smoke test failed, or the key was used already."},
    413: {"description": "Too many bytes, pixels or values."},
    415: {"description": "The content type or encoding is not supported."},
    422: {"description": "The image, form, JSON or a parameter is invalid."},
    426: {"description": "The path is a WebSocket: open it as one."},
    429: {"description": "Too many requests from this client.", "headers": _RETRY | _WINDOW},
    431: {"description": "The request's head is too large."},
    500: {"description": "Unexpected error; the log has the request id."},
    503: {"description": "No model is ready, or the server is busy: try again after `Retry-After`.", "headers": _RETRY},
    507: {"description": "Not enough memory for the model, or disk space for the feedback."},
}
_OF_A_CONNECTION = {400, 431, 503}
"""Statuses that are also sent before a request is complete, in the same format on every path."""


def _refusals(*statuses: int, body: type[BaseModel] = ErrorAnswer) -> Responses:
    return {
        status: _MEANINGS[status] | {"model": body | ErrorAnswer if status in _OF_A_CONNECTION else body}
        for status in sorted(_OF_A_CONNECTION | {500, *statuses})
    }


def _answer(example: Any) -> Responses:
    return {200: {"content": {"application/json": {"example": example}}}}


_STEEL = {"name": "steel", "version": "3", "alias": "champion"}
_DIGEST = {"digest": "9f2c1e5ab04c7d3386d1c0f7a2e94b58c6e1d7f00b3a9d24e8f56a7b1c2d3e4f"}
_CARD = {
    **_STEEL,
    "task": "detection",
    "architecture": "yolov8n",
    "classes": ["crazing", "inclusion", "scratches"],
    "thresholds": {"confidence": 0.25, "iou": 0.7, "max_detections": 300},
    "metrics": {"map50": 0.74},
    "data_fingerprint": "4be1c2d3a5968778",
    "preprocessing": PreprocessingSpec(width=320, height=320).model_dump(mode="json"),
    "precision": "f32",
    "engine": "openvino",
    "mode": {
        "threads": 2,
        "streams": 2,
        "compiled": [1, 2],
        "first": {"streams": 2, "source": "rule", "age_seconds": None},
        "rates": {
            "1": {"images_per_second": 152.0, "age_seconds": 41.3},
            "2": {"images_per_second": 189.0, "age_seconds": 0.2},
        },
        "switches": 0,
        "trial_seconds": 3.1,
    },
    **_DIGEST,
    "max_upload_bytes": 20_000_000,
}
_STATUS: dict[str, Any] = {
    "default": True,
    "ready": True,
    "roles": {
        "champion": _STEEL | _DIGEST | {"last_images": {"images": 200, "error_rate": 0.0, "median_ms": 14.9}},
    },
    "last_failure": {
        "version": "4",
        "role": "champion",
        "code": "smoke_test_failed",
        "message": "steel version 4: smoke image 1: boxes or scores are not finite numbers",
        "time": "2026-03-02T06:14:09+00:00",
    },
    "last_return": {
        "version": "2",
        "reason": "latency",
        "message": "canary version 2 took 41.3 ms an image where the champion took 14.9 ms; the champion answers all",
        "time": "2026-02-27T21:40:55+00:00",
    },
}
_IDENTITY = {"model": _STEEL, "image": {"width": 200, "height": 200}}
_TIMING = {"timing_ms": {"decode": 0.8, "preprocess": 0.6, "inference": 14.2, "postprocess": 0.1, "total": 15.9}}
_REFUSED = {
    "error": {
        "code": "truncated",
        "message": "image 2: truncated or damaged (image file is truncated); fetch the file again",
    }
}
_OF_A_PROBE = (401, 403)
_OF_A_CLIENT = (*_OF_A_PROBE, 429)
_OF_A_BODY = (*_OF_A_CLIENT, 408, 413)
_OF_AN_IMAGE = (*_OF_A_BODY, 404, 415, 422)

HEALTH_RESPONSES = _refusals()
LINKS = {
    "docs": "docs",
    "openapi": "openapi.json",
    "model": "model",
    "models": "models",
    "predict": "predict",
    "metrics": "metrics",
}
"""Links of `GET /`, relative to it, because a proxy may serve it below another path."""
HOME_RESPONSES: Responses = _refusals(*_OF_A_CLIENT) | {
    200: {
        "description": "The models and their state; for a browser, a page that shows them.",
        "content": {
            "application/json": {
                "example": {
                    "name": "VisionOps",
                    "version": "0.1.0",
                    "started": "2026-03-02T06:14:02+00:00",
                    "serves": "clients with an API key",
                    "models": [
                        {
                            **_STEEL,
                            "default": True,
                            "ready": True,
                            "task": "detection",
                            "architecture": "yolov8n",
                            "classes": ["crazing", "inclusion", "scratches"],
                            "confidence": 0.25,
                            "since": "2026-03-02T06:14:09+00:00",
                            "max_upload_bytes": 20_000_000,
                            "last_images": {"images": 200, "error_rate": 0.0, "median_ms": 14.9},
                            "beside": {"canary": "4"},
                            "answered": 5128,
                            "failed": 0,
                            "found": {"crazing": 811},
                        }
                    ],
                    "waiting": 0,
                    "rejected": {"truncated": 2},
                    "links": LINKS,
                }
            },
            "text/html": {"schema": {"type": "string"}},
        },
    }
}
READY_RESPONSES: Responses = _refusals(*_OF_A_PROBE, 404, 422) | _answer(
    {
        "status": "ready",
        "model": _STEEL,
        "models": [{"name": "steel", "ready": True}],
        "serves": "clients with an API key",
    }
)
METRICS_RESPONSES: Responses = _refusals(*_OF_A_PROBE) | {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
MODELS_RESPONSES: Responses = _refusals(*_OF_A_CLIENT) | _answer([{"name": "steel"} | _STATUS])
MODEL_RESPONSES: Responses = _refusals(*_OF_A_CLIENT, 404, 422) | _answer(_CARD | _STATUS)
RELEASE_RESPONSES: Responses = _refusals(*_OF_A_CLIENT, 404, 422) | _answer(
    {
        "instance": "visionops-steel-7c9/1",
        "name": "steel",
        "champion": "3",
        "candidate": "4",
        "strategy": "canary",
        "share": 0.1,
        "since": "2026-03-02T06:14:09Z",
        "figures": {
            "champion": {"answered": 3, "failed": 0, "durations": {"53": 3}},
            "candidate": {"answered": 1, "failed": 0, "durations": {"54": 1}},
        },
        "agreement": {"images": 1, "total": 1.0, "squares": 1.0},
        "breach": "",
        "returned": "",
        "problem": "",
    }
)
RELOAD_RESPONSES: Responses = _refusals(*_OF_A_BODY, 409, 422, 507) | _answer(_CARD | {"role": "champion"})
UNLOAD_RESPONSES: Responses = _refusals(*_OF_A_BODY, 404, 422) | _answer([{"name": "steel"} | _STATUS])
_KEPT = {
    "item": "2064b84b9b987c6357ede46641d4b7c0",
    "use_case": "steel",
    "sha256": "9f2c1e5ab04c7d3386d1c0f7a2e94b58c6e1d7f00b3a9d24e8f56a7b1c2d3e4f",
    "known": False,
}
FEEDBACK_RESPONSES: Responses = _refusals(*_OF_AN_IMAGE, 409, 507) | {
    202: {
        "description": "The feedback is stored durably, and will become a review item.",
        "content": {"application/json": {"example": _KEPT}},
    }
}
STREAM_RESPONSES: Responses = _refusals(*_OF_A_CLIENT, 404, 422, 426)
V2_PROBE_RESPONSES = _refusals(*_OF_A_PROBE, body=V2Error)
V2_RESPONSES = _refusals(*_OF_A_CLIENT, body=V2Error)
V2_MODEL_RESPONSES = _refusals(*_OF_A_CLIENT, 404, body=V2Error)
V2_METADATA_RESPONSES: Responses = V2_MODEL_RESPONSES | _answer(
    {
        "name": "steel",
        "versions": ["3", "4"],
        "platform": "openvino_onnx",
        "inputs": [spec.model_dump() for spec in INPUTS],
        "outputs": [
            {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "scores", "datatype": "FP32", "shape": [-1]},
            {"name": "class_ids", "datatype": "INT32", "shape": [-1]},
            {"name": "class_names", "datatype": "BYTES", "shape": [-1]},
            {"name": "counts", "datatype": "INT32", "shape": [-1]},
        ],
    }
)
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
        "description": "The outputs: as JSON, or as JSON followed by the bytes of outputs requested as binary data.",
        "content": {
            "application/json": {"example": _INFERRED},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            HEADER_LENGTH: {
                "description": "Length of the JSON before the binary data, in bytes; absent without binary data.",
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
_FILES = {
    "type": "array",
    "items": _BINARY,
    "minItems": 1,
    "description": "images, answered in the order sent; fields named `file` are accepted too",
}
_MISSED = {"boxes": [{"class_name": "scratches", "box": [12.0, 40.5, 180.2, 66.0]}]}
FEEDBACK_BODY = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Key chosen by the client: feedback that is repeated with the same key is stored once.",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/FeedbackRequest"},
                "examples": {
                    "wrong": {"value": {"request_id": "part-17", "comment": "there is nothing"}},
                    "label": {"value": {"request_id": "part-17", "label": _MISSED}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": _BINARY | {"description": "the image, if there is no request_id"},
                        "request_id": {"type": "string"},
                        "label": {"type": "string", "description": "the correct label: JSON in the task's format"},
                        "comment": {"type": "string"},
                        "key": {"type": "string"},
                    },
                }
            },
        },
    },
}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["files"], "properties": {"files": _FILES}}
            }
        },
    }
}
_PIXEL = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3], "data": [255, 0, 0] * 4}
_ASKED = {"id": "part-17", "parameters": {"confidence": 0.4}, "inputs": [_PIXEL]}
INFER_BODY = {
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "Length of the JSON before the binary data, in bytes; if absent, the whole body is JSON.",
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


def predict_responses() -> Responses:
    """Return the responses of `/predict`, with an example of each registered task."""
    examples = {task.name: {"value": _example(task)} for task in all_tasks()}
    return _refusals(*_OF_AN_IMAGE) | {200: {"content": {"application/json": {"examples": examples}}}}


def batch_responses() -> Responses:
    """Return the responses of `/predict/batch`."""
    example = {"results": [_example(all_tasks()[0]), _REFUSED]}
    return _refusals(*_OF_AN_IMAGE) | {
        200: {
            "content": {"application/json": {"example": example}},
            "description": "A result or an error for each image.",
        }
    }


def explain_responses() -> Responses:
    """Return the responses of `/explain`."""
    example = {
        **_IDENTITY,
        **all_tasks()[0].example,
        "saliency": {"box": [0.0, 0.0, 200.0, 200.0], "grid": [[0.02, 0.11], [0.64, 1.87]]},
        "timing_ms": {"total": 131.5},
    }
    return _refusals(*_OF_AN_IMAGE) | {
        200: {
            "model": explain_response(),
            "description": "The image in grey, with the regions that support the answer in colour; or the numbers.",
            "content": {
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"example": example},
            },
        },
    }


def _example(task: ServedTask[Any]) -> dict[str, Any]:
    return _IDENTITY | dict(task.example) | _TIMING


_KEYS = {
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A server without keys serves its own machine only; /reload and /unload always need a key.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
}


def _refusal_of(path: str) -> dict[str, Any]:
    body = V2Error if path.startswith("/v2") else ErrorAnswer
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {**_MEANINGS[422], "content": {"application/json": {"schema": schema}}}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document.

    The bodies that routes read themselves are added to the schemas, and FastAPI's own 422 body, which no route returns,
    is removed. Every route except the open ones requires a key.
    """
    result = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = result["components"]["schemas"]
    bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (body, "validation") for body in (infer_request(), FeedbackRequest, ReloadRequest, UnloadRequest)
    ]
    schemas |= models_json_schema(bodies, ref_template="#/components/schemas/{model}")[1]["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    result["components"]["securitySchemes"] = _KEYS
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            operation["security"] = [{name: []} for name in _KEYS] if ROLES[f"{method.upper()} {path}"] else []
            if "429" in operation["responses"]:
                for done in {"200", "202", "426"} & set(operation["responses"]):
                    operation["responses"][done].setdefault("headers", {}).update(_WINDOW)
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            # An unknown parameter is refused everywhere.
            operation["responses"].setdefault("422", _refusal_of(path))
    return result
