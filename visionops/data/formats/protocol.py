"""Interface of a reader: detect whether a folder has its format, and read it."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Protocol

from visionops.data.dataset import Dataset
from visionops.data.layers import BOXES
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig

__all__ = ["Evidence", "Reader", "Strength"]


class Strength(enum.IntEnum):
    """How certain a reader is that a folder has its format."""

    WEAK = 1
    """Images are in folders, as in most data sets."""
    LIKELY = 2
    """A file that other tools write, too, has the right content."""
    SURE = 3
    """There are annotation files that only this format has."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Why a folder has a format."""

    strength: Strength
    summary: str
    """Description for people: "CVAT COCO 1.0, 2 subsets"."""
    reasons: tuple[str, ...]
    """Observations, each with its place: "annotations/instances_Train.json has images, annotations, categories"."""
    layer: str = BOXES
    """Layer of the annotations."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of ``data`` that a configuration needs in addition to ``format``."""


class Reader(Protocol):
    """A module that reads one format."""

    def detect(self, listing: Listing, data: DataConfig) -> Evidence | None:
        """Return evidence if the files have this format, by names and a few samples; decode no image.

        Files that cannot be read are not evidence and raise no error.
        """

    def read(self, listing: Listing, data: DataConfig, name: str) -> Dataset:
        """Read the data set.

        Args:
            listing: The files below the root.
            data: Configuration of the data.
            name: Name of the data set.

        Raises:
            AnnotationError: An annotation file is missing or malformed as a whole.
            DataError: A folder or setting that ``data`` names is missing.
        """
