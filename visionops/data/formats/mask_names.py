"""The words by which folders and files say that they hold masks: pixels that mark where something is.

And those by which folders say that they hold images of one kind or another, which no class is called.
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
"""Names of folders, in lower case and without what parts their words."""
_WORDS = frozenset({"mask", "masks", "trimap", "trimaps", "segmentation", "segmentations", "panoptic"})
"""Words of which one in the name of a folder is enough: ``train_masks``, ``panoptic_val2017``."""
_OF_LABELS = frozenset({"annotation", "annotations", "ann", "anndir", "anno", "annos", "label", "labels", "labelids"})
"""Names of folders of labels of any kind, which may be masks."""
_KINDS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "pngimages", "imgsfine", "leftimg8bit", "photos", "pictures"}
)
_PARTS = re.compile(r"[-_. ]+")
_MARK = re.compile(r"(?:[-_. ](?:masks?|labels?|gt|seg|segmentation|annotation|ground_?truth))+$")


def is_mask_folder(name: str) -> bool:
    """Whether a folder of that name holds masks and no photographs."""
    words = _PARTS.split(name.casefold())
    joined = "".join(words)
    return joined in _FOLDERS or joined.endswith("annot") or not _WORDS.isdisjoint(words)


def is_kind_of_images(name: str) -> bool:
    """Whether a folder is called after what it holds, such as ``images`` or ``gtFine``, not after a class."""
    joined = "".join(_PARTS.split(name.casefold()))
    return joined in _KINDS or joined in _FOLDERS or joined.endswith("annot")


@functools.lru_cache(maxsize=4096)
def count_mask_folders(path: str) -> int:
    """Count the folders of a path, as ``a/b``, that may hold masks by their names, be they for labels of any kind."""
    names = path.split("/") if path else []
    return sum(is_mask_folder(name) or "".join(_PARTS.split(name.casefold())) in _OF_LABELS for name in names)


def without_mask_mark(stem: str) -> str:
    """Return the last part of a lower-case stem without the words that mark masks: ``a_mask`` -> ``a``."""
    return _MARK.sub("", stem)
