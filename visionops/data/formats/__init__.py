"""Labelled data sets as people have them, read into the one form we use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from visionops.config import DataConfig, Format
from visionops.data.dataset import BOXES_SCHEMA, Dataset
from visionops.data.formats.coco import read_coco, read_vision
from visionops.data.formats.folders import read_folders
from visionops.data.formats.rules import suggest
from visionops.data.formats.table import read_table
from visionops.data.formats.voc import read_voc
from visionops.data.formats.yolo import read_yolo
from visionops.errors import DataError
from visionops.inference.bundle import Task

__all__ = ["keep_categories", "read_dataset"]


def read_dataset(root: Path, data: DataConfig, name: str, task: Task | None = None) -> Dataset:
    """Read the images and labels below ``root``.

    Sizes are as the annotation files declare them (0: not declared; YOLO declares none, so its come from the headers).
    Nothing is decoded or hashed. What cannot be represented becomes a finding of the data set.

    Args:
        root: A folder of this machine, as `visionops.data.sources.fetch` gives it.
        name: Of the data set.
        task: What it is to be learned for; where given, a data set that does not fit is refused.

    Raises:
        AnnotationError: An annotation file is absent or malformed as a whole.
        DataError: The folder, a product or a category is not there.
    """
    root = root.absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.source.path to the folder of the data set")
    match data.format:
        case Format.VISION:
            dataset = read_vision(root, name, data.products)
        case Format.COCO:
            dataset = read_coco(root, name, data.annotations)
        case Format.YOLO:
            dataset = read_yolo(root, name)
        case Format.VOC:
            dataset = read_voc(root, name)
        case Format.FOLDERS:
            dataset = read_folders(root, name, data.labels)
        case Format.TABLE:
            dataset = read_table(root, name, data)
    if not dataset.num_images and not dataset.findings:
        raise DataError(f"{root}: holds no images; check data.source.path and data.format ({data.format.value})")
    if task is Task.CLASSIFICATION and len(dataset.attributes) != 1:
        names = ", ".join(attribute.name for attribute in dataset.attributes)
        raise DataError(
            f"data.labels: classification has one, and the table {names}; name one, or set task: attributes"
        )
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *data.notes))
    return dataset if data.categories is None else keep_categories(dataset, data.categories)


def keep_categories(dataset: Dataset, categories: tuple[str, ...]) -> Dataset:
    """Drop the boxes of all other classes; images stay. Names match whatever their case; the order stays.

    Raises:
        DataError: A category is not a class of the data set.
    """
    known = {name.casefold(): i for i, name in enumerate(dataset.class_names)}
    for category in categories:
        if category.strip().casefold() not in known:
            mend = suggest(category, dataset.class_names)
            raise DataError(f"data.categories: the data set has no class {category!r}; {mend}")
    kept = sorted({known[category.strip().casefold()] for category in categories})
    new_id = np.full(len(dataset.class_names), -1, dtype=np.int32)
    new_id[kept] = np.arange(len(kept))
    mapped = new_id[dataset.boxes.column("class_id").to_numpy()] if dataset.num_boxes else new_id[:0]
    keep = np.flatnonzero(mapped >= 0)
    column = BOXES_SCHEMA.get_field_index("class_id")
    boxes = dataset.boxes.take(pa.array(keep)).set_column(
        column, BOXES_SCHEMA.field("class_id"), pa.array(mapped[keep], type=pa.int32())
    )
    return dataclasses.replace(dataset, class_names=tuple(dataset.class_names[i] for i in kept), boxes=boxes)
