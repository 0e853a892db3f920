"""Find the data in an unpacked archive."""

from __future__ import annotations

from pathlib import Path

from visionops.data.files import IMAGE_SUFFIXES

__all__ = ["unwrap"]

# Folders that readers know: an archive with one of them at its top has no wrapper folder.
_LAYOUT_FOLDERS = frozenset(
    {"train", "val", "valid", "test", "inference", "images", "labels", "annotations", "jpegimages", "imagesets"}
)
_DESKTOP_FILES = frozenset({"thumbs.db", "desktop.ini"})


def unwrap(folder: Path) -> Path:
    """Return the folder of the data in an unpacked archive, below any folders that hold only one folder.

    A folder that readers know (``train``, ``images``) is not a wrapper. Below the first level, neither is a folder with
    only images (a class), nor one of splits with ``_annotations.coco.json`` (a product).
    """
    top = folder
    while (inner := _only_folder(folder)) and (folder == top or _is_wrapped(inner)):
        folder = inner
    return folder


def _only_folder(folder: Path) -> Path | None:
    children = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.casefold() not in _DESKTOP_FILES]
    if len(children) != 1 or not children[0].is_dir() or children[0].name.casefold() in _LAYOUT_FOLDERS:
        return None
    return children[0]


def _is_wrapped(folder: Path) -> bool:
    if any(folder.glob("*/_annotations.coco.json")):
        return False
    return any(p.is_dir() or p.suffix.lower() not in IMAGE_SUFFIXES for p in folder.iterdir() if p.name[0] != ".")
