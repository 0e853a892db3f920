"""Read the usual JPEG header in microseconds, where Pillow takes fifty; for data sets of many small images."""

from __future__ import annotations

from collections.abc import Iterator

from visionops.inference.image import ImageHeader
from visionops.inference.settings import DEFAULT_MAX_PIXELS

__all__ = ["read_simple_jpeg"]

_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive
_QUANTIZATION, _JFIF, _SCAN = 0xDB, 0xE0, 0xDA
_SKIPPED = frozenset({0xC4, 0xDD, 0xFE})  # Huffman tables, restart interval, comment
_JFIF_BYTES = 14
_MODES = {1: "L", 3: "RGB"}


def read_simple_jpeg(head: bytes) -> ImageHeader | None:
    """Read the header of an 8-bit grey or colour JPEG without EXIF, XMP, ICC profile or further images.

    The result equals that of `read_header`. Return None for every other file, and for one whose first scan starts
    behind ``head``; `read_header` then reads it and reports any error.

    Args:
        head: The first bytes of the file; a few KiB hold what is read.
    """
    header = None
    for marker, start, stop in _segments(head):
        if marker == _SCAN:
            return header
        if marker in _FRAMES:
            is_usual = header is None and (header := _frame(head[start:stop])) is not None
        elif marker == _QUANTIZATION:
            is_usual = _are_whole_tables(head, start, stop)
        else:
            is_usual = marker in _SKIPPED or (marker == _JFIF and stop - start >= _JFIF_BYTES)
        if not is_usual:
            return None
    return None


def _segments(head: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, first byte and end of each segment that is complete in ``head``, in order."""
    at, end = 2, len(head) if head.startswith(b"\xff\xd8\xff") else 0
    while at + 4 <= end and head[at] == 0xFF:
        stop = at + 2 + (head[at + 2] << 8 | head[at + 3])
        if not at + 4 <= stop <= end:
            return
        yield head[at + 1], at + 4, stop
        at = stop


def _frame(segment: bytes) -> ImageHeader | None:
    if len(segment) < 6 or segment[0] != 8:
        return None
    mode = _MODES.get(segment[5])
    height, width = segment[1] << 8 | segment[2], segment[3] << 8 | segment[4]
    if mode is None or len(segment) != 6 + 3 * segment[5] or not 0 < width * height <= DEFAULT_MAX_PIXELS:
        return None
    return ImageHeader("JPEG", mode, width, height, orientation=1, frames=1)


def _are_whole_tables(head: bytes, start: int, stop: int) -> bool:
    """Return whether a segment holds only quantization tables, because Pillow refuses others."""
    while start < stop:
        start += 65 if head[start] < 16 else 129
    return start == stop
