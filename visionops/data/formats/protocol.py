"""What every reader of a format is: it says whether a folder is its own, and reads it."""

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
    """How sure a reader is that a folder is its own."""

    WEAK = 1
    """Images lie in folders, as they do in most data sets."""
    LIKELY = 2
    """A file that other tools write, too, has the right content."""
    SURE = 3
    """There are annotation files that only this format has."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Why a folder is of a format."""

    strength: Strength
    summary: str
    """What it is, for people: "CVAT COCO 1.0, 2 subsets"."""
    reasons: tuple[str, ...]
    """What was seen, each with its place: "annotations/instances_Train.json has images, annotations, categories"."""
    layer: str = BOXES
    """What kind of annotations it has."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of ``data`` that a configuration needs besides ``format``."""


class Reader(Protocol):
    """A module that reads one format."""

    def detect(self, listing: Listing, data: DataConfig) -> Evidence | None:
        """Say whether the files are of this format, by names and a few samples; decode no image.

        Files that cannot be read are no evidence; nothing is raised for them.
        """

    def read(self, listing: Listing, data: DataConfig, name: str) -> Dataset:
        """Read all of it.

        Args:
            listing: The files below the root.
            data: What the configuration says of the data.
            name: Name of the data set.

        Raises:
            AnnotationError: An annotation file is absent or malformed as a whole.
            DataError: A folder or setting that ``data`` names is not there.
        """
