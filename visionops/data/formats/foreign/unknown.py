"""Recognize files that describe the images in an unknown format, by their names or because they name images."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import counted
from visionops.data.formats.beside import find_masks
from visionops.data.formats.foreign.files import HEAD_BYTES, LINE_SUFFIXES, UnsupportedLabels, head_lines, sample
from visionops.data.formats.mask_names import is_kind_of_images
from visionops.data.formats.rules import list_names
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.errors import AnnotationError

__all__ = ["find_kinds", "find_lists", "find_masks_only", "find_mentions", "find_unknown"]

_TAIL_OF_LABELS = (".json", ".xml", ".txt", ".csv")


def find_unknown(listing: Listing) -> UnsupportedLabels | None:
    """Find one file per image for most of the images; such files describe the images in some way."""
    if not any(suffix in listing.by_suffix for suffix in _TAIL_OF_LABELS):
        return None
    images = {stem_of(name).rpartition("/")[2]: name for name in listing.images}
    for suffix in _TAIL_OF_LABELS:
        own: dict[str, str] = {}
        for name in listing.by_suffix.get(suffix, ()):
            stem = stem_of(name).rpartition("/")[2]
            own.setdefault(stem_of(stem) if suffix_of(stem) in IMAGE_SUFFIXES else stem, name)
        shared = [stem for stem in own if stem in images]
        if shared and 2 * len(shared) >= len(images):
            what = f"one of {counted(len(shared), 'file')} with the names of images, in a format that is not known"
            return UnsupportedLabels(own[shared[0]], what, "export the labels as COCO, YOLO or Pascal VOC")
    return None


_REGIONS = re.compile(
    r"bbox|bound|box(?:es)?\b|polygon|segmentation|points|coords|coordinates|rectangle|\bxmin|\bx1\b|annotations|objects",
    re.IGNORECASE,
)
"""Words that only files about places in images contain."""
_QUOTED = re.compile(r"[\"']([^\"'<>\r\n]{1,300})(?=[\"'])")
_TEXT_SUFFIXES = (".json", *LINE_SUFFIXES, ".xml", ".txt")


def find_mentions(listing: Listing) -> UnsupportedLabels | None:
    """Find a text that names images and describes places in them, or a Parquet file with such columns."""
    texts = [name for suffix in _TEXT_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    tails = {name.rpartition("/")[2] for name in listing.images} if texts else set()
    for name in sample(listing, texts):
        text = "\n".join(head_lines(listing, name, HEAD_BYTES))
        if not text.lstrip().startswith(("{", "[", "<")):
            continue  # a text for people
        words = (re.split(r"[/\\]", word)[-1] for word in _QUOTED.findall(text))
        named = [unquote(word) for word in words if suffix_of(word) in IMAGE_SUFFIXES]
        if named and _REGIONS.search(text) and 2 * sum(word in tails for word in named) >= len(named):
            what = "a file of boxes or shapes, by the images it names, in a format that is not known"
            return UnsupportedLabels(name, what, "export the labels as COCO, YOLO or Pascal VOC")
    for name in sample(listing, listing.by_suffix.get(".parquet", ())):
        if any(map(_REGIONS.search, _columns(listing, name))):
            return UnsupportedLabels(
                name, "Parquet with columns of boxes or shapes that are not known", "write a row a box"
            )
    return None


def _columns(listing: Listing, name: str) -> list[str]:
    try:
        return list(pq.read_schema(listing.path(name)).names)
    except (pa.ArrowException, OSError, ValueError):
        return []


def find_lists(listing: Listing) -> UnsupportedLabels | None:
    """Find a list of images and classes that is not a table."""
    tails = {name.rpartition("/")[2] for name in listing.images}
    for name in sample(listing, listing.by_suffix.get(".txt", ())):
        rows = [line.split() for line in head_lines(listing, name) if line.strip()]
        if rows and all(len(row) > 1 and row[0].rpartition("/")[2] in tails for row in rows):
            return UnsupportedLabels(
                name, "a list of images and what they are", "save it as CSV with a header image,class"
            )
    for name in sample(listing, listing.by_suffix.get(".json", ())):
        try:
            raw = listing.read_json(name, keep=True)
        except AnnotationError:
            continue
        if isinstance(raw, dict) and raw and all(key.rpartition("/")[2] in tails for key in raw):
            return UnsupportedLabels(name, "JSON by the names of images", "save it as CSV with a header image,class")
    return None


def find_masks_only(listing: Listing) -> UnsupportedLabels | None:
    """Find masks for at least half of the photographs."""
    masks = find_masks(listing)
    if not masks or 2 * len(set(masks.values())) < len(listing.images) - len(masks):
        return None
    what = f"one of {counted(len(masks), 'mask')} that label pixels"
    return UnsupportedLabels(next(iter(masks)), what, "export boxes, as COCO or YOLO")


def find_kinds(listing: Listing) -> UnsupportedLabels | None:
    """Find a folder of images that is named after its content, beside others: probably photographs and masks."""
    beside: dict[str, set[str]] = {}
    for folder in {folder_of(name) for name in listing.images}:
        parts = folder.split("/") if folder else []
        for at, part in enumerate(parts):
            beside.setdefault("/".join(parts[:at]), set()).add(part)
    for above, names in sorted(beside.items()):
        kinds = sorted(filter(is_kind_of_images, names))
        if kinds and len(names) > 1:
            place = f"{above}/{kinds[0]}".removeprefix("/")
            what = f"one of {len(names)} folders of images ({list_names(sorted(names))}), called after what it holds"
            return UnsupportedLabels(place, what, "add labels, or set data.format: folders if they are classes")
    return None
