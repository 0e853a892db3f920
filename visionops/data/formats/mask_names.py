"""Recognize mask folders and mask files by the words in their names; masks are pixels that mark objects.

Also recognize folders that are named after a kind of images, which is never a class.
"""

from __future__ import annotations

import functools
import re

__all__ = ["count_mask_folders", "is_kind_of_images", "is_mask_folder", "without_mask_mark"]

_FOLDERS = frozenset(
    {
        "groundtruth",
        "gt",
        "gts",
        "gtfine",
        "gtcoarse",
        "segmentationclass",
        "segmentationobject",
        "segmentationclassraw",
    }
)
"""Names of mask folders, in lower case and without separators."""
_WORDS = frozenset({"mask", "masks", "trimap", "trimaps", "segmentation", "segmentations", "panoptic"})
"""Words that mark a mask folder wherever they are in its name: ``train_masks``, ``panoptic_val2017``."""
_OF_LABELS = frozenset({"annotation", "annotations", "ann", "anndir", "anno", "annos", "label", "labels", "labelids"})
"""Names of folders with labels of any kind, which may be masks."""
_KINDS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "pngimages", "imgsfine", "leftimg8bit", "photos", "pictures"}
)
_PARTS = re.compile(r"[-_. ]+")
_MARK = re.compile(r"(?:[-_. ](?:masks?|labels?|gt|seg|segmentation|annotation|ground_?truth))+$")


def is_mask_folder(name: str) -> bool:
    """Return whether a folder with that name holds masks and no photographs."""
    words = _PARTS.split(name.casefold())
    joined = "".join(words)
    return joined in _FOLDERS or joined.endswith("annot") or not _WORDS.isdisjoint(words)


def is_kind_of_images(name: str) -> bool:
    """Return whether a folder is named after its content, such as ``images`` or ``gtFine``, not after a class."""
    joined = "".join(_PARTS.split(name.casefold()))
    return joined in _KINDS or joined in _FOLDERS or joined.endswith("annot")


@functools.lru_cache(maxsize=4096)
def count_mask_folders(path: str) -> int:
    """Count the folders in a path, as ``a/b``, that may hold masks by their names, including folders of any labels."""
    names = path.split("/") if path else []
    return sum(is_mask_folder(name) or "".join(_PARTS.split(name.casefold())) in _OF_LABELS for name in names)


def without_mask_mark(stem: str) -> str:
    """Return the last part of a lower-case stem without words that mark masks: ``a_mask`` -> ``a``."""
    return _MARK.sub("", stem)
