"""What the prediction server refuses beside what every server of ours does (`deploy.http.errors`).

ApiError
├── BadTensor            400  an inference request is not as the protocol says
├── UnknownModel         404  no model of that name, or not in that version
├── RoleConflict         409  the role cannot be: no champion, or one of another task
├── SmokeTestFailed      409  the new model loads but does not answer well
├── ModelFailed          500  the model's engine failed, or gave numbers that are none
├── NoModel              503  there is nothing to answer with
├── MemoryCap            507  the model would take the process over its limit of memory
└── Busy
    └── Overloaded       503  the queue is full
"""

from __future__ import annotations

from deploy.http.errors import ApiError, Busy

__all__ = [
    "BadTensor",
    "MemoryCap",
    "ModelFailed",
    "NoModel",
    "Overloaded",
    "RoleConflict",
    "SmokeTestFailed",
    "UnknownModel",
]


class UnknownModel(ApiError):
    """No model of that name, or not in that version."""

    status = 404
    code = "unknown_model"


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


class MemoryCap(ApiError):
    """The model would take the process over its limit of memory."""

    status = 507
    code = "memory_cap"


class NoModel(ApiError):
    """There is nothing to answer with."""

    status = 503
    code = "no_model"


class Overloaded(Busy):
    """As many images wait as may."""

    code = "overloaded"
