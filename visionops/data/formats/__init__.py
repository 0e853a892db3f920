"""Read labelled data sets in any supported format, and return a `Dataset`.

Each format has a module with the two functions of `Reader`: ``detect`` returns whether a folder has the format, and
``read`` reads it. `READERS` is the only place that lists these modules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from visionops.data.dataset import Dataset
from visionops.data.fast_json import paused_gc
from visionops.data.findings import counted
from visionops.data.formats import (
    coco,
    csv_boxes,
    cvat,
    fiftyone,
    folders,
    imagefolder,
    label_studio,
    labelme,
    mvtec,
    table,
    via,
    vision,
    voc,
    yolo,
)
from visionops.data.formats.assembly import fold_name
from visionops.data.formats.foreign import find_foreign
from visionops.data.formats.protocol import Evidence, Reader, Strength
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig, Format
from visionops.errors import AnnotationError, DataError, one_line
from visionops.suggestions import suggest_name

__all__ = ["READERS", "Recognition", "keep_categories", "read_dataset", "recognize"]

READERS: dict[Format, Reader] = {
    Format.VISION: vision,
    Format.COCO: coco,
    Format.YOLO: yolo,
    Format.VOC: voc,
    Format.CVAT: cvat,
    Format.LABELME: labelme,
    Format.VIA: via,
    Format.LABEL_STUDIO: label_studio,
    Format.FIFTYONE: fiftyone,
    Format.CSV: csv_boxes,
    Format.TABLE: table,
    Format.FOLDERS: folders,
    Format.MVTEC: mvtec,
    Format.IMAGEFOLDER: imagefolder,
}
"""The reader of each format. Their order does not matter: it is an error if two formats fit equally well."""


_ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")

_WITHOUT_A_MARK = (Format.FOLDERS, Format.TABLE)
"""Formats without a typical file: images in any folders, or beside any table, can look like them."""


class Recognition(NamedTuple):
    """Format of a folder, and the evidence for it."""

    format: Format
    evidence: Evidence


def recognize(listing: Listing, data: DataConfig) -> Recognition:
    """Find the format of a folder.

    Args:
        data: With ``format: auto`` all readers are tried. The other settings of ``data`` exclude some formats.

    Raises:
        AnnotationError: No format fits; several fit equally well; or the labels are of a format that is not supported,
            and at most class folders or a table would fit.
    """
    found = _candidates(listing, data)
    best = max((evidence.strength for evidence in found.values()), default=None)
    first = [Recognition(format_, evidence) for format_, evidence in found.items() if evidence.strength is best]
    chosen = data.format is not Format.AUTO or data.table is not None or bool(data.labels)
    if not chosen and all(recognition.format in _WITHOUT_A_MARK for recognition in first):
        _refuse_foreign(listing, first)
    if len(first) == 1:
        return first[0]
    if not first:
        kinds = ", ".join(f"{len(names)} x {suffix or 'no suffix'}" for suffix, names in _by_count(listing)[:5])
        raise AnnotationError(
            f"{listing.root}: no labels that any reader knows ({counted(len(listing.files), 'file')}: "
            f"{kinds or 'none'}); {_advice(listing)}"
        )
    choices = "; ".join(f"{f.value} ({e.summary}: {', '.join(e.reasons[:2])})" for f, e in first)
    raise AnnotationError(f"{listing.root}: may be read in {len(first)} ways: {choices}; set data.format to one")


def _refuse_foreign(listing: Listing, first: list[Recognition]) -> None:
    foreign = find_foreign(listing, masks=not first)
    if foreign is not None:
        rather = f"; or set data.format: {first[0].format.value} to read {first[0].evidence.summary}" if first else ""
        raise AnnotationError(
            f"{listing.path(foreign.file)}: this is {foreign.what}, which is not read; {foreign.fix}{rather}"
        )


def _advice(listing: Listing) -> str:
    archives = [name for suffix in _ARCHIVE_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    if archives and not listing.images:
        return f"unpack {archives[0]}, or set data.source.path to it"
    if listing.files and len(listing.images) == len(listing.files):
        return "add the labels, or sort the images into a folder for each class"
    return "set data.format, and data.source.path to the folder that holds images and labels"


def _by_count(listing: Listing) -> list[tuple[str, list[str]]]:
    return sorted(listing.by_suffix.items(), key=lambda item: (-len(item[1]), item[0]))


def _candidates(listing: Listing, data: DataConfig) -> dict[Format, Evidence]:
    found = {}
    for format_, reader in READERS.items():
        if data.format in (Format.AUTO, format_) and (evidence := reader.detect(listing, data)):
            found[format_] = evidence
    return found


@paused_gc()
def read_dataset(
    root: Path,
    data: DataConfig,
    name: str,
    fit: Callable[[Dataset, Format], Dataset] | None = None,
    known: tuple[Listing, Format] | None = None,
) -> Dataset:
    """Read the images and labels below ``root``.

    Image sizes come from the annotation files, and are 0 if these contain none. YOLO labels never contain sizes, so
    for YOLO they come from the image headers. No image is decoded or hashed, except to compare an image with a
    possible mask. Content that a `Dataset` cannot represent becomes a finding.

    Args:
        root: A folder on this machine, as `visionops.data.sources.fetch` returns it.
        name: Name of the data set.
        fit: Function that checks and completes the data set for its format, such as `TaskSpec.fit_dataset`.
        known: The files below ``root`` and their format, if `recognize` has found them already.

    Raises:
        AnnotationError: An annotation file is missing or cannot be parsed, or the format is ambiguous.
        DataError: The folder, a product or a category does not exist.
    """
    root = root.absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.source.path to the folder of the data set")
    if one_line(str(root)) != str(root):
        raise DataError(f"{root}: the folder's name has a control character or is no Unicode; rename the folder")
    listing, format_, notes = (*known, []) if known else _listed(root, data)
    dataset = READERS[format_].read(listing, data, name)
    if not dataset.num_images and not dataset.findings:
        raise DataError(f"{root}: holds no images; check data.source.path and data.format ({format_.value})")
    if fit is not None:
        dataset = fit(dataset, format_)
    dataset = dataclasses.replace(dataset, notes=(*notes, *dataset.notes, *data.notes), white_level=data.white_level)
    return dataset if data.categories is None else keep_categories(dataset, data.categories)


def _listed(root: Path, data: DataConfig) -> tuple[Listing, Format, list[str]]:
    """Return the files, the format to read, and a note if it differs from ``data.format``."""
    listing = Listing(root)
    if data.format is Format.AUTO:
        return listing, recognize(listing, data).format, []
    if READERS[data.format].detect(listing, data) is not None:
        return listing, data.format, []
    others = _candidates(listing, DataConfig(source=data.source))
    sure = [(format_, evidence) for format_, evidence in others.items() if evidence.strength is Strength.SURE]
    if len(sure) != 1:
        return listing, data.format, []
    format_, evidence = sure[0]
    note = f"data.format says {data.format.value}, but the folder is {evidence.summary} ({evidence.reasons[0]})"
    return listing, format_, [f"{note}: read as {format_.value}."]


def keep_categories(dataset: Dataset, categories: tuple[str, ...]) -> Dataset:
    """Return the data set with all images and only the boxes of these classes, in their order in the data set.

    Case and spaces in names make no difference (`fold_name`).

    Raises:
        DataError: A category is not a class of the data set.
    """
    known = {fold_name(name): i for i, name in enumerate(dataset.class_names)}
    for category in categories:
        if fold_name(category) not in known:
            fix = suggest_name(category, dataset.class_names)
            raise DataError(f"data.categories: the data set has no class {category!r}; {fix}")
    return dataset.select_classes(sorted({known[fold_name(category)] for category in categories}))
