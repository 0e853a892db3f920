"""Find the data of an unpacked archive."""

from __future__ import annotations

from pathlib import Path

from visionops.data.files import IMAGE_SUFFIXES

__all__ = ["unwrap"]

# Folders that mean something to a reader: an archive with one of them at its top is not wrapped in a folder.
_LAYOUT_FOLDERS = frozenset(
    {"train", "val", "valid", "test", "inference", "images", "labels", "annotations", "jpegimages", "imagesets"}
)
_DESKTOP_FILES = frozenset({"thumbs.db", "desktop.ini"})


def unwrap(folder: Path) -> Path:
    """Return the folder below which the data of an unpacked archive lie: that inside of folders that hold only one.

    A folder that means something to a reader (``train``, ``images``) is no wrapping, nor is, below the first, one of
    nothing but images (a class) or of splits with ``_annotations.coco.json`` (a product).
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
