"""Errors of the prediction server, in addition to those of all our servers (`deploy.http.errors`).

ApiError
├── BadTensor            400  an inference request violates the protocol
├── UnknownModel         404  no model has that name or version
├── UnknownRequest       404  the prediction log has no prediction with that request id
├── NoPredictionLog      404  the server keeps no prediction log, so it takes no feedback
├── ImageNotKept         409  the prediction is in the log, but its image is not
├── KeyReused            409  the key was used for other feedback
├── RoleConflict         409  the role is not possible: no champion, or one for another task
├── SmokeTestFailed      409  the new model loads but fails its smoke test
├── ModelFailed          500  the model's engine failed, or returned invalid numbers
├── UpgradeRequired      426  the path is a WebSocket
├── NoModel              503  no model is loaded
├── FeedbackUnwritable   503  the disk of the feedback log cannot be written
├── FeedbackDiskFull     507  the disk of the feedback log is full
├── MemoryCap            507  the model would exceed the process's memory limit
└── Busy
    ├── Overloaded       503  the queue is full
    ├── TooManyStreams   503  the maximum number of streams is open
    └── DeadlineMissed   503  the answer was not, or cannot be, ready by the deadline
"""

from __future__ import annotations

import enum

from deploy.http.errors import ApiError, Busy

__all__ = [
    "BadTensor",
    "DeadlineMissed",
    "FeedbackDiskFull",
    "FeedbackUnwritable",
    "ImageNotKept",
    "KeyReused",
    "MemoryCap",
    "Missed",
    "ModelFailed",
    "NoModel",
    "NoPredictionLog",
    "Overloaded",
    "RoleConflict",
    "SmokeTestFailed",
    "TooManyStreams",
    "UnknownModel",
    "UnknownRequest",
    "UpgradeRequired",
]


class UnknownModel(ApiError):
    """No model has that name or version."""

    status = 404
    code = "unknown_model"


class UnknownRequest(ApiError):
    """The prediction log has no prediction with that request id."""

    status = 404
    code = "unknown_request"


class NoPredictionLog(ApiError):
    """The server keeps no prediction log, so it takes no feedback."""

    status = 404
    code = "no_prediction_log"


class ImageNotKept(ApiError):
    """The prediction is in the log, but its image was not sampled, or was removed."""

    status = 409
    code = "image_not_kept"


class KeyReused(ApiError):
    """The key was used for other feedback."""

    status = 409
    code = "key_reused"


class RoleConflict(ApiError):
    """The role is not possible: the name has no champion, or one for another task."""

    status = 409
    code = "role_conflict"


class BadTensor(ApiError):
    """An inference request violates the Open Inference Protocol, which requires status 400."""

    code = "bad_tensor"


class SmokeTestFailed(ApiError):
    """The new model loads but fails its smoke test."""

    status = 409
    code = "smoke_test_failed"


class ModelFailed(ApiError):
    """The model's engine failed, or returned invalid numbers."""

    status = 500
    code = "model_failed"


class FeedbackUnwritable(ApiError):
    """The disk of the feedback log cannot be written; the feedback was not stored."""

    status = 503
    code = "feedback_unwritable"


class FeedbackDiskFull(ApiError):
    """The disk of the feedback log is full; the feedback was not stored."""

    status = 507
    code = "disk_full"


class MemoryCap(ApiError):
    """The model would exceed the process's memory limit."""

    status = 507
    code = "memory_cap"


class UpgradeRequired(ApiError):
    """The path is a WebSocket, but the request is not."""

    status = 426
    code = "upgrade_required"

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that names the protocol."""
        return {"Upgrade": "websocket"}


class NoModel(ApiError):
    """No model is loaded."""

    status = 503
    code = "no_model"


class Overloaded(Busy):
    """The queue is full."""

    code = "overloaded"


class TooManyStreams(Busy):
    """The maximum number of streams is open."""

    code = "too_many_streams"


class Missed(enum.StrEnum):
    """Stage at which a deadline was missed."""

    REFUSED = "refused"
    """Refused on arrival; nothing was computed."""
    EXPIRED = "expired"
    """Expired in the queue; nothing was computed."""
    LATE = "late"
    """Missed while the image was being processed."""


class DeadlineMissed(Busy):
    """The answer was not, or cannot be, ready by the deadline.

    Args:
        retry_after: Seconds after which the same deadline could be met; 0 if unknown.
    """

    code = "deadline"

    def __init__(self, message: str, reason: Missed, *, retry_after: int = 0) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says when to try again, if known."""
        return super().headers if self.retry_after else {}
