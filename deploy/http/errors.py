"""Errors that all our servers share, with HTTP status and code, and the mapping of domain errors to both.

VisionOpsError
└── ApiError
    ├── WrongKey             401  the key is missing or unknown
    ├── NotSignedIn          401  there is no session, or it has ended
    ├── WrongRole            403  the role of the key does not allow this
    ├── AdminDisabled        403  the server has no admin key
    ├── KeysNeeded           403  the client is on another machine, and the server has no keys
    ├── ForeignHost          403  the header Host names another machine, and the server has no keys
    ├── ForeignOrigin        403  a page of another origin sent the request
    ├── NoRoute              404  there is no such path
    ├── MethodNotAllowed     405  the path has other methods
    ├── UploadTooSlow        408  the body did not arrive in time
    ├── UploadTooLarge       413  the body exceeds the limit
    ├── UnsupportedMedia     415  the route does not accept this content type
    ├── BadRequest           422  a parameter, the form or the JSON is invalid
    ├── TooManyRequests      429  the client exceeds the rate limit
    └── Busy                 503  the server is busy; try again
        ├── BodiesFull       503  the bodies of other requests fill their memory limit
        └── TimeLimitExceeded 503  the request exceeds the time limit

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
    "TimeLimitExceeded",
    "TooManyRequests",
    "UnsupportedMedia",
    "UploadTooLarge",
    "UploadTooSlow",
    "WrongKey",
    "WrongRole",
    "first_problem",
    "status_and_code",
]


class ApiError(VisionOpsError):
    """Base class of the errors that a server itself raises."""

    status: ClassVar[int] = 400
    code = "bad_request"

    @property
    def headers(self) -> dict[str, str]:
        """Return extra headers of the response."""
        return {}


class WrongKey(ApiError):
    """The key is missing or unknown."""

    status = 401
    code = "wrong_key"

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that names the authentication scheme."""
        return {"WWW-Authenticate": "Bearer"}


class NotSignedIn(ApiError):
    """There is no session, or it has ended."""

    status = 401
    code = "not_signed_in"


class WrongRole(ApiError):
    """The role of the key does not allow this request."""

    status = 403
    code = "wrong_role"


class AdminDisabled(ApiError):
    """The server has no admin key, so nobody may change what it serves."""

    status = 403
    code = "admin_disabled"


class KeysNeeded(ApiError):
    """The server has no keys, and the client is on another machine."""

    status = 403
    code = "keys_needed"


class ForeignHost(ApiError):
    """The server has no keys, and the header Host names another machine."""

    status = 403
    code = "foreign_host"


class ForeignOrigin(ApiError):
    """The server has no keys, and a page of another origin sent the request."""

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
        """Return the header that lists the allowed methods."""
        return {"Allow": ", ".join(self.allowed)}


class UploadTooSlow(ApiError):
    """The body did not arrive in time; the connection is closed."""

    status = 408
    code = "upload_too_slow"

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that closes the connection."""
        return {"Connection": "close"}


class UploadTooLarge(ApiError):
    """The body exceeds the limit."""

    status = 413
    code = "upload_too_large"


class UnsupportedMedia(ApiError):
    """The content type of the body is not supported."""

    status = 415
    code = "unsupported_media_type"


class BadRequest(ApiError):
    """A parameter, the form or the JSON is invalid; ``code`` says which."""

    status = 422

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class TooManyRequests(ApiError):
    """The client exceeds the rate limit."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int, window: list[tuple[bytes, bytes]]) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.window = window

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says when to try again."""
        return {"Retry-After": str(self.retry_after)}


class Busy(ApiError):
    """The server is busy; the client may try again after ``retry_after`` seconds."""

    status = 503
    code = "busy"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says when to try again."""
        return {"Retry-After": str(self.retry_after)}


class BodiesFull(Busy):
    """The bodies of other requests fill the memory set aside for them."""

    code = "memory_full"


class TimeLimitExceeded(Busy):
    """The request was accepted, but exceeds the time limit."""

    code = "timeout"


def status_and_code(error: VisionOpsError) -> tuple[int, str]:
    """Return the HTTP status and the code of an error."""
    if isinstance(error, ApiError | ReviewError):
        return error.status, error.code
    if isinstance(error, ImageError):
        return (413 if error.kind == ImageProblem.TOO_LARGE else 422), str(error.kind)
    if isinstance(error, BundleError | LabelError | OptionError):
        return 422, error.code
    return 500, error.code


def first_problem(errors: Any) -> str:
    """Return the first of pydantic's errors, in one line."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
    message = describe_expectation(first)
    return f"{place}: {message}" if place else message
