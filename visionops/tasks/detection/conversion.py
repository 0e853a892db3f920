"""Convert a data set for Ultralytics: the YOLO layout, and a picture of labelled images.

folder/
├── yolo/              data.yaml, links to images (tiles of large images are files), labels
└── label_audit.png    training images with their boxes
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from visionops.data.audit import write_label_audit
from visionops.data.dataset import Dataset, Split
from visionops.data.formats.yolo import DATA_FILE
from visionops.data.formats.yolo_export import write_yolo
from visionops.data.layout import link_layout
from visionops.data.tiles import cut_tiles
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset, Progress
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.workfolder import require_splits

__all__ = ["AUDIT_FILE", "convert_boxes", "link_yolo"]

AUDIT_FILE = "label_audit.png"
_YOLO = "yolo"
_TILES = "tiles"


def convert_boxes(dataset: Dataset, plan: ConversionPlan, folder: Path, progress: Progress) -> ConvertedDataset:
    """Write the train and val splits in YOLO layout, cut into tiles where the plan has tiles.

    Returns:
        The data set; training opens its val images one by one. With tiles, its facts have the number of images of each
        split (``images``), and of boxes of each class in train (``boxes``).

    Raises:
        TrainingError: A split has no images.
        DataError: An image is missing or cannot be read.
    """
    assert isinstance(plan.training, DetectionTraining)
    require_splits(dataset)
    # The trainer does not read other splits, and they need not be on this machine.
    shown, facts = dataset.select_split(Split.TRAIN, Split.VAL), {}
    if tiles := plan.training.tiles:

        def report(done: int, total: int) -> None:
            if done * 20 // total != (done - 1) * 20 // total:  # in twentieths
                progress(done, total, "images cut into tiles")

        shown = cut_tiles(shown, tiles, folder / _TILES, seed=plan.training.seed, progress=report)
        facts = _facts(shown)
    write_yolo(shown, folder / _YOLO)
    train = shown.select_split(Split.TRAIN)
    if train.num_images:
        write_label_audit(train, folder / AUDIT_FILE)
    if tiles:
        _take_in(folder / _TILES, folder / _YOLO / "images")
    needed = [
        path if split == Split.VAL else ""
        for path, split in zip(dataset.column("path"), dataset.column("split"), strict=True)
    ]
    return ConvertedDataset(dataset.replace_column("path", needed), plan, folder, facts)


def _facts(shown: Dataset) -> dict[str, Any]:
    _, class_ids, _ = shown.select_split(Split.TRAIN).box_arrays()
    return {
        "images": shown.split_counts(),
        "boxes": np.bincount(class_ids, minlength=len(shown.class_names)).tolist(),
    }


def _take_in(tiles: Path, images: Path) -> None:
    """Move the tiles to the place of links to them, because such links would break when the folder is moved."""
    prefix = f"{tiles}/"
    for link in images.rglob("*"):
        if link.is_symlink() and (tile := os.readlink(link)).startswith(prefix):  # noqa: PTH115 - as it was written
            Path(tile).replace(link)
    shutil.rmtree(tiles)


def link_yolo(converted: ConvertedDataset, folder: Path) -> Path:
    """Link a converted data set into a training's own folder, because Ultralytics writes beside labels and images.

    Returns:
        The path of ``data.yaml``.

    Raises:
        DataError: The converted data set, or an image that it refers to, is missing.
    """
    link_layout(converted.folder / _YOLO, folder)
    return folder / DATA_FILE
