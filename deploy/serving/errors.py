"""What the server refuses, each with its status and code, and how the domain's errors map to both.

VisionOpsError
└── ApiError
    ├── WrongKey             401  the key does not open /reload
    ├── ReloadDisabled       403  the server has no key
    ├── UnknownModel         404  no model of that name, or not in that version
    ├── SmokeTestFailed      409  the new model loads but does not answer well
    ├── UploadTooLarge       413  the body exceeds the limit
    ├── UnsupportedMedia     415  the body is no multipart form
    ├── BadRequest           422  a parameter, the form or the JSON cannot be used
    ├── NoModel              503  there is nothing to answer with
    └── Busy                 503  an image is being explained already
        ├── Overloaded       503  the queue is full
        └── TookTooLong      503  waited longer than the time limit
"""

from __future__ import annotations

from typing import Any, ClassVar

from visionops.errors import BundleError, ImageError, OptionError, VisionOpsError
from visionops.inference.image import ImageProblem

__all__ = [
    "ApiError",
    "BadRequest",
    "Busy",
    "NoModel",
    "Overloaded",
    "ReloadDisabled",
    "SmokeTestFailed",
    "TookTooLong",
    "UnknownModel",
    "UnsupportedMedia",
    "UploadTooLarge",
    "WrongKey",
    "first_problem",
    "status_and_code",
]


class ApiError(VisionOpsError):
    """Base of what the server itself refuses."""

    status: ClassVar[int] = 400
    code = "bad_request"


class WrongKey(ApiError):
    """The key does not open /reload."""

    status = 401
    code = "wrong_key"


class ReloadDisabled(ApiError):
    """The server has no key, so nobody may reload."""

    status = 403
    code = "reload_disabled"


class UnknownModel(ApiError):
    """No model of that name, or not in that version."""

    status = 404
    code = "unknown_model"


class SmokeTestFailed(ApiError):
    """The new model loads but does not answer well."""

    status = 409
    code = "smoke_test_failed"


class UploadTooLarge(ApiError):
    """The body exceeds the limit."""

    status = 413
    code = "upload_too_large"


class UnsupportedMedia(ApiError):
    """The body is no multipart form."""

    status = 415
    code = "unsupported_media_type"


class BadRequest(ApiError):
    """A parameter, the form or the JSON cannot be used; ``code`` says which."""

    status = 422

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NoModel(ApiError):
    """There is nothing to answer with."""

    status = 503
    code = "no_model"


class Busy(ApiError):
    """There is no turn now; ``retry_after`` seconds later there may be one."""

    status = 503
    code = "busy"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Busy):
    """As many images wait as may."""

    code = "overloaded"


class TookTooLong(Busy):
    """Admitted, but not done within the time limit."""

    code = "timeout"


def status_and_code(error: VisionOpsError) -> tuple[int, str]:
    """HTTP status and the code of the error body."""
    if isinstance(error, ApiError):
        return error.status, error.code
    if isinstance(error, ImageError):
        return (413 if error.kind == ImageProblem.TOO_LARGE else 422), str(error.kind)
    if isinstance(error, BundleError | OptionError):
        return 422, error.code
    return 500, error.code


def first_problem(errors: Any) -> str:
    """The first of pydantic's errors, in one line."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
    return f"{place}: {first['msg']}" if place else str(first["msg"])
