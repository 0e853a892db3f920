"""Make a small labelled test split for the colour-cell detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.helpers.bundles import CELL, CLASSES, encode, picture
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.settings import DataConfig, SampleSource
from visionops.evaluation.settings import EvaluationPlan

Cell = tuple[str, int, int]


@pytest.fixture
def scoring() -> EvaluationPlan:
    return Config(name="cells", data=DataConfig(source=SampleSource(kind="sample"))).scoring


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Write images of ``shown`` cells, labelled with ``labelled`` ones (the same when None)."""

    def make(
        shown: Sequence[Sequence[Cell]],
        labelled: Sequence[Sequence[Cell]] | None = None,
        split: str = "test",
        classes: Sequence[str] = CLASSES,
    ) -> Dataset:
        boxes: dict[str, list[float]] = {name: [] for name in ("image", "class_id", "x1", "y1", "x2", "y2")}
        paths = []
        for row, cells in enumerate(shown):
            path = tmp_path / f"{row:03d}.png"
            path.write_bytes(encode(picture(cells)))
            paths.append(str(path))
            for colour, x, y in (labelled or shown)[row]:
                values = (row, list(classes).index(colour), x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL)
                for name, value in zip(boxes, values, strict=True):
                    boxes[name].append(value)
        n = len(shown)
        images = {
            "key": [Path(p).name for p in paths],
            "path": paths,
            "sha256": [f"{i:064x}" for i in range(n)],
            "width": [128] * n,
            "height": [128] * n,
            "split": [split] * n,
        }
        return Dataset.from_columns("cells", classes, images, boxes)

    return make
