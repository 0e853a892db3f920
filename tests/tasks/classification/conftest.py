"""A small problem for classifiers: a bright shape on noise, with a colour and a position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionops.config import Config
from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.layers import Attribute
from visionops.inference.image import decode_image
from visionops.tasks.settings import TrainingPlan

COLOUR = Attribute("colour", ("red", "green", "blue"))
SIDE = Attribute("side", ("left", "right"), "right")
SPLITS = ("train",) * 24 + ("val",) * 12 + ("test",) * 6
_PAINT = ((220, 30, 30), (30, 200, 30), (40, 40, 230))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def plates(folder: Path, attributes: tuple[Attribute, ...] = (SIDE,), splits: tuple[str, ...] = SPLITS) -> Dataset:
    """Return one image for each split entry, with one plate each; colours and sides in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    paths = []
    labels: dict[str, list[int]] = {"colour": [], "side": []}
    for row in range(len(splits)):
        colour, side = row % 3, row // 3 % 2
        image = random.integers(90, 140, (61, 67, 3)).astype(np.uint8)
        x, y = int(random.integers(4, 12)) + 32 * side, int(random.integers(4, 40))
        image[y : y + 18, x : x + 18] = _PAINT[colour]
        paths.append(folder / f"{row}.png")
        Image.fromarray(image).save(paths[-1])
        labels["colour"].append(colour)
        labels["side"].append(side)
    images = {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": list(splits)}
    return hash_images(Dataset.from_columns("plates", (), images, {}, attributes=attributes, labels=labels))


def labels_plan(task: str = "classification", **training: Any) -> TrainingPlan:
    return Config.model_validate(
        {
            "name": "plates",
            "task": task,
            "data": {"source": {"kind": "folder", "path": "unused"}, "format": "table"},
            "training": training,
        }
    ).training_plan


def scratch(**training: Any) -> dict[str, Any]:
    """Return a small CNN that learns the plates in a few epochs."""
    small = {"model": "cnn", "learning": "scratch", "image_size": 32, "filters": 8, "epochs": 3, "batch": 8}
    return {**small, "learning_rate": 0.01, **training}


def pixels(dataset: Dataset, split: Split) -> list[np.ndarray]:
    return [decode_image(path.read_bytes()) for path in dataset.select_split(split).paths()]
