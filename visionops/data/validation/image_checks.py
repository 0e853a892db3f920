"""Report findings of single images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Finding, counted
from visionops.data.validation.inspection import Inspection
from visionops.inference.image import ImageHeader, white_level
from visionops.inference.image_types import preferred_suffix, suffixes_of
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = ["check_images", "check_white"]


def check_images(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> Iterator[Finding]:
    """Report unusable images, and images with a special format or another size than in the labels."""
    keys, widths, heights = (dataset.column(c) for c in ("key", "width", "height"))
    known = {key for f in dataset.findings if f.code is Code.MISSING_IMAGE for key in f.images}
    for key, width, height, seen in zip(keys, widths, heights, inspections, strict=True):
        if seen.header is None:
            if seen.problem == Code.MISSING_IMAGE.value and key in known:
                continue  # the reader has reported it, with its place
            yield Finding.of(Code(seen.problem), key, seen.message, (key,))
            continue
        for code, message in _peculiarities(key, seen.header, white):
            yield Finding.of(code, key, message, (key,))
        if width and (width, height) != (seen.header.width, seen.header.height):
            yield Finding.of(Code.SIZE_MISMATCH, key, _size_message(width, height, seen.header), (key,))


def _peculiarities(key: str, header: ImageHeader, white: int) -> Iterator[tuple[Code, str]]:
    suffix = PurePosixPath(key).suffix.lower()
    usual = suffixes_of(header.format)
    if usual and suffix not in usual:
        wanted = preferred_suffix(header.format)
        yield Code.WRONG_EXTENSION, f"is {header.format} inside; read as such; rename it to *{wanted}"
    if header.mode == "CMYK":
        yield Code.CMYK, "is CMYK; converted to RGB by the decoder, without a colour profile"
    if header.mode in {"P", "PA"} and header.format != "GIF":
        yield Code.PALETTE, "has a colour palette; expanded to RGB by the decoder"
    if header.bits > 8:
        yield Code.SIXTEEN_BIT, f"has 16 bits per channel; scaled to 8 bits ({white} becomes 255) by the decoder"
    if header.orientation != 1:
        size = f"{header.width} x {header.height}"
        yield Code.EXIF_ROTATED, f"EXIF orientation {header.orientation}; turned upright to {size} by the decoder"
    if header.frames > 1:
        yield Code.ANIMATED, f"has {header.frames} frames; only the first is used"


def _size_message(width: int, height: int, header: ImageHeader) -> str:
    real = f"the labels say {width} x {height}, the file is {header.width} x {header.height}"
    if (height, width) == (header.width, header.height):
        return f"{real} once upright; the file counts: check that the boxes were not drawn on the unrotated picture"
    return f"{real}; the file counts, the boxes stay: check that they were not drawn on a resized copy"


def check_white(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> Iterator[Finding]:
    """Report the used range of 16-bit files if it is not the full range, or differs from most images."""
    deep = [row for row, seen in enumerate(inspections) if seen.header and seen.header.bits > 8]
    if not deep:
        return
    keys = dataset.column("key")
    brightest = max(deep, key=lambda row: inspections[row].peak)  # the first of several
    peak = inspections[brightest].peak
    count = f"{len(deep):,} of {counted(dataset.num_images, 'image')}"
    said = f"{count} are 16-bit files" if len(deep) != 1 else f"{count} is a 16-bit file"
    used = f"largest value {peak}"
    usual = white_level(sorted(inspections[row].peak for row in deep)[(len(deep) - 1) * 9 // 10])
    odd = usual < white_level(peak)
    if not odd and white == white_level(peak) == FULL_WHITE:
        return
    if odd:
        used += f" in {keys[brightest]}, while most use {usual.bit_length()} bits"
    elif white_level(peak) != FULL_WHITE:
        said += f" that use{'s' if len(deep) == 1 else ''} {white_level(peak).bit_length()} bits"
    message = f"{said} ({used}): scaled by {white}"
    if dataset.white_level is not None:
        message += ", as data.white_level says"
        if peak > white:
            message += "; brighter values are clipped"
    elif odd:
        message += "; set data.white_level if that image is an outlier"
    yield Finding.of(Code.WHITE_LEVEL, dataset.name, message, tuple(keys[row] for row in deep))
