"""Fixtures of scenes of coloured cells."""

from tests.helpers.scenes import make_dataset, scoring

__all__ = ["make_dataset", "scoring"]
