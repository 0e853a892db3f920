"""Draw the share of items that are reviewed regardless of their scores.

Only these items measure the model's quality: the others include more images that it finds hard. An item belongs to the
share by its id, which is a hash of the image, and not by a draw from the pending items. Those are what the scores left
over, and a daily draw from them would pick the same items again and again until all belong to the share.
"""

from __future__ import annotations

import hashlib

__all__ = ["RANDOM_TEXT", "is_drawn", "random_place"]

RANDOM_TEXT = "drawn at random, whatever the model says; counts for the estimate of its performance"


def is_drawn(item: str, share: float, seed: int = 0) -> bool:
    """Return whether an item belongs to the random share; the same whenever and wherever it is called.

    Args:
        item: Its id.
        share: Share of all items, 0 to 1.
    """
    return _uniform(item, seed, "share") < share


def random_place(item: str, seed: int = 0) -> float:
    """Return the place of an item of the random share in the queue, from 0 (last) up to 1."""
    return _uniform(item, seed, "place")


def _uniform(item: str, seed: int, what: str) -> float:
    digest = hashlib.sha256(f"{what} {seed} {item}".encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
