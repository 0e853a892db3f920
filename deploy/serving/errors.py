"""What the server refuses, each with its status and code, and how the domain's errors map to both.

VisionOpsError
└── ApiError
    ├── WrongKey             401  the key does not open /reload
    ├── ReloadDisabled       403  the server has no key
    ├── SmokeTestFailed      409  the new model loads but does not answer well
    ├── UploadTooLarge       413  the body exceeds the limit
    ├── UnsupportedMedia     415  the body is no multipart form
    ├── BadRequest           422  a parameter, the form or the JSON cannot be used
    ├── NoModel              503  there is nothing to answer with
    └── Busy                 503  an image is being explained already
"""

from __future__ import annotations

from typing import ClassVar

from visionops.errors import BundleError, ImageError, OptionError, VisionOpsError
from visionops.inference.image import ImageProblem

__all__ = [
    "ApiError",
    "BadRequest",
    "Busy",
    "NoModel",
    "ReloadDisabled",
    "SmokeTestFailed",
    "UnsupportedMedia",
    "UploadTooLarge",
    "WrongKey",
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
    """An image is being explained already; ``retry_after`` seconds later there may be a turn."""

    status = 503
    code = "busy"
    retry_after: ClassVar[int] = 1


def status_and_code(error: VisionOpsError) -> tuple[int, str]:
    """HTTP status and the code of the error body."""
    if isinstance(error, ApiError):
        return error.status, error.code
    if isinstance(error, ImageError):
        return (413 if error.kind == ImageProblem.TOO_LARGE else 422), str(error.kind)
    if isinstance(error, BundleError | OptionError):
        return 422, error.code
    return 500, error.code
