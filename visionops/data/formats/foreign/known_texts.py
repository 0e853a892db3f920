"""Recognize texts of tools and benchmarks that no reader supports, by the shape of their lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from visionops.data.formats.foreign.files import (
    COCO_OR_YOLO,
    UnsupportedLabels,
    are_numbers,
    head_lines,
    is_image,
    sample,
)
from visionops.data.listing import Listing, stem_of

__all__ = ["find_texts"]


def _is_kitti(lines: Sequence[str]) -> bool:
    rows = [line.split() for line in lines]
    return all(len(row) in (15, 16) and not are_numbers(row[:1]) and are_numbers(row[1:]) for row in rows)


def _is_label_tool(lines: Sequence[str]) -> bool:
    """Return whether the lines are a count, and then that many boxes with a class."""
    count, *boxes = [line.split() for line in lines]
    is_count = len(count) == 1 and count[0].isdigit() and boxes != []
    return is_count and all(len(box) == 5 and are_numbers(box[:4]) and not are_numbers(box[4:]) for box in boxes)


def _is_pixels(lines: Sequence[str]) -> bool:
    """Return whether the lines are corners of boxes in pixels, and the number of a class."""
    rows = [re.split(r"[\s,]+", line.strip()) for line in lines]
    if not all(len(row) == 5 and are_numbers(row) for row in rows):
        return False
    boxes = [[float(cell) for cell in row] for row in rows]
    return all(1 < x2 > x1 >= 0 and 1 < y2 > y1 >= 0 and number % 1 == 0 for x1, y1, x2, y2, number in boxes)


def _is_named(lines: Sequence[str]) -> bool:
    """Return whether lines are a class name, perhaps a confidence, and four numbers, as in OIDv4."""
    rows = [line.split() for line in lines]
    return all(len(row) >= 5 and are_numbers(row[-4:]) and not are_numbers(row[:1]) for row in rows)


def _is_visdrone(lines: Sequence[str]) -> bool:
    rows = [line.rstrip(",").split(",") for line in lines]
    return all(len(row) == 8 and are_numbers(row) for row in rows)


def _is_mot(lines: Sequence[str]) -> bool:
    rows = [line.split(",") for line in lines]
    return all(len(row) in (7, 9, 10) and are_numbers(row) for row in rows)


def _is_icdar(lines: Sequence[str]) -> bool:
    rows = [line.split(",") for line in lines]
    return all(len(row) >= 9 and are_numbers(row[:8]) for row in rows) and not all(are_numbers(row) for row in rows)


def _is_wider(lines: Sequence[str]) -> bool:
    """Return whether the lines are the path of an image, a count, and then that many boxes."""
    if len(lines) < 3 or not is_image(lines[0]) or not lines[1].strip().isdigit():
        return False
    box = lines[2].split()
    return len(box) >= 4 and are_numbers(box)


def _is_keras_yolo(lines: Sequence[str]) -> bool:
    """Return whether the lines are ``a.jpg x1,y1,x2,y2,class x1,y1,x2,y2,class``."""
    rows = [re.split(r"\s+(?=\d+(?:,\d+){4}(?:\s|$))", line.strip()) for line in lines]
    return any(len(row) > 1 for row in rows) and all(is_image(row[0]) for row in rows)


_TEXTS: tuple[tuple[Callable[[Sequence[str]], bool], str, str], ...] = (
    (_is_kitti, "a label file of KITTI", COCO_OR_YOLO),
    (_is_label_tool, "a label file of BBox-Label-Tool", COCO_OR_YOLO),
    (_is_visdrone, "a label file of VisDrone", "convert them to YOLO"),
    (_is_mot, "a MOT file of tracks (boxes of video frames)", "convert it to COCO"),
    (_is_icdar, "a label file of ICDAR (text in images)", "convert it to COCO"),
    (_is_wider, "WIDER FACE's list of boxes", "convert it to COCO"),
    (_is_keras_yolo, "a list of boxes of keras-yolo3", "export as COCO or YOLO"),
)


def find_texts(listing: Listing) -> UnsupportedLabels | None:
    """Find a text whose lines are boxes in the format of another tool."""
    texts = listing.by_suffix.get(".txt", ())
    stems = [stem_of(name).rpartition("/")[2] for name in listing.images] if texts else []
    for name in sample(listing, texts):
        lines = [line for line in head_lines(listing, name) if line.strip()]
        for test, what, fix in _TEXTS if lines else ():
            if test(lines):
                return UnsupportedLabels(name, what, fix)
        own = stem_of(name).rpartition("/")[2]
        if not lines or not any(stem.startswith(own) for stem in stems):
            continue
        if _is_pixels(lines):
            return UnsupportedLabels(
                name, "a label file of corners in pixels, as DeepPCB has it", "convert them to YOLO"
            )
        if _is_named(lines):
            return UnsupportedLabels(
                name, "a label file of class names and boxes", "convert it to YOLO, with classes as numbers"
            )
    return None
