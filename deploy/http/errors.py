"""What every server of ours refuses, each with its status and code, and how the domain's errors map to both.

VisionOpsError
└── ApiError
    ├── WrongKey             401  no key, or none of ours
    ├── NotSignedIn          401  no session, or one that has ended
    ├── WrongRole            403  the key is for something else
    ├── AdminDisabled        403  the server has no admin key
    ├── KeysNeeded           403  the client is of another machine, and the server has no keys
    ├── ForeignHost          403  the same, told by the header Host
    ├── ForeignOrigin        403  a page of another origin sent the browser
    ├── NoRoute              404  there is no such path
    ├── MethodNotAllowed     405  the path has other methods
    ├── UploadTooSlow        408  the body did not arrive in time
    ├── UploadTooLarge       413  the body exceeds the limit
    ├── UnsupportedMedia     415  the body has another type than the route takes
    ├── BadRequest           422  a parameter, the form or the JSON cannot be used
    ├── TooManyRequests      429  the client asks more often than it may
    └── Busy                 503  there is no turn now
        ├── BodiesFull       503  the bodies of other requests fill the memory for them
        └── TookTooLong      503  waited longer than the time limit

A `ReviewError` has a status of its own; `visionops.review.errors` lists them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from visionops.errors import BundleError, ImageError, LabelError, OptionError, VisionOpsError
from visionops.inference.image import ImageProblem
from visionops.review.errors import ReviewError
from visionops.schema_words import describe_expectation

__all__ = [
    "AdminDisabled",
    "ApiError",
    "BadRequest",
    "BodiesFull",
    "Busy",
    "ForeignHost",
    "ForeignOrigin",
    "KeysNeeded",
    "MethodNotAllowed",
    "NoRoute",
    "NotSignedIn",
    "TooManyRequests",
    "TookTooLong",
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


class NotSignedIn(ApiError):
    """No session, or one that has ended."""

    status = 401
    code = "not_signed_in"


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


class UploadTooSlow(ApiError):
    """The body did not arrive in time; the connection is closed."""

    status = 408
    code = "upload_too_slow"

    @property
    def headers(self) -> dict[str, str]:
        """Not to be used again."""
        return {"Connection": "close"}


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


class TookTooLong(Busy):
    """Admitted, but not done within the time limit."""

    code = "timeout"


def status_and_code(error: VisionOpsError) -> tuple[int, str]:
    """HTTP status and the code of the error body."""
    if isinstance(error, ApiError | ReviewError):
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
    message = describe_expectation(first)
    return f"{place}: {message}" if place else message
