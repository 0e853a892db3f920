"""The splits that a data set may come with."""

from __future__ import annotations

from visionops.data.dataset import Split

__all__ = ["GIVEN_SPLITS"]

GIVEN_SPLITS = (Split.TRAIN.value, Split.VAL.value, Split.TEST.value)
"""In the order of protection."""
