"""Define findings: problems of a data set, with code, severity, place and fix."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from visionops.errors import one_line

__all__ = ["DEFAULT_SEVERITY", "Code", "Finding", "Severity", "counted"]


class Severity(enum.StrEnum):
    """Severity of a finding. An error stops the run; a warning is listed and handled; an info is only listed."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(enum.StrEnum):
    """Every kind of finding."""

    # the files of images
    MISSING_IMAGE = "missing_image"
    ORPHAN_IMAGE = "orphan_image"
    MASK_IMAGE = "mask_image"
    UNREADABLE_IMAGE = "unreadable_image"
    SYSTEM_FILE = "system_file"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_FORMAT = "unsupported_format"
    WRONG_EXTENSION = "wrong_extension"
    CMYK = "cmyk"
    PALETTE = "palette"
    SIXTEEN_BIT = "sixteen_bit"
    WHITE_LEVEL = "white_level"
    EXIF_ROTATED = "exif_rotated"
    ANIMATED = "animated"
    SIZE_MISMATCH = "size_mismatch"
    # annotations
    UNSAFE_NAME = "unsafe_name"
    AMBIGUOUS_NAME = "ambiguous_name"
    DUPLICATE_NAME = "duplicate_name"
    DUPLICATE_ID = "duplicate_id"
    UNKNOWN_IMAGE = "unknown_image"
    UNKNOWN_CATEGORY = "unknown_category"
    BAD_BOX = "bad_box"
    DEGENERATE_BOX = "degenerate_box"
    OUT_OF_BOUNDS_BOX = "out_of_bounds_box"
    DUPLICATE_BOX = "duplicate_box"
    CROWD_ONLY = "crowd_only"
    SUSPECT_COORDINATES = "suspect_coordinates"
    # labels of whole images
    EMPTY_CLASS = "empty_class"
    UNKNOWN_LABEL = "unknown_label"
    MISSING_LABEL = "missing_label"
    DUPLICATE_ROW = "duplicate_row"
    CONTRADICTING_ROW = "contradicting_row"
    CONFLICTING_LABEL = "conflicting_label"
    CORRECTED_LABEL = "corrected_label"
    REJECTED_IMAGE = "rejected_image"
    SINGLE_VALUE = "single_value"
    SINGLE_IMAGE = "single_image"
    # the collection
    DUPLICATE_IMAGE = "duplicate_image"
    NEAR_DUPLICATE = "near_duplicate"
    LEAK = "leak"
    NEAR_LEAK = "near_leak"
    MISSING_SPLIT = "missing_split"
    CHANGED_SPLIT = "changed_split"
    EMPTY_SPLIT = "empty_split"
    SPLIT_WITHOUT_BOXES = "split_without_boxes"
    TOO_FEW_IMAGES = "too_few_images"
    TOO_FEW_INSTANCES = "too_few_instances"
    CLASS_IMBALANCE = "class_imbalance"
    # custom validators
    OWN_CHECK = "own_check"


DEFAULT_SEVERITY: dict[Code, Severity] = {
    Code.MISSING_IMAGE: Severity.ERROR,
    Code.ORPHAN_IMAGE: Severity.WARNING,
    Code.MASK_IMAGE: Severity.WARNING,
    Code.UNREADABLE_IMAGE: Severity.WARNING,
    Code.SYSTEM_FILE: Severity.INFO,
    Code.EMPTY_FILE: Severity.ERROR,
    Code.NOT_AN_IMAGE: Severity.ERROR,
    Code.TRUNCATED: Severity.ERROR,
    Code.TOO_MANY_PIXELS: Severity.ERROR,
    Code.UNSUPPORTED_FORMAT: Severity.ERROR,
    Code.WRONG_EXTENSION: Severity.WARNING,
    Code.CMYK: Severity.WARNING,
    Code.PALETTE: Severity.WARNING,
    Code.SIXTEEN_BIT: Severity.WARNING,
    Code.WHITE_LEVEL: Severity.INFO,
    Code.EXIF_ROTATED: Severity.WARNING,
    Code.ANIMATED: Severity.WARNING,
    Code.SIZE_MISMATCH: Severity.WARNING,
    Code.UNSAFE_NAME: Severity.ERROR,
    Code.AMBIGUOUS_NAME: Severity.ERROR,
    Code.DUPLICATE_NAME: Severity.ERROR,
    Code.DUPLICATE_ID: Severity.ERROR,
    Code.UNKNOWN_IMAGE: Severity.ERROR,
    Code.UNKNOWN_CATEGORY: Severity.ERROR,
    Code.BAD_BOX: Severity.ERROR,
    Code.DEGENERATE_BOX: Severity.ERROR,
    Code.OUT_OF_BOUNDS_BOX: Severity.WARNING,
    Code.DUPLICATE_BOX: Severity.WARNING,
    Code.CROWD_ONLY: Severity.WARNING,
    Code.SUSPECT_COORDINATES: Severity.ERROR,
    Code.EMPTY_CLASS: Severity.ERROR,
    Code.UNKNOWN_LABEL: Severity.ERROR,
    Code.MISSING_LABEL: Severity.INFO,
    Code.DUPLICATE_ROW: Severity.WARNING,
    Code.CONTRADICTING_ROW: Severity.ERROR,
    Code.CONFLICTING_LABEL: Severity.WARNING,
    Code.CORRECTED_LABEL: Severity.INFO,
    Code.REJECTED_IMAGE: Severity.INFO,
    Code.SINGLE_VALUE: Severity.ERROR,
    Code.SINGLE_IMAGE: Severity.ERROR,
    Code.DUPLICATE_IMAGE: Severity.WARNING,
    Code.NEAR_DUPLICATE: Severity.INFO,
    Code.LEAK: Severity.WARNING,
    Code.NEAR_LEAK: Severity.WARNING,
    Code.MISSING_SPLIT: Severity.WARNING,
    Code.CHANGED_SPLIT: Severity.WARNING,
    Code.EMPTY_SPLIT: Severity.ERROR,
    Code.SPLIT_WITHOUT_BOXES: Severity.ERROR,
    Code.TOO_FEW_IMAGES: Severity.ERROR,
    Code.TOO_FEW_INSTANCES: Severity.ERROR,
    Code.CLASS_IMBALANCE: Severity.WARNING,
    Code.OWN_CHECK: Severity.ERROR,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set.

    ``where`` is the place, such as a file. ``message`` says in one line what is wrong and how to fix it, without the
    place. ``images`` are the keys of the affected images.
    """

    code: Code
    severity: Severity
    where: str
    message: str
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("where", "message"):  # both may quote arbitrary names
            object.__setattr__(self, name, one_line(getattr(self, name)))

    @classmethod
    def of(cls, code: Code, where: str, message: str, images: tuple[str, ...] = ()) -> Finding:
        """Return a finding with the default severity of its code, which ``validation.severities`` may change later."""
        return cls(code, DEFAULT_SEVERITY[code], where, message, images)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Finding:
        """Return the finding from ``raw``, a dictionary that `dataclasses.asdict` created."""
        return cls(Code(raw["code"]), Severity(raw["severity"]), raw["where"], raw["message"], tuple(raw["images"]))


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as ``1 image`` or ``1,200 images``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
