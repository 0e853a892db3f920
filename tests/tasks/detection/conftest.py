"""A small problem for detectors: red and blue plates on grey noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.training import Recorder, convert_and_train
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.inference.bundle import ModelBundle
from visionops.tasks.detection.spec import DetectionTask
from visionops.tasks.settings import TrainingPlan

SPLITS = ("train",) * 8 + ("val",) * 3 + ("test",) * 2
TRAINING = {
    "model": "yolov8n",
    "weights": "none",
    "image_size": 64,
    "epochs": 2,
    "batch": 4,
    "optimizer": "AdamW",
    "learning_rate": 0.002,
}


def plates(folder: Path, splits: tuple[str, ...] = SPLITS) -> Dataset:
    """Return one image for each split entry, of odd and different sizes, each with one plate; every fourth without."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths, rows, class_ids, corners = [], [], [], []
    for row in range(len(splits)):
        image = rng.integers(90, 140, (61 + row, 67, 3)).astype(np.uint8)
        if row % 4 != 3:
            class_id = row % 2
            x, y = rng.integers(4, 30, 2)
            image[y : y + 20, x : x + 24] = (20, 20, 230) if class_id == 0 else (230, 20, 20)
            rows.append(row)
            class_ids.append(class_id)
            corners.append((x, y, x + 24, y + 20))
        paths.append(folder / f"{row}.png")
        Image.fromarray(image).save(paths[-1])
    x1, y1, x2, y2 = np.array(corners, dtype=float).T
    return Dataset.from_columns(
        "plates",
        ["blue", "red"],
        {
            "key": [p.name for p in paths],
            "path": [str(p) for p in paths],
            "sha256": [p.name for p in paths],
            "split": list(splits),
        },
        {"image": rows, "class_id": class_ids, "x1": x1, "y1": y1, "x2": x2, "y2": y2},
    )


def plates_plan(**training: Any) -> TrainingPlan:
    return Config.model_validate(
        {
            "name": "plates",
            "data": {"source": {"kind": "folder", "path": "unused"}},
            "training": {**TRAINING, **training},
            "serving": {"confidence": 0.3, "iou": 0.6},
        }
    ).training_plan


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return plates(tmp_path_factory.mktemp("plates"))


@pytest.fixture(scope="session")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelBundle, Recorder, Path]:
    """Return a bundle, the log of its training, and its work folder."""
    work = tmp_path_factory.mktemp("work")
    recorder = Recorder()
    plan = plates_plan(augmentation={"mosaic": 0.25, "degrees": 3}, extra={"nbs": 4, "cos_lr": True})
    return convert_and_train(DetectionTask().train, dataset, plan, work, recorder), recorder, work
