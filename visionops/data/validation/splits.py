"""Define the splits that a data set may have."""

from __future__ import annotations

from visionops.data.dataset import Split

__all__ = ["GIVEN_SPLITS"]

GIVEN_SPLITS = (Split.TRAIN.value, Split.VAL.value, Split.TEST.value)
"""Splits from the least to the most protected one."""
