"""Define the interface of a reader, which detects one format and reads it."""

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
    """Images are in folders, which is true for most data sets."""
    LIKELY = 2
    """A file of a common type, such as a CSV, has the content that the format requires."""
    SURE = 3
    """There are annotation files of a kind that only this format uses."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a reader found in a folder that shows its format."""

    strength: Strength
    summary: str
    """Description for people, such as "CVAT COCO 1.0, 2 subsets"."""
    reasons: tuple[str, ...]
    """Reasons that name a file, such as "annotations/instances_Train.json has images, annotations, categories"."""
    layer: str = BOXES
    """Layer of the data set that gets the annotations."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings below ``data`` that a use case needs in addition to ``format``."""


class Reader(Protocol):
    """A module with these two functions, for one format."""

    def detect(self, listing: Listing, data: DataConfig) -> Evidence | None:
        """Return evidence if the files have this format, otherwise None.

        Looks at file names and the content of a few files, and decodes no image. A file that cannot be read is ignored.
        """

    def read(self, listing: Listing, data: DataConfig, name: str) -> Dataset:
        """Read the data set.

        Args:
            listing: The files below the root.
            data: Configuration of the data.
            name: Name of the data set.

        Raises:
            AnnotationError: An annotation file is missing or cannot be parsed.
            DataError: Something that ``data`` names, such as a folder, does not exist.
        """
