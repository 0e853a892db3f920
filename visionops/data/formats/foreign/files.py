"""Share the result type and the file sampling of all finders of foreign labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.listing import Listing, suffix_of

__all__ = [
    "COCO_OR_YOLO",
    "HEAD_BYTES",
    "LINE_SUFFIXES",
    "UnsupportedLabels",
    "are_numbers",
    "head_lines",
    "is_image",
    "sample",
]

COCO_OR_YOLO = "export as COCO or YOLO"
"""Fix for most tools."""
LINE_SUFFIXES = (".jsonl", ".ndjson", ".manifest", ".jsonlines")
"""Lower-case suffixes of files of JSON lines."""
HEAD_BYTES = 1 << 18
"""Maximum number of bytes of a text to inspect."""
_SAMPLED = 12
_LINES = 20


class UnsupportedLabels(NamedTuple):
    """Labels that no reader supports."""

    file: str
    what: str
    """Description for people: "a manifest of SageMaker Ground Truth"."""
    fix: str
    """Fix, as the end of a message."""


def sample(listing: Listing, names: Sequence[str]) -> list[str]:
    """Return at most 24 of the files: some from the whole range, and the largest."""
    largest = sorted(names, key=lambda name: (-listing.files[name].num_bytes, name))[:_SAMPLED]
    return list(dict.fromkeys([*names[:: max(1, len(names) // _SAMPLED)][:_SAMPLED], *largest]))


def head_lines(listing: Listing, name: str, most: int = _LINES) -> list[str]:
    """Return the first lines of a text, at most 256 KiB; an empty list if it is not text."""
    try:
        with listing.path(name).open("rb") as stream:
            data = stream.read(HEAD_BYTES)
        text = data.decode("utf-8-sig", errors="strict" if len(data) < HEAD_BYTES else "ignore")
    except (OSError, ValueError):
        return []
    lines = text.split("\n")
    return [line.rstrip("\r") for line in lines[: -1 if len(data) == HEAD_BYTES and len(lines) > 1 else None][:most]]


def are_numbers(parts: Sequence[str]) -> bool:
    """Return whether there are texts, and all of them are numbers other than NaN."""
    try:
        return bool(parts) and not any(math.isnan(float(part)) for part in parts)
    except ValueError:
        return False


def is_image(text: str) -> bool:
    """Return whether a text ends like the name of an image."""
    return suffix_of(text.strip().replace("\\", "/")) in IMAGE_SUFFIXES
