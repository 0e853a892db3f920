"""Recognize tables of shapes other than boxes, and files that hold both images and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.formats.cells import head_rows
from visionops.data.formats.foreign.files import COCO_OR_YOLO, UnsupportedLabels, are_numbers, is_image, sample
from visionops.data.listing import Listing

__all__ = ["find_records", "find_tables"]

_SPREADSHEETS = (".xls", ".xlsb", ".ods", ".numbers")


def find_tables(listing: Listing) -> UnsupportedLabels | None:
    """Find a table of shapes, an export of another tool as a table, or a table of another kind."""
    for name in sample(listing, listing.by_suffix.get(".csv", ())):
        rows = head_rows(listing.path(name), ",")
        header = set(rows[0][1]) if rows else set()
        if {"Labeled Data", "Label"} <= header:
            return UnsupportedLabels(name, "a CSV of Labelbox", "convert it to COCO")
        if {"annotation_id", "annotator", "lead_time"} <= header:
            return UnsupportedLabels(name, "a CSV of Label Studio", "export as JSON, COCO or YOLO")
        what = _shapes_in([cells for _, cells in rows])
        if what:
            return UnsupportedLabels(name, f"a table of {what}", "convert it to COCO, or to a row a box")
    for suffix in _SPREADSHEETS:
        if names := listing.by_suffix.get(suffix):
            return UnsupportedLabels(names[0], f"a spreadsheet of the kind {suffix}", "save it as .xlsx or CSV")
    for name in sample(listing, listing.by_suffix.get(".parquet", ())):
        if _holds_images(listing, name):
            return UnsupportedLabels(
                name, "Parquet that holds the images themselves", "write them out as files with metadata"
            )
    return None


_SHAPE_COLUMNS = (
    (frozenset({"encodedpixels", "encodedpixel", "rle", "rlemask", "maskrle", "encodedmask"}), "run-length masks"),
    (frozenset({"polygon", "polygons", "segmentation", "vertices", "contour", "contours", "points"}), "polygons"),
    (frozenset({"predictionstring"}), "predictions of Kaggle, all boxes of an image in one cell"),
)
"""Maps column names, in lower case, letters and digits only, to the content of a table with one of them."""


def _shapes_in(rows: Sequence[Sequence[str]]) -> str:
    """Return which shapes other than boxes a table describes; "" for none."""
    names = {re.sub("[^a-z0-9]", "", cell.casefold()) for cell in rows[0]} if rows else set()
    for known, what in _SHAPE_COLUMNS:
        if not known.isdisjoint(names):
            return what
    if {"x", "y"} <= names:
        return "points"
    if rows and all(len(row) == 6 and is_image(row[3]) and are_numbers([*row[1:3], *row[4:]]) for row in rows):
        return "points of makesense.ai"
    if rows and all(len(row) == 2 and is_image(row[0]) and re.fullmatch(r"\[.*\]", row[1]) for row in rows):
        return "lists of classes of whole images, as makesense.ai writes them"
    return ""


def _holds_images(listing: Listing, name: str) -> bool:
    try:
        schema = pq.read_schema(listing.path(name))
    except (pa.ArrowException, OSError, ValueError):
        return False
    kinds = [field.type for field in schema]
    structs = [kind for kind in kinds if pa.types.is_struct(kind)]
    inner = [kind.field(i).type for kind in structs for i in range(kind.num_fields)]
    return any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in (*kinds, *inner))


_RECORDS = (
    (re.compile(r"\.tfrec(?:ord)?s?(?:$|[-_.])|\.record$", re.IGNORECASE), "TFRecord"),
    (re.compile(r"\.rec$", re.IGNORECASE), "RecordIO of MXNet"),
    (re.compile(r"\.(?:json|jsonl|ndjson|xml|csv|tsv|txt|manifest)\.(?:gz|bz2|xz|zst)$", re.IGNORECASE), ""),
    (re.compile(r"\.mdb$", re.IGNORECASE), "LMDB"),
)
"""Patterns for files that hold both images and labels."""


def find_records(listing: Listing) -> UnsupportedLabels | None:
    """Find a file that holds both images and labels, or a packed file."""
    for pattern, what in _RECORDS:
        name = next((name for name in listing.files if pattern.search(name.rpartition("/")[2])), None)
        if name and not what:
            return UnsupportedLabels(name, "a packed file, perhaps of labels", "unpack it")
        if name:
            return UnsupportedLabels(name, f"{what} (images and labels in one file)", COCO_OR_YOLO)
    return None
