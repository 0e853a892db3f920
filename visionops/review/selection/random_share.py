"""The share of the items that no score decides about.

Only these items say how good the model is: among the others are more of those that it finds hard. An item belongs to
the share by its id, which comes from a hash of the image, not by a draw from what waits now: what waits is what the
scores have left over, and a draw each day would find the same items again and again until all belong.
"""

from __future__ import annotations

import hashlib

__all__ = ["RANDOM_TEXT", "is_drawn", "random_place"]

RANDOM_TEXT = "drawn at random, whatever the model says; counts for the estimate of its performance"


def is_drawn(item: str, share: float, seed: int = 0) -> bool:
    """Return whether an item belongs to the random share; the same whenever and wherever it is called.

    Args:
        item: Its id.
        share: From 0, none, to 1, all.
    """
    return _uniform(item, seed, "share") < share


def random_place(item: str, seed: int = 0) -> float:
    """Return where in the queue an item of the random share stands, from 0, last, up to 1."""
    return _uniform(item, seed, "place")


def _uniform(item: str, seed: int, what: str) -> float:
    digest = hashlib.sha256(f"{what} {seed} {item}".encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
