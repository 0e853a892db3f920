"""Errors of the review. An API maps each class to the status beside it, and its ``code`` to the body.

VisionOpsError
└── ReviewError
    ├── NotFound          404  the item, use case or version does not exist
    ├── Invalid           422  a text, number or answer is not valid
    ├── Forbidden         403  only an admin may do it
    ├── Conflict          409  the write conflicts with the current state
    │   ├── KeyReused     409  the key was used for another write
    │   ├── HeldByAnother 409  another reviewer has the item
    │   ├── LeaseExpired  409  the lease ended before the decision arrived
    │   ├── OpinionGiven  409  the reviewer has already given an opinion; the next must come from another
    │   └── WrongState    409  the item is in a state that does not allow it
    ├── Unavailable       503  the database, the images or an annotation tool cannot be reached or written
    └── OtherSchema       503  the database has the schema of another version

`visionops.runs.states.CoolingDown` is a `Conflict`, too. A `LabelError` (422) describes a problem with a label, an
`ImageError` a problem with an image.
"""

from __future__ import annotations

from typing import ClassVar

from visionops.errors import VisionOpsError

__all__ = [
    "Conflict",
    "Forbidden",
    "HeldByAnother",
    "Invalid",
    "KeyReused",
    "LeaseExpired",
    "NotFound",
    "OpinionGiven",
    "OtherSchema",
    "ReviewError",
    "Unavailable",
    "WrongState",
]


class ReviewError(VisionOpsError):
    """Base class of review errors."""

    code = "review_error"
    status: ClassVar[int] = 500


class NotFound(ReviewError):
    """The item, use case or version does not exist."""

    code = "not_found"
    status = 404


class Invalid(ReviewError):
    """A text, number or answer is not valid."""

    code = "invalid"
    status = 422


class Forbidden(ReviewError):
    """Only an admin may do it."""

    code = "forbidden"
    status = 403


class Conflict(ReviewError):
    """The write conflicts with the current state of the item, or with an earlier write."""

    code = "conflict"
    status = 409


class KeyReused(Conflict):
    """The key was used for another write."""

    code = "key_reused"


class HeldByAnother(Conflict):
    """Another reviewer has the item."""

    code = "held_by_another"


class LeaseExpired(Conflict):
    """The lease ended before the decision arrived."""

    code = "lease_expired"


class OpinionGiven(Conflict):
    """The reviewer has given an opinion in this round; the next must come from another."""

    code = "opinion_given"


class WrongState(Conflict):
    """The item is in a state that does not allow it."""

    code = "wrong_state"


class Unavailable(ReviewError):
    """The database, the images or an annotation tool cannot be reached or written.

    The same write may be sent again, with its key.
    """

    code = "unavailable"
    status = 503


class OtherSchema(ReviewError):
    """The database has the schema of another version."""

    code = "other_schema"
    status = 503
