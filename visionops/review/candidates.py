"""Images of traffic that may be reviewed, as those see them who say what is reviewed first."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.review.items import Predicted, Reason

__all__ = ["FEEDBACK_PRIORITY", "RANDOM_PRIORITY", "Candidate", "Prioritize", "in_random_share", "no_reasons"]

FEEDBACK_PRIORITY = 2.0
"""Of what a person has pointed out."""
RANDOM_PRIORITY = 1.0
"""Of the random share. It has to be reviewed, too, or no estimate comes of it."""
_SALT = b"review random share\0"


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A sampled image, and what the prediction log has of it."""

    sha256: str
    """Of the image."""
    record: Mapping[str, Any]
    """The columns of `visionops.monitoring.record.record_schema`, but for the embedding."""
    embedding: npt.NDArray[np.float32]
    """The model's features of the image, float32 (D,); (0,) where it gave none."""
    predicted: Predicted | None
    """The whole answer; None of a record that a server of an earlier version wrote."""


Prioritize = Callable[[Sequence[Candidate]], Sequence[tuple[Reason, ...]]]
"""Returns the reasons of each candidate, in their order. The candidates came together, 256 at most."""


def no_reasons(candidates: Sequence[Candidate]) -> list[tuple[Reason, ...]]:
    """Return no reason for any candidate: they are reviewed in the order they came."""
    return [()] * len(candidates)


def in_random_share(request_id: str, share: float) -> bool:
    """Return whether a request is in the random share: always the same answer for the same id.

    It does not depend on whether the image was sampled, which is by the hash of the same id: the salt is another.
    """
    digest = hashlib.blake2b(_SALT + request_id.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64
