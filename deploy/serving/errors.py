"""What the prediction server refuses beside what every server of ours does (`deploy.http.errors`).

ApiError
├── BadTensor            400  an inference request is not as the protocol says
├── UnknownModel         404  no model of that name, or not in that version
├── UnknownRequest       404  the prediction log has no prediction of that request
├── NoPredictionLog      404  the server remembers nothing that feedback could be about
├── ImageNotKept         409  the prediction is known, its image is not
├── KeyReused            409  the key was used for other feedback
├── RoleConflict         409  the role cannot be: no champion, or one of another task
├── SmokeTestFailed      409  the new model loads but does not answer well
├── ModelFailed          500  the model's engine failed, or gave numbers that are none
├── UpgradeRequired      426  the path is a WebSocket
├── NoModel              503  there is nothing to answer with
├── FeedbackUnwritable   503  the disk of the feedback log cannot be written
├── FeedbackDiskFull     507  the disk of the feedback log is full
├── MemoryCap            507  the model would take the process over its limit of memory
└── Busy
    ├── Overloaded       503  the queue is full
    ├── TooManyStreams   503  as many streams are open as may
    └── DeadlineMissed   503  the answer cannot be ready by the deadline, or was not
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


class SmokeTestFailed(ApiError):
    """The new model loads but does not answer well."""

    status = 409
    code = "smoke_test_failed"


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


class UpgradeRequired(ApiError):
    """The path is a WebSocket, and the request is none."""

    status = 426
    code = "upgrade_required"

    @property
    def headers(self) -> dict[str, str]:
        """To what."""
        return {"Upgrade": "websocket"}


class NoModel(ApiError):
    """There is nothing to answer with."""

    status = 503
    code = "no_model"


class Overloaded(Busy):
    """As many images wait as may."""

    code = "overloaded"


class TooManyStreams(Busy):
    """As many streams are open as may."""

    code = "too_many_streams"


class Missed(enum.StrEnum):
    """When it was clear that a deadline is missed."""

    REFUSED = "refused"
    """At once: nothing was computed."""
    EXPIRED = "expired"
    """In the queue: nothing was computed."""
    LATE = "late"
    """While the image was in work."""


class DeadlineMissed(Busy):
    """The answer cannot be ready by the deadline, or was not.

    Args:
        retry_after: Seconds after which the same deadline could be met; 0: none that is known.
    """

    code = "deadline"

    def __init__(self, message: str, reason: Missed, *, retry_after: int = 0) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, where that would help."""
        return super().headers if self.retry_after else {}
