"""What the server refuses, each with its status and code, and how the domain's errors map to both.

VisionOpsError
└── ApiError
    ├── BadTensor            400  an inference request is not as the protocol says
    ├── WrongKey             401  no key, or none of ours
    ├── WrongRole            403  the key is for something else
    ├── AdminDisabled        403  the server has no admin key
    ├── KeysNeeded           403  the client is of another machine, and the server has no keys
    ├── ForeignHost          403  the same, told by the header Host
    ├── ForeignOrigin        403  a page of another origin sent the browser
    ├── NoRoute              404  there is no such path
    ├── UnknownModel         404  no model of that name, or not in that version
    ├── UnknownRequest       404  the prediction log has no prediction of that request
    ├── NoPredictionLog      404  the server remembers nothing that feedback could be about
    ├── MethodNotAllowed     405  the path has other methods
    ├── UploadTooSlow        408  the body did not arrive in time
    ├── ImageNotKept         409  the prediction is known, its image is not
    ├── KeyReused            409  the key was used for other feedback
    ├── RoleConflict         409  the role cannot be: no champion, or one of another task
    ├── SmokeTestFailed      409  the new model loads but does not answer well
    ├── UploadTooLarge       413  the body exceeds the limit
    ├── UnsupportedMedia     415  the body is no multipart form
    ├── BadRequest           422  a parameter, the form or the JSON cannot be used
    ├── ModelFailed          500  the model's engine failed, or gave numbers that are none
    ├── TooManyRequests      429  the client asks more often than it may
    ├── NoModel              503  there is nothing to answer with
    ├── FeedbackUnwritable   503  the disk of the feedback log cannot be written
    ├── FeedbackDiskFull     507  the disk of the feedback log is full
    ├── MemoryCap            507  the model would take the process over its limit of memory
    └── Busy                 503  an image is being explained already
        ├── BodiesFull       503  the bodies of other requests fill the memory for them
        ├── Overloaded       503  the queue is full
        └── TookTooLong      503  waited longer than the time limit
"""

from __future__ import annotations

from typing import Any, ClassVar

from visionops.errors import BundleError, ImageError, LabelError, OptionError, VisionOpsError
from visionops.inference.image import ImageProblem

__all__ = [
    "AdminDisabled",
    "ApiError",
    "BadRequest",
    "BadTensor",
    "BodiesFull",
    "Busy",
    "FeedbackDiskFull",
    "FeedbackUnwritable",
    "ForeignHost",
    "ForeignOrigin",
    "ImageNotKept",
    "KeyReused",
    "KeysNeeded",
    "MemoryCap",
    "MethodNotAllowed",
    "ModelFailed",
    "NoModel",
    "NoPredictionLog",
    "NoRoute",
    "Overloaded",
    "RoleConflict",
    "SmokeTestFailed",
    "TooManyRequests",
    "TookTooLong",
    "UnknownModel",
    "UnknownRequest",
    "UnsupportedMedia",
    "UploadTooLarge",
    "UploadTooSlow",
    "WrongKey",
    "WrongRole",
    "first_problem",
    "status_and_code",
]


class ApiError(VisionOpsError):
    """Base of what the server itself refuses."""

    status: ClassVar[int] = 400
    code = "bad_request"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {}


class WrongKey(ApiError):
    """No key, or none of ours."""

    status = 401
    code = "wrong_key"

    @property
    def headers(self) -> dict[str, str]:
        """How to come again."""
        return {"WWW-Authenticate": "Bearer"}


class WrongRole(ApiError):
    """The key is for something else."""

    status = 403
    code = "wrong_role"


class AdminDisabled(ApiError):
    """The server has no admin key, so nobody may change what it serves."""

    status = 403
    code = "admin_disabled"


class KeysNeeded(ApiError):
    """The server has no keys, and the client is of another machine."""

    status = 403
    code = "keys_needed"


class ForeignHost(ApiError):
    """The server has no keys, and the address that was asked for is not this machine's own."""

    status = 403
    code = "foreign_host"


class ForeignOrigin(ApiError):
    """The server has no keys, and a browser comes on behalf of a page of another origin."""

    status = 403
    code = "foreign_origin"


class NoRoute(ApiError):
    """There is no such path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ApiError):
    """The path has other methods."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        """Which."""
        return {"Allow": ", ".join(self.allowed)}


class UnknownModel(ApiError):
    """No model of that name, or not in that version."""

    status = 404
    code = "unknown_model"


class UnknownRequest(ApiError):
    """The prediction log has no prediction of that request."""

    status = 404
    code = "unknown_request"


class NoPredictionLog(ApiError):
    """The server remembers nothing that feedback could be about, and has no place to keep it."""

    status = 404
    code = "no_prediction_log"


class ImageNotKept(ApiError):
    """The prediction is known, but its image was not sampled, or is gone."""

    status = 409
    code = "image_not_kept"


class KeyReused(ApiError):
    """The key was used for other feedback."""

    status = 409
    code = "key_reused"


class RoleConflict(ApiError):
    """The role cannot be: no champion to stand beside, or one of another task."""

    status = 409
    code = "role_conflict"


class BadTensor(ApiError):
    """An inference request is not as the protocol says; 400, as it wants."""

    code = "bad_tensor"


class UploadTooSlow(ApiError):
    """The body did not arrive in time; the connection is closed."""

    status = 408
    code = "upload_too_slow"

    @property
    def headers(self) -> dict[str, str]:
        """Not to be used again."""
        return {"Connection": "close"}


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


class ModelFailed(ApiError):
    """The model's engine failed, or gave numbers that are none."""

    status = 500
    code = "model_failed"


class FeedbackUnwritable(ApiError):
    """The disk of the feedback log cannot be written; nothing was kept."""

    status = 503
    code = "feedback_unwritable"


class FeedbackDiskFull(ApiError):
    """The disk of the feedback log is full; nothing was kept."""

    status = 507
    code = "disk_full"


class MemoryCap(ApiError):
    """The model would take the process over its limit of memory."""

    status = 507
    code = "memory_cap"


class TooManyRequests(ApiError):
    """The client asks more often than it may."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int, window: list[tuple[bytes, bytes]]) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.window = window

    @property
    def headers(self) -> dict[str, str]:
        """When to come again."""
        return {"Retry-After": str(self.retry_after)}


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

    @property
    def headers(self) -> dict[str, str]:
        """When to come again."""
        return {"Retry-After": str(self.retry_after)}


class BodiesFull(Busy):
    """The bodies of other requests fill the memory set aside for them."""

    code = "memory_full"


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
    if isinstance(error, BundleError | LabelError | OptionError):
        return 422, error.code
    return 500, error.code


def first_problem(errors: Any) -> str:
    """The first of pydantic's errors, in one line."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
    return f"{place}: {first['msg']}" if place else str(first["msg"])
